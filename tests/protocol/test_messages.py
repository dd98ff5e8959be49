"""Messages: one spelling each, one author each, and nothing that is changed passes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    BadSignature,
    MalformedMessage,
    MessageTooLarge,
    NotCanonical,
    ProtocolError,
)
from distrai.protocol.messages import (
    KINDS,
    MESSAGE_BYTES_MAX,
    OBJECTS_PER_PACKET_MAX,
    PACKET_BYTES_MAX,
    BodySignature,
    Digest,
    Envelope,
    Have,
    Key,
    ListOffer,
    ListRequest,
    Message,
    Packet,
    Proposal,
    Signed,
    Update,
    decode_body,
    decode_packet,
    encode_packet,
    open_envelope,
    short_name,
)
from distrai.protocol.primitives import Address, Hash, SignatureBytes
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from helpers.messages import DOMAIN, MESSAGES, Author, hashes, messages, named
from helpers.msgpack import spellings
from helpers.reference import keccak256

AUTHOR = Author(1)
PLACE: dict[str, Any] = {"run": 1, "round": 2, "previous_head": named("head"), "member": AUTHOR.member}
SIGNATURE = SignatureBytes(b"s" * 65)
EXAMPLES: dict[str, Message] = {
    "update": Update(
        **PLACE,
        version=1,
        base_round=1,
        base_state_root=named("state"),
        fragment=0,
        tau=0,
        inner_steps=300,
        tokens=70_000,
        codec="int8/1",
        blob_hash=named("blob"),
        blob_size=5_000_000_000,
        key_hash=named("key hash"),
        trace_root=bytes(32),
    ),
    "have": Have(**PLACE, updates=(named(1), named(2))),
    "key": Key(**PLACE, update=named("update"), key=named("key")),
    "proposal": Proposal(
        **PLACE, attempt=3, body=b"body", updates=(named(1),), haves=(named(2),), keys=(named(3), named(4))
    ),
    "signature": BodySignature(**PLACE, body_id=named("body"), attestation=SIGNATURE),
    "digest": Digest(**PLACE, salt=bytes(16), known=b"12345678" * 3),
    "list-request": ListRequest(**PLACE, updates_root=named("root")),
    "list-offer": ListOffer(**PLACE, updates_root=named("root"), blob_hash=named("blob"), blob_size=77),
}
# The first bytes of keccak over the whole envelope, signature included: a change here breaks every run.
FINGERPRINTS = {
    "update": "d1ecb90b748297f3",
    "have": "a7d6c53035ce16eb",
    "key": "b5a7d97e20fd392f",
    "proposal": "0fe27b63c886b133",
    "signature": "c0ef76096291b122",
    "digest": "228588c25524245c",
    "list-request": "ffbc8abbf174aff2",
    "list-offer": "5f104ca9d76857ae",
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def accept(raw: bytes, domain: Domain = DOMAIN) -> Signed:
    """What a peer takes as a message of AUTHOR, or the refusal."""
    signed = open_envelope(raw, domain, recover)
    if signed.signer != AUTHOR.address:
        raise BadSignature("not by the author")
    return signed


def enveloped(kind: str, body: bytes) -> bytes:
    """An envelope around any body, with AUTHOR's valid signature of it where that does not depend on its sense."""
    digest = Hash(keccak256(f"distrai/{kind}/1".encode() + body))
    return encode_canonical(Envelope(kind, body, AUTHOR.sign(digest)))


def changed(message: Message, **changes: Any) -> bytes:
    return encode_canonical(msgspec.structs.replace(message, **changes))


# What is right


def test_there_is_an_example_and_a_strategy_of_every_kind() -> None:
    assert set(EXAMPLES) == set(MESSAGES) == set(KINDS)
    assert all(message.kind == kind for kind, message in EXAMPLES.items())


@given(messages)
def test_every_message_reads_back(message: Message) -> None:
    sealed = AUTHOR.seal(message)
    signed = accept(sealed.raw)
    assert signed == sealed
    assert (signed.message, signed.signer, signed.raw) == (message, AUTHOR.address, sealed.raw)
    assert signed.id == message.identity(sealed.envelope.body)


@every_kind
def test_formats_never_change(kind: str) -> None:
    assert keccak256(AUTHOR.seal(EXAMPLES[kind]).raw).hex()[:16] == FINGERPRINTS[kind]


@every_kind
def test_what_names_a_message(kind: str) -> None:
    message = EXAMPLES[kind]
    body = encode_canonical(message)
    if kind == "update":
        assert message.digest(body, DOMAIN) == DOMAIN.digest(message.identity(body))
    else:
        assert message.identity(body) == keccak256(f"distrai/{kind}/1".encode() + body)
        assert message.digest(body, DOMAIN) == message.identity(body)


def test_identities_differ_between_kinds_and_fields() -> None:
    names = {message.identity(encode_canonical(message)) for message in EXAMPLES.values()}
    names |= {
        msgspec.structs.replace(message, round=3).identity(changed(message, round=3))
        for message in EXAMPLES.values()
    }
    assert len(names) == 2 * len(EXAMPLES)


def test_short_names_depend_on_the_salt() -> None:
    assert short_name(named("x"), b"salt") == keccak256(b"salt" + named("x"))[:8]
    assert short_name(named("x"), b"salt") != short_name(named("x"), b"tlas")


# What was changed


@every_kind
@given(data=st.data())
def test_one_byte_changed_anywhere_is_refused(kind: str, data: st.DataObject) -> None:
    raw = AUTHOR.seal(EXAMPLES[kind]).raw
    at = data.draw(st.integers(0, len(raw) - 1))
    tampered = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    with pytest.raises(ProtocolError):
        accept(tampered)


@every_kind
def test_a_bit_of_every_byte_is_refused(kind: str) -> None:
    raw = AUTHOR.seal(EXAMPLES[kind]).raw
    for at in range(len(raw)):
        with pytest.raises(ProtocolError):
            accept(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


@every_kind
def test_what_is_cut_or_longer_is_refused(kind: str) -> None:
    raw = AUTHOR.seal(EXAMPLES[kind]).raw
    for wrong in [raw[:at] for at in range(len(raw))] + [raw + b"\0", raw + raw]:
        with pytest.raises(MalformedMessage):
            accept(wrong)


@given(messages, messages)
def test_a_signature_moves_to_no_other_message(first: Message, second: Message) -> None:
    signature = AUTHOR.seal(first).envelope.signature
    other = AUTHOR.seal(second).envelope
    if first != second:
        with pytest.raises(ProtocolError):
            accept(encode_canonical(Envelope(other.kind, other.body, signature)))


@every_kind
@pytest.mark.parametrize("label", [*KINDS, "", "Update", "body", "have/1"])
def test_a_message_is_of_no_other_kind(kind: str, label: str) -> None:
    envelope = AUTHOR.seal(EXAMPLES[kind]).envelope
    if kind != label:
        with pytest.raises(ProtocolError):
            accept(encode_canonical(msgspec.structs.replace(envelope, kind=label)))


@pytest.mark.parametrize("domain", [Domain(1, DOMAIN.registry), Domain(DOMAIN.chain_id, Address(bytes(20)))])
def test_an_update_is_of_one_registry_on_one_chain(domain: Domain) -> None:
    raw = AUTHOR.seal(EXAMPLES["update"], domain).raw
    assert accept(raw, domain).message == EXAMPLES["update"]
    with pytest.raises(BadSignature):
        accept(raw)


def test_no_signature_of_the_ledger_passes_for_a_message() -> None:
    # A seat signs bodies and updates as typed data. Whoever saw such a signature must not be able to send it as an
    # attestation with a header of his own: twelve of them would fill what is kept of that seat.
    body = Body(1, 2, named("head"), named("updates"), named("state"), named("trainers"))
    update = AUTHOR.seal(EXAMPLES["update"])
    seen = [(body.id, AUTHOR.sign(DOMAIN.digest(body.id))), (update.id, update.envelope.signature)]
    for name, signature in seen:
        assert recover(DOMAIN.digest(name), signature) == AUTHOR.address
        message = encode_canonical(BodySignature(**PLACE, body_id=name, attestation=signature))
        with pytest.raises(BadSignature):
            accept(encode_canonical(Envelope("signature", message, signature)))


@every_kind
def test_a_high_s_is_refused(kind: str) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    envelope = AUTHOR.seal(EXAMPLES[kind]).envelope
    r, s, v = envelope.signature[:32], envelope.signature[32:64], envelope.signature[64]
    other = r + (order - int.from_bytes(s, "big")).to_bytes(32, "big") + bytes([55 - v])
    with pytest.raises(BadSignature, match="high"):
        accept(encode_canonical(Envelope(kind, envelope.body, SignatureBytes(other))))


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(66), bytes(1000)], ids=len)
def test_a_signature_of_another_size_is_refused(signature: bytes) -> None:
    envelope = AUTHOR.seal(EXAMPLES["have"]).envelope
    with pytest.raises(MalformedMessage, match="65"):
        accept(encode_canonical([envelope.kind, envelope.body, signature]))


# What is spelt otherwise


@every_kind
def test_other_spellings_of_an_envelope_are_refused(kind: str) -> None:
    raw = AUTHOR.seal(EXAMPLES[kind]).raw
    others = list(spellings(msgspec.msgpack.decode(raw)))
    assert len(others) > 5
    for other in others:
        assert msgspec.msgpack.decode(other) == msgspec.msgpack.decode(raw)
        with pytest.raises(NotCanonical):
            accept(other)


@every_kind
def test_other_spellings_of_a_body_are_refused_even_if_its_author_signed_them(kind: str) -> None:
    body = encode_canonical(EXAMPLES[kind])
    others = list(spellings(msgspec.msgpack.decode(body)))
    assert len(others) >= 18
    for other in others:
        with pytest.raises(NotCanonical):
            decode_body(kind, other)
        with pytest.raises(NotCanonical):
            accept(enveloped(kind, other))


@every_kind
@pytest.mark.parametrize("extra", [None, 0, b"", [], "x"])
def test_fields_too_many_are_refused(kind: str, extra: object) -> None:
    values = msgspec.msgpack.decode(encode_canonical(EXAMPLES[kind]))
    with pytest.raises(MalformedMessage):
        accept(enveloped(kind, encode_canonical([*values, extra])))
    envelope = msgspec.msgpack.decode(AUTHOR.seal(EXAMPLES[kind]).raw)
    with pytest.raises(MalformedMessage):
        accept(encode_canonical([*envelope, extra]))


@every_kind
def test_fields_too_few_are_refused(kind: str) -> None:
    values = msgspec.msgpack.decode(encode_canonical(EXAMPLES[kind]))
    for count in range(len(values)):
        with pytest.raises((NotCanonical, MalformedMessage)):
            accept(enveloped(kind, encode_canonical(values[:count])))


@every_kind
def test_a_table_is_no_message(kind: str) -> None:
    with pytest.raises(MalformedMessage):
        accept(enveloped(kind, encode_canonical(msgspec.structs.asdict(EXAMPLES[kind]))))


# What has wrong values

WRONG_VALUES: dict[str, list[Any]] = {
    "int": [-1, 1 << 64, 1.0, True, "1", None, b"1", [1]],
    "bytes": ["text", 5, None, [b"x"]],
    "str": [b"text", 5, None],
    "tuple": [b"text", 5, [5], ["text"], [b"short"], [bytes(33)]],
}


@every_kind
def test_every_field_has_one_type_and_a_range(kind: str) -> None:
    message = EXAMPLES[kind]
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value is None:
            continue  # content: below
        for wrong in WRONG_VALUES[type(value).__name__]:
            values = msgspec.msgpack.decode(encode_canonical(message))
            values[message.__struct_fields__.index(name)] = wrong
            try:
                body = msgspec.msgpack.encode(values)
            except OverflowError:
                continue  # above 64 bits: msgpack has no form for it
            with pytest.raises(MalformedMessage):
                decode_body(kind, body)


@every_kind
def test_hashes_have_32_bytes(kind: str) -> None:
    message = EXAMPLES[kind]
    found = [name for name in message.__struct_fields__ if isinstance(getattr(message, name), bytes)]
    found = [name for name in found if name not in ("body", "known")]
    assert len(found) >= 2
    for name in found:
        value = getattr(message, name)
        for wrong in (b"", value[:-1], value + b"\0"):
            with pytest.raises(MalformedMessage):
                decode_body(kind, changed(message, **{name: wrong}))


@every_kind
def test_rounds_are_numbered_from_one(kind: str) -> None:
    assert decode_body(kind, changed(EXAMPLES[kind], round=1)).round == 1
    with pytest.raises(MalformedMessage, match="from 1"):
        decode_body(kind, changed(EXAMPLES[kind], round=0))


@pytest.mark.parametrize(
    ("name", "bits"), [("version", 16), ("fragment", 32), ("tau", 32), ("inner_steps", 32), ("tokens", 64)]
)
def test_the_integers_of_an_update_fit_its_typed_data(name: str, bits: int) -> None:
    largest = (1 << bits) - 1
    assert getattr(decode_body("update", changed(EXAMPLES["update"], **{name: largest})), name) == largest
    if bits < 64:
        with pytest.raises(MalformedMessage, match=name):
            decode_body("update", changed(EXAMPLES["update"], **{name: largest + 1}))


@pytest.mark.parametrize(
    ("codec", "fits"), [("", True), ("x" * 64, True), ("x" * 65, False), ("é" * 33, False)]
)
def test_a_codec_has_a_short_name(codec: str, fits: bool) -> None:
    body = changed(EXAMPLES["update"], codec=codec)
    if fits:
        assert decode_body("update", body) == msgspec.structs.replace(EXAMPLES["update"], codec=codec)
    else:
        with pytest.raises(MalformedMessage, match="codec"):
            decode_body("update", body)


@pytest.mark.parametrize("changes", [{"known": b"1234567"}, {"known": b"123456789"}, {"salt": bytes(15)}])
def test_digests_hold_whole_names(changes: dict[str, bytes]) -> None:
    with pytest.raises(MalformedMessage, match="digest"):
        decode_body("digest", changed(EXAMPLES["digest"], **changes))


def test_an_empty_digest_knows_nothing() -> None:
    assert isinstance(decode_body("digest", changed(EXAMPLES["digest"], known=b"")), Digest)


@pytest.mark.parametrize("kind", ["have", "proposal"])
@pytest.mark.parametrize(
    ("content", "right"),
    [
        ((named("blob"), 1), True),
        ((named("blob"), (1 << 64) - 1), True),
        ((named("blob"), 0), False),
        ((named("blob"), -1), False),
        ((b"short", 1), False),
        ((named("blob"), 1, 1), False),
        ((named("blob"),), False),
        ((1, named("blob")), False),
        (b"", False),
    ],
)
def test_content_is_the_name_of_a_blob(kind: str, content: Any, right: bool) -> None:
    body = changed(EXAMPLES[kind], content=content)
    if right:
        assert decode_body(kind, body) == msgspec.structs.replace(EXAMPLES[kind], content=content)
    else:
        with pytest.raises(MalformedMessage):
            decode_body(kind, body)


@given(st.text())
def test_there_is_no_other_kind(kind: str) -> None:
    if kind not in KINDS:
        with pytest.raises(MalformedMessage, match="kind"):
            decode_body(kind, encode_canonical(EXAMPLES["have"]))


# Sizes


def sealed_of_size(size: int) -> bytes:
    """A valid message of exactly so many bytes."""
    proposal = EXAMPLES["proposal"]
    spare = size - len(AUTHOR.seal(msgspec.structs.replace(proposal, body=bytes(60_000))).raw)
    raw = AUTHOR.seal(msgspec.structs.replace(proposal, body=bytes(60_000 + spare))).raw
    assert len(raw) == size
    return raw


def test_the_largest_message() -> None:
    assert MESSAGE_BYTES_MAX == 64 * 1024
    accept(sealed_of_size(MESSAGE_BYTES_MAX))
    with pytest.raises(MessageTooLarge):
        accept(sealed_of_size(MESSAGE_BYTES_MAX + 1))


def test_what_is_too_large_is_not_read() -> None:
    with pytest.raises(MessageTooLarge):
        accept(b"\xc1" * (MESSAGE_BYTES_MAX + 1))
    with pytest.raises(MessageTooLarge):
        decode_packet(b"\xc1" * (PACKET_BYTES_MAX + 1))


# Packets


@given(
    st.lists(st.binary(max_size=20), max_size=5), st.lists(hashes, max_size=5), st.lists(hashes, max_size=5)
)
def test_packets_read_back(envelopes: list[bytes], blobs: list[bytes], endpoints: list[bytes]) -> None:
    packet = Packet(tuple(envelopes), tuple(blobs), tuple(endpoints))
    assert decode_packet(encode_packet(packet)) == packet


@pytest.mark.parametrize("name", Packet.__struct_fields__)
def test_packets_carry_so_many_objects(name: str) -> None:
    most = msgspec.structs.replace(Packet(()), **{name: (b"x",) * OBJECTS_PER_PACKET_MAX})
    assert decode_packet(encode_packet(most)) == most
    over = msgspec.structs.replace(Packet(()), **{name: (b"x",) * (OBJECTS_PER_PACKET_MAX + 1)})
    with pytest.raises(MessageTooLarge, match="objects"):
        decode_packet(encode_packet(over))


def test_the_largest_packet() -> None:
    assert PACKET_BYTES_MAX == 320 * 1024
    empty = len(encode_packet(Packet((b"x" * 70_000,))))
    full = Packet((b"x" * (70_000 + PACKET_BYTES_MAX - empty),))
    assert len(encode_packet(full)) == PACKET_BYTES_MAX
    assert decode_packet(encode_packet(full)) == full
    with pytest.raises(MessageTooLarge, match="bytes"):
        decode_packet(encode_packet(Packet((full.envelopes[0] + b"x",))))


def test_packets_have_one_spelling() -> None:
    raw = encode_packet(Packet((b"a", b"b"), (b"c",)))
    for other in [*spellings(msgspec.msgpack.decode(raw)), b"\x91\x90", b"\x92\x90\x90"]:
        with pytest.raises(NotCanonical):
            decode_packet(other)


@pytest.mark.parametrize(
    "data", [b"", b"\x90", b"\xc0", b"\x92\x90", b"\x93\x91\xa1x\x90\x90", b"\x94" + b"\x90" * 4]
)
def test_malformed_packets(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_packet(data)

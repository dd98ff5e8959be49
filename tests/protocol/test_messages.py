"""Messages: every one reads back, and nothing that was changed passes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    BadSignature,
    MalformedMessage,
    ProtocolError,
)
from distrai.protocol.messages import (
    KINDS,
    BodySignature,
    Envelope,
    Message,
    Update,
    short_name,
)
from distrai.protocol.primitives import Address, SignatureBytes
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from helpers.envelopes import AUTHOR, EXAMPLES, PLACE, accept, changed
from helpers.messages import DOMAIN, MESSAGES, messages, named
from helpers.reference import keccak256

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


def test_an_update_names_its_ciphertext_by_hash_and_size() -> None:
    update = EXAMPLES["update"]
    assert isinstance(update, Update)
    assert (update.blob.hash, update.blob.size) == (update.blob_hash, update.blob_size)


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

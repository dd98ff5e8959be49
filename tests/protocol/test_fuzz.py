"""Whatever arrives from outside is a message or a ProtocolError: no other exception, and nothing accepted unread."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.blobs import BlobRef, check_manifest
from distrai.protocol.body import Body, check_body
from distrai.protocol.canonical import (
    canonical_json,
    decode_canonical,
    decode_canonical_json,
    encode_canonical,
)
from distrai.protocol.cipher import check_key, unseal
from distrai.protocol.errors import ProtocolError
from distrai.protocol.lists import check_list, check_signatures, decode_list
from distrai.protocol.messages import (
    KINDS,
    Envelope,
    Packet,
    decode_body,
    decode_packet,
    encode_packet,
    open_envelope,
)
from distrai.protocol.primitives import Hash
from distrai.protocol.seating import check_succession
from distrai.protocol.signatures import recover
from helpers.messages import DOMAIN, MESSAGES, Author, bodies, messages
from helpers.rounds import RULES, authors, list_of, next_body, started

PEOPLE = authors(3)
STANDING = started(PEOPLE)
BODY = next_body(STANDING)
LIST = list_of(PEOPLE, STANDING).to_bytes()


def read_message(data: bytes) -> None:
    signed = open_envelope(data, DOMAIN, recover)
    assert encode_canonical(signed.envelope) == data
    assert encode_canonical(signed.message) == signed.envelope.body


def read_packet(data: bytes) -> None:
    packet = decode_packet(data)
    assert encode_packet(packet) == data
    for envelope in packet.envelopes:
        read_message(envelope)


def read_list(data: bytes) -> None:
    certified = decode_list(data)
    assert certified.to_bytes() == data
    check_list(certified, BODY)
    check_signatures(certified, {}, DOMAIN, recover)


def read_body(data: bytes) -> None:
    body = decode_canonical(data, Body)
    assert encode_canonical(body) == data
    check_body(body)
    assert len(body.id) == len(body.head) == 32
    check_succession(STANDING, RULES, body)


def read_json(data: bytes) -> None:
    assert canonical_json(decode_canonical_json(data)) == data


def read_any_kind(data: bytes) -> None:
    for kind in KINDS:
        try:
            decode_body(kind, data)
        except ProtocolError:
            continue


READERS: dict[str, Callable[[bytes], None]] = {
    "message": read_message,
    "packet": read_packet,
    "list": read_list,
    "body": read_body,
    "json": read_json,
    "any kind": read_any_kind,
}
every_reader = pytest.mark.parametrize("reader", READERS)


def read(reader: str, data: bytes) -> None:
    """Read, or be refused; anything else fails the test."""
    try:
        READERS[reader](data)
    except ProtocolError:
        return


# Any value that msgpack has a form for.
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*KINDS])
    | st.binary(max_size=70)
    | st.sampled_from([bytes(20), bytes(32), bytes(65)]),
    lambda inner: (
        st.lists(inner, max_size=17)
        | st.dictionaries(st.text(max_size=4) | st.integers(-9, 99), inner, max_size=3)
    ),
    max_leaves=20,
)


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Right bytes with a few of them changed, left out, put in twice or replaced."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(1, 4))):
        first, second = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.sampled_from(["flip", "cut", "repeat", "insert", "truncate"])):
            case "flip" if first < len(data):
                data[first] = draw(st.integers(0, 255))
            case "cut":
                del data[first : first + draw(st.integers(1, 40))]
            case "repeat":
                data[second:second] = data[first:second]
            case "insert":
                data[first:first] = draw(st.binary(max_size=12))
            case _:
                del data[second:]
    return bytes(data)


envelopes = st.builds(lambda message, author: Author(author).seal(message).raw, messages, st.integers(0, 2))
ORIGINALS: dict[str, st.SearchStrategy[bytes]] = {
    "message": envelopes,
    "packet": st.lists(envelopes, max_size=3).map(lambda items: encode_packet(Packet(tuple(items)))),
    "list": st.just(LIST),
    "body": (bodies | st.just(BODY)).map(encode_canonical),
    "json": st.dictionaries(
        st.text(max_size=4), st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    ).map(canonical_json),
    "any kind": messages.map(encode_canonical),
}


@every_reader
@given(data=st.binary(max_size=200))
def test_random_bytes(reader: str, data: bytes) -> None:
    read(reader, data)


@every_reader
@given(value=plain)
def test_random_values(reader: str, value: object) -> None:
    read(reader, msgspec.msgpack.encode(value))


@every_reader
@given(data=st.data())
def test_mutations_of_what_is_right(reader: str, data: st.DataObject) -> None:
    read(reader, data.draw(mutated(ORIGINALS[reader])))


@given(st.sampled_from([*KINDS]), st.data())
def test_random_values_of_the_right_number(kind: str, data: st.DataObject) -> None:
    fields = len(KINDS[kind].__struct_fields__)
    values = data.draw(st.lists(plain, min_size=fields, max_size=fields))
    good = data.draw(MESSAGES[kind])
    # Most fields right and a few of them anything, in a body that its author signed.
    mixed = [
        value if data.draw(st.integers(0, 7)) == 0 else getattr(good, name)
        for name, value in zip(good.__struct_fields__, values, strict=True)
    ]
    body = msgspec.msgpack.encode(mixed)
    read("any kind", body)
    read("message", encode_canonical(Envelope(kind, body, Author(0).sign(Hash(bytes(32))))))


@given(plain, plain, plain)
def test_random_envelopes(kind: object, body: object, signature: object) -> None:
    read("message", msgspec.msgpack.encode([kind, body, signature]))


@pytest.mark.parametrize("reader", ["message", "packet", "list", "body"])
@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 60_000,  # an array in an array in an array
        b"\xdd\xff\xff\xff\xff",  # four thousand million elements to come
        b"\xdf\xff\xff\xff\xff",
        b"\x93\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",  # as many bytes
        b"\x93\xa3key\xc6\xff\xff\xff\xff",
        b"\xc1",
        b"\x93\xc7\xff\xff",
        b"\x93\xd6\xff\0\0\0\0\xc4\0\xc4\0",  # a time
    ],
    ids=lambda data: data[:6].hex(),
)
def test_what_promises_more_than_it_has(reader: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        READERS[reader](data)


@given(st.binary(max_size=66), st.binary(min_size=32, max_size=32))
def test_any_signature(signature: bytes, digest: bytes) -> None:
    try:
        assert len(recover(Hash(digest), signature)) == 20
    except ProtocolError:
        return


@given(st.binary(max_size=66), st.binary(max_size=34), st.binary(max_size=8))
def test_any_ciphertext_and_key(sealed: bytes, key: bytes, bound: bytes) -> None:
    for attempt in (lambda: unseal(sealed, key, bound), lambda: check_key(key, bound, Hash(bytes(32)))):
        with pytest.raises(ProtocolError):
            attempt()


@given(
    st.binary(max_size=34),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.lists(st.binary(max_size=33), max_size=3),
)
def test_any_manifest(name: bytes, size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        check_manifest(BlobRef(Hash(name), size), [Hash(item) for item in hashes])


@pytest.mark.parametrize("reader", ["message", "packet", "json"])
@given(data=st.data())
def test_the_originals_are_right(reader: str, data: st.DataObject) -> None:
    # Else the mutations would only ever meet the first refusal.
    READERS[reader](data.draw(ORIGINALS[reader]))


def test_the_original_list_and_body_are_right() -> None:
    assert len(decode_list(LIST).entries) == 3
    read_body(encode_canonical(BODY))

"""The fields of messages have types, ranges and sizes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    MalformedMessage,
    MessageTooLarge,
)
from distrai.protocol.messages import (
    KINDS,
    MESSAGE_BYTES_MAX,
    PACKET_BYTES_MAX,
    Digest,
    decode_body,
    decode_packet,
)
from helpers.envelopes import AUTHOR, EXAMPLES, accept, changed
from helpers.messages import named

every_kind = pytest.mark.parametrize("kind", KINDS)


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

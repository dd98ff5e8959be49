"""Bytes that nest a hundred thousand deep are refused before any parser follows them."""

import msgspec
import pytest

from distrai.protocol.canonical import (
    JSON_DEPTH_MAX,
    canonical_json,
    decode_canonical,
    decode_canonical_json,
    encode_canonical,
)
from distrai.protocol.errors import MalformedMessage
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import (
    KINDS,
    Packet,
)
from helpers.envelopes import EXAMPLES
from helpers.msgpack import sized
from helpers.rounds import authors, list_of, next_body, started

PEOPLE = authors(3)
STANDING = started(PEOPLE)
BODY = next_body(STANDING)
LIST = list_of(PEOPLE, STANDING).to_bytes()
DEEP = {
    "lists": b"\x91" * 300_000,
    "tables": b"\x81\xa0" * 150_000,
}
RIGHT: list[object] = [
    *(EXAMPLES[kind] for kind in KINDS),
    PEOPLE[0].seal(EXAMPLES["have"]).envelope,
    Packet(()),
    decode_list(LIST),
    BODY,
]


@pytest.mark.parametrize("what", DEEP)
@pytest.mark.parametrize("right", RIGHT, ids=[type(value).__name__ for value in RIGHT])
def test_nesting_is_never_followed(what: str, right: object) -> None:
    # msgspec follows what it does not know, as deep as the recursion limit allows. Libraries for the ledger set that to
    # 100,000: more than the stack of many a thread has room for. So unknown fields are refused, not skipped.
    parts = [msgspec.msgpack.encode(part) for part in msgspec.msgpack.decode(encode_canonical(right))]
    for place in range(len(parts) + 1):
        start = sized("array", max(len(parts), place + 1), 2) + b"".join(parts[:place])
        with pytest.raises(MalformedMessage, match="Expected"):
            decode_canonical(start + DEEP[what], type(right))


@pytest.mark.parametrize("opening", [b"[", b'{"":', b'[{"a":', b'["]]]]",', b'["\\"]]]]",'])
def test_deep_json_is_refused_before_it_is_parsed(opening: bytes) -> None:
    # With a recursion limit as high as that, json overflows the stack and the process ends: no exception to catch.
    for data in (opening * 200_000, b'{"' + b"\\" * 8 + b'":' + opening * 200_000):
        with pytest.raises(MalformedMessage, match="deep"):
            decode_canonical_json(data)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_may_be_so_deep(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    text = opening * JSON_DEPTH_MAX + "1" + closing * JSON_DEPTH_MAX
    assert canonical_json(decode_canonical_json(text.encode())).decode() == text
    with pytest.raises(MalformedMessage, match="deep"):
        decode_canonical_json((opening + text + closing).encode())


@pytest.mark.parametrize("text", ["[" * 999, '"[' * 999, "\\[" * 99])
def test_brackets_in_text_are_text(text: str) -> None:
    assert decode_canonical_json(canonical_json([text, {text: text}])) == [text, {text: text}]

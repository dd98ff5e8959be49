"""Messages have one spelling each, whoever signed another."""

import msgspec
import pytest

from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    MalformedMessage,
    NotCanonical,
)
from distrai.protocol.messages import (
    KINDS,
    decode_body,
)
from helpers.envelopes import AUTHOR, EXAMPLES, accept, enveloped
from helpers.msgpack import spellings

every_kind = pytest.mark.parametrize("kind", KINDS)


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

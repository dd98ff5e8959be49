import json
import math
from collections import OrderedDict
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.canonical import (
    canonical_json,
    decode_canonical,
    decode_canonical_json,
    encode_canonical,
)
from distrai.protocol.errors import MalformedMessage, NotCanonical

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


class Point(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    x: int
    name: str
    tags: dict[str, int]


POINT = Point(3, "a", {"b": 1, "a": 2})


def test_json_vectors() -> None:
    assert canonical_json({"b": 1, "a": [True, None, "é\n"]}) == '{"a":[true,null,"é\\n"],"b":1}'.encode()
    assert canonical_json([0.1, 1.0, 1e-8, 1e16, 1e300]) == b"[0.1,1.0,1e-08,1e+16,1e+300]"
    assert (
        canonical_json((1, MappingProxyType({"k": 2}), OrderedDict(z=1, a=2))) == b'[1,{"k":2},{"a":2,"z":1}]'
    )


def test_equal_numbers_have_equal_bytes() -> None:
    assert canonical_json([-0.0, {"x": -0.0}]) == canonical_json([0.0, {"x": 0.0}]) == b'[0.0,{"x":0.0}]'


@given(JSON)
def test_json_round_trip(value: object) -> None:
    data = canonical_json(value)
    assert decode_canonical_json(data) == value
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": math.inf}])
def test_json_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical_json(value)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {"a": 1j}])
def test_json_refuses_what_it_has_no_form_for(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON form"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {None: 1}, {"a": {True: 1}}])
def test_json_refuses_keys_that_are_no_text(value: object) -> None:
    with pytest.raises(ValueError, match="is no text"):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b"[1.50]",
        b"[1e-8]",
        b"[-0.0]",
        b'["\\u0041"]',
        b"[NaN]",
        b"[1e999]",
        b'["\\ud800"]',
        b"[1]\n",
    ],
)
def test_another_spelling_of_json_is_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        decode_canonical_json(data)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1,]", b"[" * 100_000, b"9" * 5000, b"\xef\xbb\xbf1"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_canonical_json(data)


def test_messages_round_trip() -> None:
    data = encode_canonical(POINT)
    assert data == b"\x93\x03\xa1a\x82\xa1a\x02\xa1b\x01"
    assert decode_canonical(data, Point) == POINT


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xcc\x03\xa1a\x82\xa1a\x02\xa1b\x01",  # a longer integer
        b"\x93\x03\xd9\x01a\x82\xa1a\x02\xa1b\x01",  # a longer text header
        b"\x93\x03\xa1a\x82\xa1b\x01\xa1a\x02",  # keys out of order
        b"\x93\x03\xa1a\x83\xa1a\x01\xa1a\x02\xa1b\x01",  # a key twice
        b"\xdc\x00\x03\x03\xa1a\x82\xa1a\x02\xa1b\x01",  # a longer array header
    ],
)
def test_another_spelling_of_a_message_is_refused(data: bytes) -> None:
    assert msgspec.msgpack.decode(data, type=Point) == POINT
    with pytest.raises(NotCanonical, match="Point"):
        decode_canonical(data, Point)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93\x03\xa1a",
        b"\x93\xa1a\xa1a\x80",
        b"\xc1",
        b"\x93\x03\xa1\xff\x80",
        b"\x93\x03\xa1a\x80\x00",
        b"\x91" * 5000,
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="Point"):
        decode_canonical(data, Point)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        value = decode_canonical(data, Point)
    except (MalformedMessage, NotCanonical):
        return
    assert encode_canonical(value) == data

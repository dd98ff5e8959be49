"""JSON of strangers: as deep as is of use, and no deeper, whatever the recursion limit is."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.plain_json import DEPTH_MAX, TooDeep, check_depth, load_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)


def nested(depth: int) -> bytes:
    return b'[{"a":' * (depth // 2) + b"[" * (depth % 2) + b"]" * (depth % 2) + b"}]" * (depth // 2)


@given(PLAIN)
def test_what_is_not_deep_is_read(value: object) -> None:
    assert load_json(json.dumps(value).encode()) == value
    assert load_json(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode()) == value


def test_depth_has_a_bound() -> None:
    check_depth(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    with pytest.raises(TooDeep, match=str(DEPTH_MAX)):
        check_depth(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))
    with pytest.raises(TooDeep):
        load_json(nested(DEPTH_MAX + 2))


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert load_json(b"[" + b",".join([b'{"a": []}'] * 500) + b"]") == [{"a": []}] * 500


def test_brackets_in_strings_do_not_count() -> None:
    text = '["' + "[{" * 200 + '\\"' + "]" * 10 + '"]'
    assert load_json(text.encode()) == ["[{" * 200 + '"' + "]" * 10]
    check_depth(b'["' + b"[" * 200)  # a string that does not end: the parser says so


def test_a_line_of_brackets_ends_no_process() -> None:
    """Libraries raise the limit that would otherwise stop the parser before its stack ends."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(TooDeep):
            load_json(b"[" * 500_000)
    finally:
        sys.setrecursionlimit(limit)

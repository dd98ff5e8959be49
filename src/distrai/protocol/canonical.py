"""Canonical bytes: one value has one encoding, so that a hash names a meaning and not a spelling.

What is received is decoded, encoded again and compared with the bytes that came (msgspec alone accepts
non-minimal integers and duplicate keys). Messages are msgpack, recipes are JSON.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from distrai.protocol.errors import MalformedMessage, NotCanonical

T = TypeVar("T")
JSON_DEPTH_MAX = 64
"""Lists and tables within each other that are read."""
_JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def encode_canonical(value: object) -> bytes:
    """The msgpack bytes of a msgspec struct, or of anything else that msgspec encodes."""
    return msgspec.msgpack.encode(value, order="deterministic")


def decode_canonical(data: bytes, kind: type[T]) -> T:
    """Decode msgpack as ``kind``.

    Raises MalformedMessage where it is no such thing, NotCanonical where it is another spelling. The caller
    has bounded the size of ``data`` already; ``kind`` forbids unknown fields, whose depth nothing would bound.
    """
    try:
        value = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"these bytes are no {kind.__name__}: {error}") from None
    if encode_canonical(value) != data:
        raise NotCanonical(f"the bytes of this {kind.__name__} are not the canonical ones; encode it again")
    return value


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces, the shortest decimals that read back equal, UTF-8; -0.0 is 0.0.

    Takes str, bool, int, finite float, None, and lists, tuples and string-keyed mappings of them. Raises
    ValueError for anything else, NaN and infinities included.
    """
    plain = _plain(value)
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def decode_canonical_json(data: bytes) -> Any:
    """The value of canonical JSON bytes.

    Raises MalformedMessage for what is no JSON, NotCanonical for another spelling than the canonical one.
    """
    _check_depth(data)
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"these bytes are no JSON: {error}") from None
    try:
        same = canonical_json(value) == data
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"this JSON has no canonical form: {error}") from None
    if not same:
        raise NotCanonical(
            "this JSON is not in canonical form (sorted keys, no spaces, shortest numbers, no key twice)"
        )
    return value


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before a parser meets it.

    Libraries for the ledger raise Python's recursion limit so far that the C parsers overflow their stack instead of
    raising RecursionError: 100 kB of "[" would end the process.
    """
    depth = 0
    for token in _JSON_TOKEN.finditer(data):
        first = data[token.start()]
        depth += 1 if first in b"[{" else -1 if first in b"]}" else 0
        if depth > JSON_DEPTH_MAX:
            raise MalformedMessage(f"this JSON is nested more than {JSON_DEPTH_MAX} deep")


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no JSON form; use a finite number")
        return value + 0.0  # -0.0 + 0.0 is 0.0: equal numbers get equal bytes
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise ValueError(
        f"{type(value).__name__} has no JSON form; use text, numbers, true/false, lists or tables"
    )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is no text; JSON would turn it into some")
    return key

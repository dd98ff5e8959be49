"""Sealed updates: every tampering is refused, and the size is known before the first byte."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.blobs import CHUNK_SIZE
from distrai.protocol.cipher import (
    KEY_SIZE,
    TAG_SIZE,
    binding,
    check_key,
    key_hash,
    seal,
    sealed_size,
    sealing_key,
    unseal,
)
from distrai.protocol.errors import CannotOpen, WrongKey
from distrai.protocol.primitives import MemberId
from helpers.messages import named
from helpers.reference import keccak256

KEY = bytes(range(32))
MEMBER = MemberId(named("member"))
BOUND = binding(1, 2, named("head"), MEMBER)
PLAIN = CHUNK_SIZE - TAG_SIZE  # payload bytes in a chunk of the ciphertext
SIZES = [1, 2, PLAIN - 1, PLAIN, PLAIN + 1, CHUNK_SIZE, 2 * PLAIN, 2 * PLAIN + 1]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


LARGE = content(2 * PLAIN + 100)
SEALED = seal(LARGE, KEY, BOUND)


def test_a_sealing_key_depends_on_secret_payload_and_place_and_on_nothing_else() -> None:
    secret, other = bytes(32), bytes([1]) * 32
    key = sealing_key(secret, b"payload", BOUND)
    assert len(key) == KEY_SIZE and key == sealing_key(secret, memoryview(b"payload"), BOUND)
    elsewhere = binding(1, 3, named("head"), MEMBER)
    others = [(other, b"payload", BOUND), (secret, b"payloae", BOUND), (secret, b"payload", elsewhere)]
    assert len({key, *(sealing_key(*arguments) for arguments in others)}) == 4


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_and_size(size: int) -> None:
    payload = content(size)
    sealed = seal(memoryview(payload), KEY, BOUND)
    assert len(sealed) == sealed_size(size)
    assert unseal(sealed, KEY, BOUND) == unseal(memoryview(sealed), KEY, BOUND) == payload


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32), st.binary(max_size=80))
def test_small_round_trips(payload: bytes, key: bytes, bound: bytes) -> None:
    sealed = seal(payload, key, bound)
    assert len(sealed) == sealed_size(len(payload)) == len(payload) + TAG_SIZE
    assert unseal(sealed, key, bound) == payload


def test_the_layout_of_a_chunk() -> None:
    # Nonce: the index in 12 big-endian bytes. Associated data: the binding, the index in 8, and whether it is the last.
    cipher = ChaCha20Poly1305(KEY)
    for index, last in [(0, 0), (1, 0), (2, 1)]:
        part = SEALED[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
        data = BOUND + index.to_bytes(8, "big") + bytes([last])
        plain = cipher.decrypt(index.to_bytes(12, "big"), part, data)
        assert plain == LARGE[index * PLAIN : (index + 1) * PLAIN]


def test_a_sealed_update_never_changes() -> None:
    assert seal(b"distrai", KEY, BOUND).hex() == "7cd13145df87cf2f3da118492170bbd4b6d2940888a194"
    assert key_hash(KEY, BOUND).hex() == "f39c0f2d4e4e9f4cab603943065933948476e2ceb39c06f4a377277709171453"


@pytest.mark.parametrize(
    "at",
    [
        0,  # the first byte
        PLAIN - 1,  # the last byte of the first chunk
        PLAIN,  # the first of its tag
        CHUNK_SIZE - 1,  # the last of its tag
        CHUNK_SIZE,  # the second chunk
        2 * CHUNK_SIZE - 1,
        2 * CHUNK_SIZE + 5,  # the last chunk
        len(SEALED) - TAG_SIZE,
        len(SEALED) - 1,
    ],
)
def test_one_bit_anywhere_is_seen(at: int) -> None:
    with pytest.raises(CannotOpen):
        unseal(flipped(SEALED, at), KEY, BOUND)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_byte_of_a_small_one_is_seen(payload: bytes, data: st.DataObject) -> None:
    sealed = seal(payload, KEY, BOUND)
    with pytest.raises(CannotOpen):
        unseal(flipped(sealed, data.draw(st.integers(0, len(sealed) - 1))), KEY, BOUND)


FIRST, SECOND, LAST = SEALED[:CHUNK_SIZE], SEALED[CHUNK_SIZE : 2 * CHUNK_SIZE], SEALED[2 * CHUNK_SIZE :]


ARRANGEMENTS = {
    "swapped": SECOND + FIRST + LAST,
    "repeated": FIRST + FIRST + LAST,
    "one left out": FIRST + LAST,
    "cut at a chunk": FIRST + SECOND,
    "only the first": FIRST,
    "only the last": LAST,
    "the last twice": SEALED + LAST,
    "longer": SEALED + b"\0",
    "shorter": SEALED[:-1],
    "the last without its text": FIRST + SECOND + LAST[:TAG_SIZE],
    "the last without a tag": FIRST + SECOND + LAST[: TAG_SIZE - 1],
    "empty": b"",
    "a tag of zeros": b"\0" * TAG_SIZE,
    "too short for a tag": b"short",
}


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_other_arrangements_are_seen(name: str) -> None:
    with pytest.raises(CannotOpen):
        unseal(ARRANGEMENTS[name], KEY, BOUND)


OTHER_BOUNDS = [
    binding(2, 2, named("head"), MEMBER),
    binding(1, 3, named("head"), MEMBER),
    binding(1, 2, named("other head"), MEMBER),
    binding(1, 2, named("head"), MemberId(named("copier"))),
    b"",
]


@pytest.mark.parametrize("bound", OTHER_BOUNDS)
def test_what_was_sealed_for_one_place_opens_in_no_other(bound: bytes) -> None:
    with pytest.raises(CannotOpen):
        unseal(seal(b"payload", KEY, BOUND), KEY, bound)
    with pytest.raises(WrongKey):
        check_key(KEY, bound, key_hash(KEY, BOUND))


@pytest.mark.parametrize("key", [bytes(32), flipped(KEY, 31), KEY[:31], KEY + b"\0", b""])
def test_another_key_opens_nothing(key: bytes) -> None:
    with pytest.raises(CannotOpen):
        unseal(SEALED, key, BOUND)
    with pytest.raises(WrongKey):
        check_key(key, BOUND, key_hash(KEY, BOUND))


def test_a_key_of_another_size_is_wrong_even_if_it_was_committed_to() -> None:
    for key in (KEY[:16], KEY + b"\0"):
        with pytest.raises(WrongKey):
            check_key(key, BOUND, key_hash(key, BOUND))


def test_the_committed_key_is_right() -> None:
    check_key(KEY, BOUND, key_hash(KEY, BOUND))
    assert len(KEY) == KEY_SIZE
    assert key_hash(KEY, BOUND) == keccak256(b"distrai/key-hash/1" + KEY + BOUND)
    place = (1).to_bytes(8, "big") + (2).to_bytes(8, "big")
    assert place + named("head") + MEMBER == BOUND


def test_nothing_is_no_payload() -> None:
    with pytest.raises(AssertionError):
        seal(b"", KEY, BOUND)

"""Sealing an update: nobody can read, and so nobody can copy, what is still only announced.

ChaCha20-Poly1305, one fresh key per update, chunk by chunk: each 1 MiB chunk of the ciphertext opens by itself, so
memory stays bounded by a chunk. A chunk's associated data says whose it is, for which round, its index and whether
it is the last; key hash and associated data bind the same, so the ciphertext of another cannot be announced as
one's own.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from distrai.protocol.blobs import CHUNK_SIZE
from distrai.protocol.errors import CannotOpen, WrongKey
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import Hash, MemberId

KEY_SIZE = 32
TAG_SIZE = 16
_PLAIN_CHUNK = CHUNK_SIZE - TAG_SIZE


def binding(run: int, round_number: int, previous_head: Hash, member: MemberId) -> bytes:
    """What a sealed update is bound to."""
    return run.to_bytes(8, "big") + round_number.to_bytes(8, "big") + previous_head + member


def key_hash(key: bytes, bound: bytes) -> Hash:
    """The commitment to ``key`` that the update carries."""
    return tagged_hash("key-hash", key + bound)


def sealing_key(secret: bytes, payload: bytes | memoryview, bound: bytes) -> bytes:
    """The key for a payload: nobody else can compute it, and after a crash it is the same again.

    ``secret`` (32 bytes) never leaves its peer and is not what is revealed. As the key depends on the payload, none is
    ever used for two; as it depends on nothing random, a run that was stopped and resumed has the same heads as one
    that was not.
    """
    return blake3(blake3(payload).digest() + bound, key=secret).digest(length=KEY_SIZE)


def check_key(key: bytes, bound: bytes, expected: Hash) -> None:
    """Raise WrongKey unless ``key`` is the one that was committed to."""
    if len(key) != KEY_SIZE or key_hash(key, bound) != expected:
        raise WrongKey("the revealed key is not the one that the update committed to")


def sealed_size(size: int) -> int:
    """Bytes of the ciphertext of ``size`` bytes (at least one)."""
    return size + TAG_SIZE * -(-size // _PLAIN_CHUNK)


def _cut(data: bytes | memoryview, width: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + width] for start in range(0, len(view), width))


def _places(count: int) -> Iterator[tuple[bytes, bytes]]:
    """For each of ``count`` chunks its nonce and the position that its associated data carries."""
    for index in range(count):
        position = index.to_bytes(8, "big")
        yield bytes(4) + position, position + (b"\x01" if index == count - 1 else b"\x00")


def _joined(parts: Iterable[bytes]) -> bytes:
    """All parts in one, which is the only copy of the whole (``b"".join`` would keep the parts until the end)."""
    whole = BytesIO()
    for part in parts:
        whole.write(part)
    return whole.getvalue()


def seal_chunks(payload: bytes | memoryview, key: bytes, bound: bytes) -> Iterator[bytes]:
    """Encrypt a payload of at least one byte, chunk by chunk. ``key`` must never be used for another payload."""
    assert len(payload) > 0
    cipher = ChaCha20Poly1305(key)
    places = _places(-(-len(payload) // _PLAIN_CHUNK))
    for (nonce, where), part in zip(places, _cut(payload, _PLAIN_CHUNK), strict=True):
        yield cipher.encrypt(nonce, part, bound + where)


def seal(payload: bytes | memoryview, key: bytes, bound: bytes) -> bytes:
    """What ``seal_chunks`` gives, in one."""
    return _joined(seal_chunks(payload, key, bound))


def opened_chunks(
    chunks: Iterable[bytes | memoryview], count: int, key: bytes, bound: bytes
) -> Iterator[bytes]:
    """Decrypt a ciphertext that comes in ``count`` chunks, of which one at a time is in memory.

    Raises CannotOpen if a byte was changed or the ciphertext was made for something else; what came before is then
    void, too.
    """
    if count == 0:
        raise CannotOpen("an empty ciphertext: nobody seals nothing")
    if len(key) != KEY_SIZE:
        raise CannotOpen(f"a key has {KEY_SIZE} bytes, not {len(key)}")
    cipher = ChaCha20Poly1305(key)
    for (nonce, where), part in zip(_places(count), chunks, strict=True):
        try:
            yield cipher.decrypt(nonce, part, bound + where)
        except InvalidTag as error:
            raise CannotOpen("the key does not open this ciphertext for this member and round") from error


def unseal_chunks(chunks: Iterable[bytes | memoryview], count: int, key: bytes, bound: bytes) -> bytes:
    """What ``opened_chunks`` gives, in one."""
    return _joined(opened_chunks(chunks, count, key, bound))


def unseal(sealed: bytes | memoryview, key: bytes, bound: bytes) -> bytes:
    """The same for a ciphertext that is in memory as a whole."""
    return unseal_chunks(_cut(sealed, CHUNK_SIZE), -(-len(sealed) // CHUNK_SIZE), key, bound)

"""How lists of chunks are written, on disk and between peers: manifests (what a blob is) and bitmaps (what is held)."""

from collections.abc import Collection, Sequence

from distrai.protocol.blobs import CHUNK_SIZE
from distrai.protocol.primitives import HASH_SIZE, Hash

_SIZE_BYTES = 8

Manifest = tuple[int, tuple[Hash, ...]]
"""Size of a blob in bytes, and its chunk hashes in order."""


def manifest_size(size: int) -> int:
    """Bytes of the manifest of a blob of ``size`` bytes."""
    return _SIZE_BYTES + HASH_SIZE * -(-size // CHUNK_SIZE)


def encode_manifest(size: int, hashes: Sequence[Hash]) -> bytes:
    """Size (u64, little-endian), then the chunk hashes."""
    return size.to_bytes(_SIZE_BYTES, "little") + b"".join(hashes)


def decode_manifest(raw: bytes) -> Manifest:
    """Size and chunk hashes; whether they belong to a blob is for ``check_manifest``."""
    size, rest = int.from_bytes(raw[:_SIZE_BYTES], "little"), raw[_SIZE_BYTES:]
    return size, tuple(Hash(rest[at : at + HASH_SIZE]) for at in range(0, len(rest), HASH_SIZE))


def bitmap_size(chunk_count: int) -> int:
    """Bytes of the bitmap of a blob of so many chunks."""
    return -(-chunk_count // 8)


def encode_bitmap(held: Collection[int], chunk_count: int) -> bytes:
    """One bit a chunk, the first in the lowest bit of the first byte."""
    bitmap = bytearray(bitmap_size(chunk_count))
    for index in held:
        bitmap[index >> 3] |= 1 << (index & 7)
    return bytes(bitmap)


def decode_bitmap(bitmap: bytes, chunk_count: int) -> frozenset[int]:
    """The chunks of a bitmap of ``bitmap_size(chunk_count)`` bytes; bits above the last chunk mean nothing."""
    return frozenset(index for index in range(chunk_count) if bitmap[index >> 3] >> (index & 7) & 1)

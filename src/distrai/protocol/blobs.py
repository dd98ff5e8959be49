"""Blobs: immutable bytes with a name that proves every chunk of them.

The name is BLAKE3 (in a context of its own) over the size and the BLAKE3 hashes of the 1 MiB chunks. Whoever knows
the name can check that list (the *manifest*) before the first byte arrives, and then each chunk by itself: a bad
chunk is found at once, and so is the one who sent it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import HASH_SIZE, Hash

CHUNK_SIZE = 1 << 20
"""Bytes in a chunk; only the last chunk of a blob may be shorter."""
_NAME_CONTEXT = "distrai 2026-11 blob name"
"""Keeps names of blobs apart from hashes of chunks: no chunk can have a blob's name."""


@dataclass(frozen=True, order=True, slots=True)
class BlobRef:
    """The name and the exact size (in bytes) of a blob."""

    hash: Hash
    size: int

    def __post_init__(self) -> None:
        if len(self.hash) != HASH_SIZE or self.size < 0:
            raise WrongBlob(f"a blob is named by {HASH_SIZE} bytes and a size of at least 0")

    @property
    def chunk_count(self) -> int:
        """How many chunks the blob has; an empty blob has none."""
        return -(-self.size // CHUNK_SIZE)

    def chunk_size(self, index: int) -> int:
        """Bytes in chunk ``index``."""
        assert 0 <= index < self.chunk_count
        return min(CHUNK_SIZE, self.size - index * CHUNK_SIZE)


def chunks(data: bytes | memoryview) -> Iterable[memoryview]:
    """Cut ``data`` into its 1 MiB chunks, without copying."""
    view = memoryview(data)
    return (view[start : start + CHUNK_SIZE] for start in range(0, len(view), CHUNK_SIZE))


def chunk_hash(chunk: bytes | memoryview) -> Hash:
    """BLAKE3 of one chunk."""
    return Hash(blake3(chunk).digest())


def chunk_hashes(data: bytes | memoryview) -> tuple[Hash, ...]:
    """The manifest of ``data``: the hash of each chunk, in order."""
    return tuple(chunk_hash(chunk) for chunk in chunks(data))


def manifest_hash(size: int, hashes: Sequence[Hash]) -> Hash:
    """The name of a blob of ``size`` bytes with these chunk hashes."""
    named = size.to_bytes(8, "little") + b"".join(hashes)
    return Hash(blake3(named, derive_key_context=_NAME_CONTEXT).digest())


def blob_ref(data: bytes | memoryview) -> BlobRef:
    """Name ``data``."""
    return BlobRef(manifest_hash(len(data), chunk_hashes(data)), len(data))


def check_manifest(blob: BlobRef, hashes: Sequence[Hash]) -> None:
    """Raise WrongManifest unless ``hashes`` are the chunk hashes of ``blob``."""
    if len(hashes) != blob.chunk_count or any(len(item) != HASH_SIZE for item in hashes):
        raise WrongManifest(f"blob {blob.hash.hex()[:12]} has {blob.chunk_count} chunks, not {len(hashes)}")
    if manifest_hash(blob.size, hashes) != blob.hash:
        raise WrongManifest(f"these chunk hashes do not belong to blob {blob.hash.hex()[:12]}")


def check_blob(blob: BlobRef, data: bytes | memoryview) -> None:
    """Raise WrongBlob unless ``data`` is exactly ``blob``."""
    if blob_ref(data) != blob:
        raise WrongBlob(f"the bytes are not blob {blob.hash.hex()[:12]} of {blob.size} bytes")

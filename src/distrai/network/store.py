"""Blobs on disk, whole or in part.

``<first 2 hex>/<hash>`` holds the bytes of a whole blob, ``<hash>.partial`` those of one that is still arriving,
and ``<hash>.manifest`` the size (u64, little-endian) and the chunk hashes. Which chunks of a partial blob are there
is found by hashing it, once per process: no second record can disagree with the bytes. Every read is checked, so
that what a bad disk did is never served to anyone. Memory is O(chunk) but for ``put`` and ``read``, which have the
blob anyway.
"""

import itertools
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from distrai.protocol.blobs import (
    CHUNK_SIZE,
    BlobRef,
    check_manifest,
    chunk_hash,
    chunk_hashes,
    chunks,
    manifest_hash,
)
from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import HASH_SIZE, Hash

_SIZE_BYTES = 8
_MANIFESTS_CACHED = 64

Manifest = tuple[int, tuple[Hash, ...]]
"""Size in bytes, and the chunk hashes in order."""


class MissingBlob(ValueError):
    """The blob or chunk is not in this store: fetch it from a holder first."""


class BlobStore:
    """A folder of blobs. Any thread may call anything; one process at a time owns the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for left_over in path.glob("??/*.tmp"):
            left_over.unlink()
        self._lock = threading.RLock()
        self._held: dict[Hash, set[int]] = {}
        self._manifests: dict[Hash, Manifest] = {}
        self._serial = itertools.count()

    # Whole blobs

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``; once this returns it survives a crash."""
        hashes = chunk_hashes(data)
        blob = BlobRef(manifest_hash(len(data), hashes), len(data))
        if not self.has(blob):
            self._write_manifest(blob, hashes)
            self._write(self._data_path(blob.hash), chunks(data))
            self._forget_partial(blob.hash)
        return blob

    def put_file(self, source: Path) -> BlobRef:
        """Keep a copy of a file, chunk by chunk. Raises WrongBlob if it changes meanwhile."""
        hashes, size = [], 0
        for chunk in _read_chunks(source):
            hashes.append(chunk_hash(chunk))
            size += len(chunk)
        blob = BlobRef(manifest_hash(size, hashes), size)
        if not self.has(blob):
            self._write_manifest(blob, hashes)
            self._write(self._data_path(blob.hash), _same(_read_chunks(source), hashes))
            self._forget_partial(blob.hash)
        return blob

    def has(self, blob: BlobRef) -> bool:
        """Whether the whole blob is here."""
        try:
            whole = self._data_path(blob.hash).stat().st_size == blob.size
        except FileNotFoundError:
            return False
        return whole

    def read(self, blob: BlobRef) -> bytes:
        """The bytes of a blob. Raises MissingBlob, or WrongBlob if the disk has damaged it."""
        if not self.has(blob):
            raise MissingBlob(f"blob {blob.hash.hex()[:12]} is not here: fetch it first")
        try:
            data = self._data_path(blob.hash).read_bytes()
        except FileNotFoundError:
            raise MissingBlob(f"blob {blob.hash.hex()[:12]} was deleted meanwhile: fetch it again") from None
        if manifest_hash(len(data), chunk_hashes(data)) != blob.hash:
            raise WrongBlob(f"the disk has damaged blob {blob.hash.hex()[:12]}: delete it and fetch it again")
        return data

    def delete(self, blob: BlobRef) -> None:
        """Forget a blob, or as much of it as there is."""
        with self._lock:
            self._held.pop(blob.hash, None)
            self._manifests.pop(blob.hash, None)
            for path in (self._data_path(blob.hash), self._partial_path(blob.hash)):
                path.unlink(missing_ok=True)
            self._manifest_path(blob.hash).unlink(missing_ok=True)

    def refs(self) -> Iterator[BlobRef]:
        """All whole blobs, by hash."""
        for path in sorted(self.path.glob("??/*")):
            if len(path.name) == 2 * HASH_SIZE:
                with suppress(FileNotFoundError, ValueError):
                    yield BlobRef(Hash(bytes.fromhex(path.name)), path.stat().st_size)

    # Chunks

    def manifest(self, hash_: Hash) -> Manifest:
        """Size and chunk hashes of a blob that is here at least in part. Raises MissingBlob, also if damaged."""
        with self._lock:
            if (known := self._manifests.get(hash_)) is not None:
                return known
        found = self._read_manifest(hash_)
        with self._lock:
            self._manifests[hash_] = found
            while len(self._manifests) > _MANIFESTS_CACHED:
                del self._manifests[next(iter(self._manifests))]
        return found

    def read_chunk(self, hash_: Hash, index: int) -> bytes:
        """One chunk of a whole or partial blob, checked. Raises MissingBlob, also where the disk damaged it."""
        _, hashes = self.manifest(hash_)
        try:
            with self._open_data(hash_) as file:
                file.seek(index * CHUNK_SIZE)
                data = file.read(CHUNK_SIZE)
        except FileNotFoundError:
            raise MissingBlob(f"blob {hash_.hex()[:12]} is not here") from None
        if index >= len(hashes) or chunk_hash(data) != hashes[index]:
            raise MissingBlob(f"chunk {index} of blob {hash_.hex()[:12]} is not here")
        return data

    def begin(self, blob: BlobRef, hashes: Sequence[Hash]) -> list[int]:
        """Prepare for the chunks of a blob; the indices that are still missing. Raises WrongManifest."""
        check_manifest(blob, hashes)
        with self._lock:
            if self.has(blob):
                return []
            self._write_manifest(blob, hashes)
            partial = self._partial_path(blob.hash)
            with partial.open("ab") as file:
                file.truncate(
                    blob.size
                )  # sparse: what has not arrived reads as zeros, and zeros do not verify
            held = self._held_of(blob.hash)
            if len(held) == blob.chunk_count:
                self._finish(blob.hash)
            return [index for index in range(blob.chunk_count) if index not in held]

    def write_chunk(self, hash_: Hash, index: int, data: bytes) -> bool:
        """Keep one chunk of a blob that was begun; whether that completed it. Raises WrongBlob, MissingBlob."""
        size, hashes = self.manifest(hash_)
        if not 0 <= index < len(hashes) or chunk_hash(data) != hashes[index]:
            raise WrongBlob(f"these bytes are not chunk {index} of blob {hash_.hex()[:12]}")
        with self._lock:
            if self.has(BlobRef(hash_, size)):
                return True
            held = self._held_of(hash_)
            with self._partial_path(hash_).open("r+b") as file:
                file.seek(index * CHUNK_SIZE)
                file.write(data)
            held.add(index)
            if len(held) < len(hashes):
                return False
            self._finish(hash_)
            return True

    def held(self, hash_: Hash) -> frozenset[int]:
        """The chunks of a blob that are here. Raises MissingBlob if nothing is known of it."""
        size, hashes = self.manifest(hash_)
        if self.has(BlobRef(hash_, size)):
            return frozenset(range(len(hashes)))
        with self._lock:
            return frozenset(self._held_of(hash_))

    # Files

    def _data_path(self, hash_: Hash) -> Path:
        name = hash_.hex()
        return self.path / name[:2] / name

    def _manifest_path(self, hash_: Hash) -> Path:
        return self._data_path(hash_).with_suffix(".manifest")

    def _partial_path(self, hash_: Hash) -> Path:
        return self._data_path(hash_).with_suffix(".partial")

    def _read_manifest(self, hash_: Hash) -> Manifest:
        try:
            size, hashes = decode_manifest(self._manifest_path(hash_).read_bytes())
            check_manifest(BlobRef(hash_, size), hashes)
        except (
            FileNotFoundError,
            WrongManifest,
        ):  # a blob of one chunk needs none, and one that is whole could do without
            try:
                hashes = tuple(chunk_hash(chunk) for chunk in _read_chunks(self._data_path(hash_)))
                size = self._data_path(hash_).stat().st_size
            except FileNotFoundError:
                raise MissingBlob(f"nothing is known of blob {hash_.hex()[:12]}") from None
            if manifest_hash(size, hashes) != hash_:
                raise MissingBlob(
                    f"the disk has damaged blob {hash_.hex()[:12]}: delete it and fetch it again"
                ) from None
        return size, hashes

    def _open_data(self, hash_: Hash) -> BinaryIO:
        try:
            return self._data_path(hash_).open("rb")
        except FileNotFoundError:
            return self._partial_path(hash_).open("rb")

    def _held_of(self, hash_: Hash) -> set[int]:
        """The chunks of a partial blob; after a restart, those that verify."""
        if hash_ not in self._held:
            _, hashes = self.manifest(hash_)
            try:
                found = enumerate(zip(_read_chunks(self._partial_path(hash_)), hashes, strict=False))
                self._held[hash_] = {i for i, (data, expected) in found if chunk_hash(data) == expected}
            except FileNotFoundError:
                raise MissingBlob(f"nothing of blob {hash_.hex()[:12]} is here") from None
        return self._held[hash_]

    def _finish(self, hash_: Hash) -> None:
        partial = self._partial_path(hash_)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(self._data_path(hash_))
        _sync_folder(partial.parent)
        self._held.pop(hash_, None)

    def _forget_partial(self, hash_: Hash) -> None:
        with self._lock:
            self._held.pop(hash_, None)
            self._partial_path(hash_).unlink(missing_ok=True)

    def _write_manifest(self, blob: BlobRef, hashes: Sequence[Hash]) -> None:
        path = self._manifest_path(blob.hash)
        path.parent.mkdir(exist_ok=True)
        raw = encode_manifest(blob.size, hashes)
        if len(hashes) > 1 and not (path.exists() and path.read_bytes() == raw):
            self._write(path, [raw])

    def _write(self, path: Path, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file so that it is whole or not there, whatever happens, and whoever else writes the same."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{next(self._serial)}.tmp")
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def encode_manifest(size: int, hashes: Sequence[Hash]) -> bytes:
    """The bytes of a manifest, on disk and between peers: size (u64, little-endian), then the chunk hashes."""
    return size.to_bytes(_SIZE_BYTES, "little") + b"".join(hashes)


def decode_manifest(raw: bytes) -> tuple[int, tuple[Hash, ...]]:
    """Size and chunk hashes; whether they belong to a blob is for ``check_manifest``."""
    size, rest = int.from_bytes(raw[:_SIZE_BYTES], "little"), raw[_SIZE_BYTES:]
    return size, tuple(Hash(rest[at : at + HASH_SIZE]) for at in range(0, len(rest), HASH_SIZE))


def manifest_size(size: int) -> int:
    """Bytes of the manifest of a blob of ``size`` bytes."""
    return _SIZE_BYTES + HASH_SIZE * -(-size // CHUNK_SIZE)


def bitmap_size(count: int) -> int:
    """Bytes of a bitmap of ``count`` chunks."""
    return -(-count // 8)


def encode_bitmap(held: Collection[int], count: int) -> bytes:
    """One bit a chunk, the first in the lowest bit of the first byte."""
    return sum(1 << index for index in held).to_bytes(bitmap_size(count), "little")


def decode_bitmap(raw: bytes, count: int) -> frozenset[int]:
    """The chunks of a bitmap of ``bitmap_size(count)`` bytes; bits above ``count`` mean nothing."""
    return frozenset(index for index in range(count) if raw[index >> 3] >> (index & 7) & 1)


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk


def _same(found: Iterable[bytes], hashes: Sequence[Hash]) -> Iterator[bytes]:
    """Pass chunks on while they are what was hashed before."""
    count = 0
    for chunk in found:
        if count >= len(hashes) or chunk_hash(chunk) != hashes[count]:
            raise WrongBlob("the file changed while it was copied: publish files that nobody writes to")
        count += 1
        yield chunk
    if count != len(hashes):
        raise WrongBlob("the file changed while it was copied: publish files that nobody writes to")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

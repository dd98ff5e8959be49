"""Blobs on disk, whole or in part.

In a folder by the first two hex digits, ``<hash>`` holds the bytes of a whole blob, ``<hash>.partial`` those of one
that is still arriving, and ``<hash>.manifest`` the list of chunks (a whole blob of one chunk needs none). Which chunks
of a partial blob are there is found by hashing it, once per process: no second record can disagree with the bytes.
Every read is checked, so that what a bad disk did is served to nobody. Memory is O(chunk) but for ``put`` and ``read``,
whose callers have the whole blob anyway.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from distrai.network.files import (
    clear_left_overs,
    link_whole,
    read_chunks,
    same_chunks,
    sync_file,
    sync_folder,
    write_whole,
    written_aside,
)
from distrai.network.manifests import Manifest, decode_manifest, encode_manifest
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

_MANIFESTS_CACHED = 64
_RELAYED_REMEMBERED = 4096


class MissingBlob(ValueError):
    """The blob or chunk is not in this store: fetch it from a holder first."""

    def __init__(self, hash_: Hash, what: str = "is not here: fetch it first") -> None:
        super().__init__(f"blob {hash_.hex()[:12]} {what}")


@dataclass
class _Partial:
    """What of a blob has arrived. The lock guards ``held`` and the end; writers of chunks cannot clash."""

    blob: BlobRef
    hashes: tuple[Hash, ...]
    held: set[int] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)


class BlobStore:
    """A folder of blobs. Any thread may call anything; one process at a time writes to the folder."""

    def __init__(self, path: Path) -> None:
        """Open or make the folder, and clear what a process that is gone left half written.

        Opening disturbs nobody: another process may read the blobs of the one that owns the folder.
        """
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, *path.glob("??")):
            clear_left_overs(folder)
        self._lock = threading.RLock()

    @cached_property
    def _partials(self) -> "dict[Hash, _Partial]":
        return {}

    @cached_property
    def _relayed(self) -> dict[Hash, None]:
        return {}

    @cached_property
    def _manifests(self) -> dict[Hash, Manifest]:
        return {}

    # Whole blobs

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``; once this returns it survives a crash."""
        hashes = chunk_hashes(data)
        return self._keep(BlobRef(manifest_hash(len(data), hashes), len(data)), hashes, chunks(data))

    def put_chunks(self, parts: Iterable[bytes]) -> BlobRef:
        """Keep a blob that comes chunk by chunk (each of CHUNK_SIZE bytes but the last): never in memory as a whole."""
        hashes: list[Hash] = []
        size = 0

        def hashed() -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                assert size % CHUNK_SIZE == 0 and 0 < len(part) <= CHUNK_SIZE
                hashes.append(chunk_hash(part))
                size += len(part)
                yield part

        with written_aside(self.path / "new", hashed()) as path:
            blob = BlobRef(manifest_hash(size, hashes), size)
            if not self.has(blob):
                self._make_room(blob, hashes)
                path.replace(self._data_path(blob.hash))
                sync_folder(self._data_path(blob.hash).parent)
                self._is_whole(blob)
            return blob

    def put_file(self, source: Path) -> BlobRef:
        """Keep a copy of a file. Raises WrongBlob if it changes meanwhile."""
        hashes, size = [], 0
        for chunk in read_chunks(source):
            hashes.append(chunk_hash(chunk))
            size += len(chunk)
        blob = BlobRef(manifest_hash(size, hashes), size)
        return self._keep(blob, hashes, same_chunks(read_chunks(source), hashes))

    def link(self, source: Path) -> BlobRef:
        """Keep a file without a second copy on the disk, where its file system can; nobody may write to it any more."""
        hashes = [chunk_hash(chunk) for chunk in read_chunks(source)]
        size = source.stat().st_size
        blob = BlobRef(manifest_hash(size, hashes), size)
        if self.has(blob):
            return blob
        self._make_room(blob, hashes)
        if not link_whole(source, self._data_path(blob.hash)):
            return self._keep(blob, hashes, same_chunks(read_chunks(source), hashes))
        self._is_whole(blob)
        return blob

    def give(self, blob: BlobRef, path: Path) -> None:
        """Put a whole blob at ``path`` as well, without a second copy where that can be. Raises MissingBlob."""
        source = self.path_of(blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if not link_whole(source, path):
            write_whole(path, read_chunks(source))

    def path_of(self, blob: BlobRef) -> Path:
        """Where the bytes of a whole blob are, to be read only. Raises MissingBlob."""
        if not self.has(blob):
            raise MissingBlob(blob.hash)
        return self._data_path(blob.hash)

    def has(self, blob: BlobRef) -> bool:
        """Whether the whole blob is here."""
        try:
            return self._data_path(blob.hash).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def read(self, blob: BlobRef) -> bytes:
        """The bytes of a blob. Raises MissingBlob, or WrongBlob if the disk has damaged them."""
        try:
            data = self._data_path(blob.hash).read_bytes()
        except FileNotFoundError:
            raise MissingBlob(blob.hash) from None
        if len(data) != blob.size or manifest_hash(len(data), chunk_hashes(data)) != blob.hash:
            raise WrongBlob(
                f"what is stored is not blob {blob.hash.hex()[:12]}: delete it and fetch it again"
            )
        return data

    def chunks(self, blob: BlobRef) -> Iterator[bytes]:
        """The chunks of a whole blob in order, each checked: what ``read`` gives, one at a time. Raises as ``read``."""
        path = self._data_path(blob.hash)
        if not path.exists():
            raise MissingBlob(blob.hash)
        try:
            size, hashes = self.manifest(blob.hash)
            if size != blob.size:
                raise WrongBlob("of another size")
            yield from same_chunks(read_chunks(path), hashes)
        except (MissingBlob, WrongBlob):
            raise WrongBlob(
                f"what is stored is not blob {blob.hash.hex()[:12]}: delete it and fetch it again"
            ) from None

    def delete(self, blob: BlobRef) -> None:
        """Forget a blob, or as much of it as there is."""
        with self._lock:
            self._partials.pop(blob.hash, None)
            self._manifests.pop(blob.hash, None)
            for path in (self._data_path, self._partial_path, self._manifest_path):
                path(blob.hash).unlink(missing_ok=True)

    def refs(self) -> Iterator[BlobRef]:
        """All whole blobs, by hash."""
        for path in sorted(self.path.glob("??/*")):
            if len(path.name) == 2 * HASH_SIZE:
                with suppress(FileNotFoundError, ValueError):
                    yield BlobRef(Hash(bytes.fromhex(path.name)), path.stat().st_size)

    # Chunks

    def is_relayed(self, hash_: Hash) -> bool:
        """Whether a blob came, or is coming, from others since this store was opened, as far as is remembered."""
        return hash_ in self._relayed

    def manifest(self, hash_: Hash) -> Manifest:
        """Size and chunk hashes of a blob that is here at least in part. Raises MissingBlob, also if damaged."""
        if (known := self._manifests.get(hash_)) is not None:
            return known
        found = self._read_manifest(hash_)
        with self._lock:
            self._manifests[hash_] = found
            while len(self._manifests) > _MANIFESTS_CACHED:
                del self._manifests[next(iter(self._manifests))]
        return found

    def held(self, hash_: Hash) -> frozenset[int]:
        """The chunks of a blob that are here. Raises MissingBlob if nothing is known of it."""
        size, hashes = self.manifest(hash_)
        if self.has(BlobRef(hash_, size)):
            return frozenset(range(len(hashes)))
        partial = self._partial(hash_)
        with partial.lock:
            return frozenset(partial.held)

    def read_chunk(self, hash_: Hash, index: int) -> bytes:
        """One chunk of a whole or partial blob, checked. Raises MissingBlob, also where the disk damaged it."""
        _, hashes = self.manifest(hash_)
        if not 0 <= index < len(hashes):
            raise MissingBlob(hash_, f"has no chunk {index}")
        try:
            with self._open_data(hash_) as file:
                file.seek(index * CHUNK_SIZE)
                data = file.read(CHUNK_SIZE)
        except FileNotFoundError:
            raise MissingBlob(hash_) from None
        if chunk_hash(data) != hashes[index]:
            raise MissingBlob(hash_, f"is here without chunk {index}")
        return data

    def begin(self, blob: BlobRef, hashes: Sequence[Hash]) -> list[int]:
        """Prepare for the chunks of a blob; the indices that are still missing. Raises WrongManifest."""
        check_manifest(blob, hashes)
        if self.has(blob):
            return []
        self._write_manifest(blob, hashes)
        self._remember_relayed(blob.hash)
        partial = self._begin_partial(blob, hashes)
        with partial.lock:
            if len(partial.held) == len(partial.hashes):
                self._finish(partial)
            return [index for index in range(len(hashes)) if index not in partial.held]

    def write_chunk(self, hash_: Hash, index: int, data: bytes) -> bool:
        """Keep one chunk of a blob that was begun; whether that completed it. Raises WrongBlob, MissingBlob."""
        size, hashes = self.manifest(hash_)
        if not 0 <= index < len(hashes) or chunk_hash(data) != hashes[index]:
            raise WrongBlob(f"these bytes are not chunk {index} of blob {hash_.hex()[:12]}")
        if self.has(BlobRef(hash_, size)):
            return True
        partial = self._partial(hash_)
        try:
            with self._partial_path(hash_).open("r+b") as file:
                file.seek(index * CHUNK_SIZE)
                file.write(data)
        except FileNotFoundError:  # completed or deleted meanwhile
            return self.has(partial.blob)
        with partial.lock:
            partial.held.add(index)
            if len(partial.held) == len(hashes):
                self._finish(partial)
            return len(partial.held) == len(hashes)

    # Files

    def _data_path(self, hash_: Hash) -> Path:
        name = hash_.hex()
        return self.path / name[:2] / name

    def _manifest_path(self, hash_: Hash) -> Path:
        return self._data_path(hash_).with_suffix(".manifest")

    def _partial_path(self, hash_: Hash) -> Path:
        return self._data_path(hash_).with_suffix(".partial")

    def _open_data(self, hash_: Hash) -> BinaryIO:
        for path in (self._data_path(hash_), self._partial_path(hash_)):
            with suppress(FileNotFoundError):
                return path.open("rb")
        return self._data_path(hash_).open("rb")  # it became whole in between, or is not here

    def _keep(self, blob: BlobRef, hashes: Sequence[Hash], parts: Iterable[bytes | memoryview]) -> BlobRef:
        if not self.has(blob):
            self._make_room(blob, hashes)
            write_whole(self._data_path(blob.hash), parts)
            self._is_whole(blob)
        return blob

    def _make_room(self, blob: BlobRef, hashes: Sequence[Hash]) -> None:
        """What must be there before a whole blob is: its folder, and the list of its chunks."""
        self._data_path(blob.hash).parent.mkdir(exist_ok=True)
        if len(hashes) > 1:
            self._write_manifest(blob, hashes)

    def _is_whole(self, blob: BlobRef) -> None:
        """Forget the part of a blob that just became whole."""
        with self._lock:
            self._partials.pop(blob.hash, None)
            self._partial_path(blob.hash).unlink(missing_ok=True)

    def _write_manifest(self, blob: BlobRef, hashes: Sequence[Hash]) -> None:
        path = self._manifest_path(blob.hash)
        path.parent.mkdir(exist_ok=True)
        raw = encode_manifest(blob.size, hashes)
        if not path.exists() or path.read_bytes() != raw:
            write_whole(path, [raw])

    def _read_manifest(self, hash_: Hash) -> Manifest:
        with suppress(FileNotFoundError, WrongManifest):
            size, hashes = decode_manifest(self._manifest_path(hash_).read_bytes())
            check_manifest(BlobRef(hash_, size), hashes)
            return size, hashes
        path = self._data_path(hash_)
        try:
            size, hashes = path.stat().st_size, tuple(chunk_hash(chunk) for chunk in read_chunks(path))
        except FileNotFoundError:
            raise MissingBlob(hash_) from None
        if manifest_hash(size, hashes) != hash_:
            raise MissingBlob(hash_, "was damaged by the disk: delete it and fetch it again")
        return size, hashes

    def _partial(self, hash_: Hash) -> _Partial:
        """A partial blob; after a restart, with the chunks that verify. Raises MissingBlob."""
        size, hashes = self.manifest(hash_)
        with self._lock:
            partial = self._partials.get(hash_)
            if partial is None:
                partial = _Partial(BlobRef(hash_, size), hashes)
                try:
                    found = enumerate(zip(read_chunks(self._partial_path(hash_)), hashes, strict=False))
                    partial.held = {index for index, (data, known) in found if chunk_hash(data) == known}
                except FileNotFoundError:
                    raise MissingBlob(hash_) from None
                self._partials[hash_] = partial
            return partial

    def _begin_partial(self, blob: BlobRef, hashes: Sequence[Hash]) -> _Partial:
        path = self._partial_path(blob.hash)
        with self._lock:
            is_new = not path.exists()
            with path.open("ab") as file:
                file.truncate(blob.size)  # sparse: what has not arrived reads as zeros
            if is_new:  # nothing to hash
                self._partials[blob.hash] = _Partial(blob, tuple(hashes))
        return self._partial(blob.hash)

    def _remember_relayed(self, hash_: Hash) -> None:
        with self._lock:
            self._relayed[hash_] = None
            while len(self._relayed) > _RELAYED_REMEMBERED:
                del self._relayed[next(iter(self._relayed))]

    def _finish(self, partial: _Partial) -> None:
        """All chunks have arrived: from here on the blob is whole, durably. Called with the partial's lock."""
        path = self._partial_path(partial.blob.hash)
        with suppress(FileNotFoundError):  # somebody put the whole blob meanwhile, or deleted it
            sync_file(path)
            path.replace(self._data_path(partial.blob.hash))
            sync_folder(path.parent)
        with self._lock:
            self._partials.pop(partial.blob.hash, None)

"""Ciphertexts that were fetched and never listed: forgotten once no reorg can list them any more.

An author may announce two updates a round, and a list holds one: without this they would fill the disk.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Hash


class Leftovers:
    """The unlisted ciphertexts of the last rounds, by round, in a folder of small files that name them."""

    def __init__(self, folder: Path, blobs: BlobStore) -> None:
        self.folder, self.blobs = folder, blobs

    def put(self, round_number: int, blobs: Sequence[BlobRef]) -> None:
        """Note what a round leaves over. A file lost in a crash leaves ciphertexts of one round lying."""
        if not blobs:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{round_number:08d}.msgpack"
        known = self._read(path) if path.exists() else []  # the round was on before a reorg
        path.write_bytes(msgspec.msgpack.encode([*known, *((blob.hash, blob.size) for blob in blobs)]))

    def prune(self, through: int, listed: Callable[[], frozenset[Hash]]) -> None:
        """Delete what rounds up to this one left over, but for blobs that are ``listed`` by now."""
        for path in sorted(self.folder.glob("*.msgpack")):
            if int(path.stem) > through:
                return
            needed = listed()
            for name, size in self._read(path):
                blob = BlobRef(name, size)
                if name not in needed and self.blobs.has(blob):
                    self.blobs.delete(blob)
            path.unlink()

    def _read(self, path: Path) -> list[tuple[Hash, int]]:
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=list[tuple[Hash, int]])
        except msgspec.DecodeError:
            return []  # cut off by a crash

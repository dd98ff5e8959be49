"""Records that wait on disk for their order: which split one belongs to is known when all have been seen."""

from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from distrai.training.data.documents import Split
from distrai.training.data.splitting import splits_of

_INDEX = np.dtype(
    [
        ("key0", ">u8"),
        ("key1", ">u8"),
        ("digest0", ">u8"),
        ("digest1", ">u8"),
        ("start", "<u8"),
        ("size", "<u8"),
    ]
)
"""Halves of two hashes, and where a record is: 48 bytes of memory for each."""


class Spool:
    """Keeps records in a file without a name; equal ones once. Use it in ``with``."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._index = bytearray()
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: bytes, record: bytes) -> None:
        """Keep a record; those with equal ``key`` are in one split."""
        hashes = blake3(key).digest(16) + blake3(record).digest(16)
        self._index += hashes + np.array([self._end, len(record)], "<u8").tobytes()
        self._file.write(record)
        self._end += len(record)

    def __len__(self) -> int:
        """Records added, equal ones too."""
        return len(self._index) // _INDEX.itemsize

    def read(
        self, held_out_fraction: float, tuning_fraction: float, what: str, by_size: bool = False
    ) -> Iterator[tuple[Split, bytes]]:
        """Every record and its split, in the order of the hashes: of the keys, and then of the records.

        Fractions are shares of the records, or of their bytes. ``what`` is as for ``splits_of``. Raises CorpusTooSmall.
        """
        index = self._sorted()
        keys = index[["key0", "key1"]]
        new = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(index) else np.zeros(0, np.int64)
        weights = index["size"].astype(np.int64) if by_size else np.ones(len(index), np.int64)
        sizes = np.add.reduceat(weights, new).tolist() if len(index) else []
        splits = splits_of(sizes, held_out_fraction, tuning_fraction, what)
        group = -1
        starts = set(new.tolist())
        for at, (start, size) in enumerate(zip(index["start"].tolist(), index["size"].tolist(), strict=True)):
            group += at in starts
            self._file.seek(start)
            yield splits[group], self._file.read(size)

    def _sorted(self) -> NDArray[np.void]:
        index = np.frombuffer(self._index, _INDEX)
        index = index[
            np.lexsort([index[name] for name in ("digest1", "digest0", "key1", "key0")])  # the last one first
        ]
        _, first = np.unique(index[["digest0", "digest1"]], return_index=True)
        kept: NDArray[np.void] = index[np.sort(first)]
        return kept

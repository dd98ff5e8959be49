"""Samples by index, in any of the ``layouts``.

Of running text, sample i is the ``context + 1`` tokens from token ``i * context`` of a split, so every token but the
first is predicted exactly once. A sample may span shards. Shards are read through a callback (a peer fetches them by
hash from anyone who holds them) and kept in a cache with a bound.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distrai.protocol.blobs import BlobRef, check_blob
from distrai.protocol.recipe import DataSection
from distrai.training.data.documents import Split
from distrai.training.data.layouts import TOKEN_MASK, UNSCORED, layout_of, sample_shape
from distrai.training.data.manifest import TOKEN_BYTES, CorpusManifest, Shard
from distrai.training.errors import (
    CorpusTooSmall,
    MalformedManifest,
    NothingScored,
    SampleOutOfRange,
    TokenOutOfVocabulary,
)

ReadBlob = Callable[[BlobRef], bytes]
"""The bytes of a blob; may fetch them first."""

CACHE_BYTES = 256 << 20


def check_layout(manifest: CorpusManifest, section: DataSection) -> None:
    """Raise MalformedManifest if a corpus is not laid out as the recipe says: the objective could not read it."""
    wanted = layout_of(section)
    if manifest.layout != wanted:
        raise MalformedManifest(f"the corpus has {manifest.layout}, but the recipe's data becomes {wanted}")


class Dataset:
    """The samples of one split of a corpus."""

    def __init__(
        self,
        manifest: CorpusManifest,
        split: Split,
        context: int,
        vocabulary: int,
        read: ReadBlob,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """``context`` in tokens; ids from ``vocabulary`` on are refused when their shard is read.

        Raises CorpusTooSmall if the split has not one sample, NothingScored if its rows are of another length.
        """
        assert context >= 1
        self._shards = manifest.shards(split)
        self._dtype = np.dtype(f"<u{TOKEN_BYTES[manifest.token_dtype]}")
        self._ends = np.cumsum([0] + [shard.tokens for shard in self._shards], dtype=np.int64)
        self._context, self._vocabulary = context, vocabulary
        self.layout, self._shape = manifest.layout, sample_shape(manifest.layout, context)
        self._read, self._cache_bytes = read, cache_bytes
        self._cache: OrderedDict[int, NDArray[np.unsignedinteger]] = OrderedDict()
        self.tokens_total = int(self._ends[-1])
        self._check_rows(split)
        over = self._shape.width - self._shape.stride
        self.samples_total = max(0, self.tokens_total - over) // self._shape.stride
        if self.samples_total == 0:
            raise CorpusTooSmall(
                f"{split} has {self.tokens_total} tokens, but a sample needs {context + 1}; lower context in [data]"
            )

    @property
    def context(self) -> int:
        """Tokens that are predicted in a row."""
        return self._context

    @property
    def sample_tokens(self) -> int:
        """Positions that are predicted in a sample, scored or not."""
        return self._shape.tokens

    def sample(self, index: int) -> NDArray[np.int64]:
        """Sample ``index``: ``(width,)`` int64, which is ``context + 1``, or twice that for pairs.

        Raises SampleOutOfRange, TokenOutOfVocabulary, NothingScored or WrongBlob.
        """
        if not 0 <= index < self.samples_total:
            raise SampleOutOfRange(f"sample {index} is not below {self.samples_total}")
        start = here = index * self._shape.stride
        end = start + self._shape.width
        out = np.empty(self._shape.width, np.int64)
        shard = int(np.searchsorted(self._ends, start, side="right")) - 1
        while here < end:
            first, last = int(self._ends[shard]), min(end, int(self._ends[shard + 1]))
            out[here - start : last - start] = self._tokens(shard)[here - first : last - first]
            here, shard = last, shard + 1
        return out

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The samples of ``indices``: ``(len(indices), width)`` int64, CPU. Raises as ``sample``."""
        return torch.from_numpy(np.stack([self.sample(index) for index in indices]))

    def evenly(self, count: int) -> list[int]:
        """At most ``count`` different indices, evenly spaced over the split."""
        wanted = min(count, self.samples_total)
        return [at * self.samples_total // wanted for at in range(wanted)]

    def blobs(self) -> list[BlobRef]:
        """Every shard of the split, in order: what to fetch in order to hold it all."""
        return [shard.blob for shard in self._shards]

    def _tokens(self, at: int) -> NDArray[np.unsignedinteger]:
        if at in self._cache:
            self._cache.move_to_end(at)
            return self._cache[at]
        tokens = self._load(self._shards[at])
        self._cache[at] = tokens
        while len(self._cache) > 1 and sum(item.nbytes for item in self._cache.values()) > self._cache_bytes:
            self._cache.popitem(last=False)
        return tokens

    def _load(self, shard: Shard) -> NDArray[np.unsignedinteger]:
        data = self._read(shard.blob)
        check_blob(shard.blob, data)
        tokens: NDArray[np.unsignedinteger] = np.frombuffer(data, self._dtype)
        if self.layout != "windows":
            self._check_scored(shard, tokens)
        largest = int((tokens & TOKEN_MASK if self.layout != "windows" else tokens).max())
        if largest >= self._vocabulary:
            raise TokenOutOfVocabulary(
                f"shard {shard.hash[:14]} has token {largest}, but the tokenizer has {self._vocabulary} ids"
            )
        return tokens

    def _check_rows(self, split: Split) -> None:
        if self.layout == "windows":
            return
        width = self._shape.width
        if any(shard.tokens % width for shard in self._shards):
            raise NothingScored(
                f"{split} has {self.layout} of another length than {width} entries: this corpus was made for another "
                f"context in [data]"
            )

    def _check_scored(self, shard: Shard, entries: NDArray[np.unsignedinteger]) -> None:
        """Every row has something to predict: its mean loss would be no number otherwise."""
        rows = entries.reshape(-1, self._context + 1)
        if not (rows[:, 1:] < UNSCORED).any(axis=1).all():
            raise NothingScored(f"shard {shard.hash[:14]} has a row in which nothing is to be predicted")

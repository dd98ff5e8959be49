"""Chunked top-k with 12-bit indices and coded values (DeMo, arXiv:2411.19870; SparseLoCo, arXiv:2508.15706).

A chunk is a tile of 64 x 64 of a matrix (leading dimensions flattened into rows) or, where a side is below 64
as in vectors and LoRA factors, a run of 4096 elements. Tiles and runs at an edge hold fewer elements and send
proportionately fewer, rounded up. The largest magnitudes are sent, among equal ones the lower index.

A span is a band of tiles or some runs: [table, if any] [indices, two in three bytes] [values], see `values`
for both. Bits left over are zero. Indices ascend within a chunk; a chunk's index is 64 * row + column within
its tile (also at an edge), or the place within its run.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from distrai.algorithms.codecs.base import Codec, SpanValues
from distrai.algorithms.codecs.bits import pack12, packed12_size, unpack12
from distrai.algorithms.codecs.sparse import (
    CHUNK,
    ascending,
    largest,
    magnitude,
    parsed,
    values_size,
    written,
)
from distrai.algorithms.errors import IndexOutOfBounds
from distrai.algorithms.layout import PIECE_NUMEL, Layout, Piece, TensorSpec, pieces

SIDE = 64


class TopK(Codec):
    """Sends the `k` largest of each 4096, with values of 1, 2 or 32 bits."""

    sparse = True
    options: ClassVar[dict[str, tuple[int, ...] | range]] = {
        "k": range(1, CHUNK + 1),
        "value_bits": (1, 2, 32),
    }

    def __init__(self, layout: Layout, k: int = 64, value_bits: int = 2) -> None:
        self.k = k
        self.value_bits = value_bits
        super().__init__(layout)

    @property
    def id(self) -> str:
        return f"topk-{self.k}-{self.value_bits}bit"

    def _pieces(self) -> tuple[Piece, ...]:
        return tuple(
            piece
            for index, spec in enumerate(self.layout.tensors)
            for piece in (_bands(index, spec) if _is_tiled(spec) else _runs(index, spec))
        )

    def _span_size(self, piece: Piece) -> int:
        grid = self._grid(piece)
        return self._index_size(grid) + values_size(sum(grid.counts(self.k)), self.value_bits)

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        grid = self._grid(piece)
        indices = largest(grid.chunked(magnitude(x), -1), grid.counts(self.k))
        where = grid.flat_index(grid.owners(self.k, x.device), indices)
        return written(self._packed(grid, indices), x[where], self.value_bits)

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        grid = self._grid(piece)
        owners = grid.owners(self.k, data.device)
        packed, values = parsed(data, self._index_size(grid), owners.numel(), self.value_bits)
        return SpanValues(values, _checked(grid, owners, self._unpacked(grid, owners, packed)))

    def _index_size(self, grid: "Grid") -> int:
        return packed12_size(sum(grid.counts(self.k)))

    def _packed(self, grid: "Grid", indices: Tensor) -> Tensor:
        """The bytes (uint8) of indices within their chunks, which ascend in each."""
        return pack12(indices)

    def _unpacked(self, grid: "Grid", owners: Tensor, data: Tensor) -> Tensor:
        """The inverse, for sent elements of these chunks."""
        return unpack12(data, owners.numel())

    def _grid(self, piece: Piece) -> "Grid":
        spec = self.layout.tensors[piece.tensor]
        return Grid(piece.numel, spec.shape[-1] if _is_tiled(spec) else 0)


@dataclass(frozen=True)
class Grid:
    """The chunks of a span of `numel` elements: tiles of rows `columns` long, or runs if `columns` is 0."""

    numel: int
    columns: int

    def counts(self, k: int) -> tuple[int, ...]:
        """How many elements each chunk sends: its share of k, rounded up."""
        return _counts(self.numel, self.columns, k)

    def owners(self, k: int, device: torch.device) -> Tensor:
        """The chunk that each sent element is of (int64, ascending)."""
        counts = torch.tensor(self.counts(k), device=device)
        return torch.repeat_interleave(torch.arange(counts.numel(), device=device), counts)

    def chunked(self, x: Tensor, fill: int) -> Tensor:
        """A flat tensor of the span as (chunks, 4096), with `fill` where an edge has no element."""
        if not self.columns:
            return _padded(x, (-(-self.numel // CHUNK) * CHUNK,), fill).view(-1, CHUNK)
        rows = self.numel // self.columns
        down, across = -(-rows // SIDE), -(-self.columns // SIDE)
        whole = _padded(x.view(rows, self.columns), (down * SIDE, across * SIDE), fill)
        return whole.view(down, SIDE, across, SIDE).permute(0, 2, 1, 3).reshape(-1, CHUNK)

    def flat_index(self, chunk: Tensor, index: Tensor) -> Tensor:
        """Place within the span of an index within a chunk; `numel` where the chunk has no such element."""
        if not self.columns:
            return torch.clamp(chunk * CHUNK + index, max=self.numel)
        across = -(-self.columns // SIDE)
        row = torch.div(chunk, across, rounding_mode="floor") * SIDE + (index >> 6)
        column = (chunk % across) * SIDE + (index & (SIDE - 1))
        outside = (column >= self.columns) | (row * self.columns >= self.numel)
        return torch.where(outside, self.numel, row * self.columns + column)


def _is_tiled(spec: TensorSpec) -> bool:
    return len(spec.shape) > 1 and spec.shape[-1] >= SIDE and spec.numel // spec.shape[-1] >= SIDE


def _runs(index: int, spec: TensorSpec) -> tuple[Piece, ...]:
    whole = Layout((spec,))
    return tuple(Piece(index, piece.start, piece.stop) for piece in pieces(whole))


def _bands(index: int, spec: TensorSpec) -> tuple[Piece, ...]:
    step = max(1, PIECE_NUMEL // (SIDE * spec.shape[-1])) * SIDE * spec.shape[-1]
    return tuple(Piece(index, at, min(at + step, spec.numel)) for at in range(0, spec.numel, step))


@lru_cache(maxsize=256)
def _counts(numel: int, columns: int, k: int) -> tuple[int, ...]:
    if not columns:
        sizes = _edges(numel, CHUNK)
    else:
        sizes = [high * wide for high in _edges(numel // columns, SIDE) for wide in _edges(columns, SIDE)]
    return tuple(-(-size * k // CHUNK) for size in sizes)


def _edges(length: int, step: int) -> list[int]:
    """Lengths of the parts when `length` is cut every `step`."""
    return [min(step, length - at) for at in range(0, length, step)]


def _padded(x: Tensor, shape: tuple[int, ...], fill: int) -> Tensor:
    if tuple(x.shape) == shape:
        return x
    padded = torch.full(shape, fill, dtype=x.dtype, device=x.device)
    padded[tuple(slice(0, size) for size in x.shape)] = x
    return padded


def _checked(grid: Grid, owners: Tensor, indices: Tensor) -> Tensor:
    """The places within the span of indices that a peer sent, after checking them."""
    ascending(owners * CHUNK + indices)
    where = grid.flat_index(owners, indices)
    if bool((where >= grid.numel).any().item()):
        raise IndexOutOfBounds("an index is outside its tensor")
    return where

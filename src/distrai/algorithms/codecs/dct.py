"""Top-k of the cosine transforms of blocks (DeMo, arXiv:2411.19870).

A matrix (leading dimensions flattened into rows) is cut into blocks whose sides are the largest divisors, at
most 64, of its own; a vector into rows of such a length. Of every block the largest coefficients are sent:
k of 4096, rounded up in smaller blocks; of equal ones the lower index. A coefficient's index in its block is
row * width + column. A span is a band of whole blocks; its bytes are as `sparse` says.

Norms and means are taken of coefficients (the transform is orthonormal and linear), and one inverse
transform of each span follows.
"""

from typing import ClassVar

import torch
from torch import Tensor

from distrai.algorithms import arithmetic, dct
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
from distrai.algorithms.layout import PIECE_NUMEL, Layout, Piece, TensorSpec


class Dct(Codec):
    """Sends the `k` largest coefficients of each 4096, with values of 1 or 32 bits."""

    sparse = True
    options: ClassVar[dict[str, tuple[int, ...] | range]] = {"k": range(1, CHUNK + 1), "value_bits": (1, 32)}

    def __init__(self, layout: Layout, k: int = 32, value_bits: int = 32) -> None:
        self.k = k
        self.value_bits = value_bits
        super().__init__(layout)

    @property
    def id(self) -> str:
        return f"dct-{self.k}-{self.value_bits}bit"

    def _pieces(self) -> tuple[Piece, ...]:
        found = []
        for index, spec in enumerate(self.layout.tensors):
            band = _width(spec) * _sides(spec)[0]
            step = max(1, PIECE_NUMEL // band) * band
            found += [Piece(index, at, min(at + step, spec.numel)) for at in range(0, spec.numel, step)]
        return tuple(found)

    def _span_size(self, piece: Piece) -> int:
        blocks, _, each = self._shape(piece)
        return packed12_size(blocks * each) + values_size(blocks * each, self.value_bits)

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        blocks, numel, each = self._shape(piece)
        coefficients = self.to_domain(piece, x)
        indices = largest(magnitude(coefficients).view(blocks, numel), (each,) * blocks)
        where = self._firsts(piece, x.device) + indices
        return written(pack12(indices), coefficients[where], self.value_bits)

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        blocks, numel, each = self._shape(piece)
        count = blocks * each
        packed, values = parsed(data, packed12_size(count), count, self.value_bits)
        indices = unpack12(packed, count)
        if bool((indices >= numel).any().item()):
            raise IndexOutOfBounds("an index is outside its block")
        where = self._firsts(piece, data.device) + indices
        ascending(where)
        return SpanValues(values, where)

    def to_domain(self, piece: Piece, x: Tensor) -> Tensor:
        """The coefficients of a piece, block after block."""
        spec = self.layout.tensors[piece.tensor]
        high, wide = _sides(spec)
        whole = (
            x.view(-1, high, _width(spec) // wide, wide).transpose(1, 2).reshape(-1, high, wide).contiguous()
        )
        found = torch.empty_like(whole)
        for part, out in zip(_batches(whole), _batches(found), strict=True):
            out.copy_(dct.forward(part))
        return found.view(-1)

    def from_domain(self, piece: Piece, coefficients: Tensor) -> Tensor:
        spec = self.layout.tensors[piece.tensor]
        high, wide = _sides(spec)
        whole = coefficients.view(-1, high, wide)
        found = torch.empty_like(whole)
        for part, out in zip(_batches(whole), _batches(found), strict=True):
            out.copy_(dct.inverse(part))
        return found.view(-1, _width(spec) // wide, high, wide).transpose(1, 2).reshape(-1)

    def _shape(self, piece: Piece) -> tuple[int, int, int]:
        """How many blocks a piece has, the elements of each, and how many of these are sent."""
        high, wide = _sides(self.layout.tensors[piece.tensor])
        numel = high * wide
        return piece.numel // numel, numel, -(-numel * self.k // CHUNK)

    def _firsts(self, piece: Piece, device: torch.device) -> Tensor:
        """For every coefficient that is sent, where its block starts."""
        blocks, numel, each = self._shape(piece)
        return (torch.arange(blocks, device=device) * numel).repeat_interleave(each)


def _width(spec: TensorSpec) -> int:
    """Elements of a row: of a matrix its own, of a vector the length of a block."""
    if len(spec.shape) > 1:
        return spec.shape[-1]
    return dct.side(spec.numel)


def _sides(spec: TensorSpec) -> tuple[int, int]:
    """Height and width of a tensor's blocks."""
    rows = spec.numel // spec.shape[-1] if len(spec.shape) > 1 else 1
    return dct.side(rows), dct.side(_width(spec))


def _batches(blocks: Tensor) -> tuple[Tensor, ...]:
    """Some blocks at a time, which stay in a CPU's cache."""
    if blocks.device.type != "cpu":
        return (blocks,)
    return torch.split(blocks, max(1, arithmetic.BLOCK_NUMEL // blocks[0].numel()))

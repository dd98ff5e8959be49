"""bfloat16: the upper half of fp32, rounded to nearest, to the even one of two."""

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, SpanValues, as_bytes
from distrai.algorithms.codecs.fp32 import read_fp32
from distrai.algorithms.layout import Piece, pieces

LARGEST = 0x7F7F
"""The largest finite bfloat16: what would round to infinity becomes this."""


class Bf16(Codec):
    """Two bytes per parameter, in order, little-endian."""

    @property
    def id(self) -> str:
        return "bf16"

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _span_size(self, piece: Piece) -> int:
        return 2 * piece.numel

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        halves = torch.empty(x.shape, dtype=torch.int16, device=x.device)
        for block, out in zip(arithmetic.blocks(x), arithmetic.blocks(halves), strict=True):
            out.copy_(_rounded(block.contiguous().view(torch.int32)))
        return as_bytes(halves)

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        halves = data.clone().view(torch.int16).to(torch.int32)
        return SpanValues(read_fp32(as_bytes(halves << 16), "a value"))


def _rounded(bits: Tensor) -> Tensor:
    """Bits of fp32 (int32) to those of bfloat16 in the lower half of an int32; nothing is -0.0."""
    magnitude = bits & 0x7FFFFFFF
    even = (magnitude >> 16) & 1
    rounded = torch.clamp((magnitude + (0x7FFF + even)) >> 16, max=LARGEST)
    negative = (bits < 0) & (rounded > 0)
    return torch.where(negative, rounded - 0x8000, rounded)

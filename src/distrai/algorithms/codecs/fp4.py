"""FP4 E3M0, the wire format of Streaming DiLoCo (arXiv:2501.18512): a sign and a power of two, or 0.

A piece is [one scale byte per block of 128] [codes, two in a byte, the first in its low half]. A scale byte s
names the block's largest magnitude, 2^(s - 127), or says with 0 that the block is all 0. A code is a sign (8)
and 0 for zero, or c = 1..7 for 2^(c - 7) times that magnitude.

All is comparisons and shifts of the bits of fp32. Rounding is to the nearest exponent: a mantissa below
sqrt(2) goes down. Between 0 and the smallest power it is to the nearest value. What is below the normal range
of fp32 becomes 0; what would round to 2^128 becomes 2^127.
"""

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, SpanValues
from distrai.algorithms.codecs.bits import pack4, packed4_size, unpack4
from distrai.algorithms.errors import NonCanonicalCodes, NonFinitePayload
from distrai.algorithms.layout import Piece, pieces

BLOCK = 128
TOP = 7
"""The code of a block's largest magnitude."""
SIGN = 8
SCALE_MAX = 254
_MANTISSA = 23
_ROUND_UP = 0x800000 - 0x3504F4
"""Carries into the exponent from a mantissa above sqrt(2), which lies between 0x3504F3 and 0x3504F4."""


class Fp4(Codec):
    """Half a byte per parameter and a byte per 128."""

    @property
    def id(self) -> str:
        return "fp4-e3m0"

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _span_size(self, piece: Piece) -> int:
        return _block_count(piece) + packed4_size(piece.numel)

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        parts = [_encoded(block) for block in arithmetic.blocks(x)]
        scales, codes = (torch.cat(found) for found in zip(*parts, strict=True))
        return torch.cat((scales, pack4(codes)))

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        count = _block_count(piece)
        scales, codes = data[:count], unpack4(data[count:], piece.numel)
        _check(scales, codes)
        unit = (scales.to(torch.int32) << _MANTISSA).view(torch.float32)
        values = arithmetic.looked_up(_table(data.device), codes)
        return SpanValues((_blocked(values) * unit.view(-1, 1)).view(-1)[: piece.numel])


def _encoded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale bytes (blocks) and codes (elements) of a flat tensor."""
    bits = _blocked(x).contiguous().view(torch.int32)
    magnitude = bits & 0x7FFFFFFF
    scales = _exponent(magnitude.amax(dim=1, keepdim=True)).clamp_(max=SCALE_MAX)
    codes = (_exponent(magnitude) - (scales - TOP)).clamp_(0, TOP)
    # Half of the smallest power and more is nearer to it than to 0.
    nonzero = (scales > 0) & ((magnitude >> _MANTISSA) >= torch.clamp(scales - TOP, min=1))
    codes = torch.where(nonzero, codes.clamp(min=1), 0)
    codes += ((bits < 0) & (codes > 0)).to(torch.int32) * SIGN
    return scales.view(-1).to(torch.uint8), codes.view(-1)[: x.numel()].to(torch.uint8)


def _exponent(magnitude: Tensor) -> Tensor:
    """The biased exponent of the nearest power of two, of bits of fp32; 0 below the normal range."""
    rounded = (magnitude + _ROUND_UP) >> _MANTISSA
    return torch.where(magnitude >> _MANTISSA > 0, rounded, 0)


def _check(scales: Tensor, codes: Tensor) -> None:
    """Raises a `PayloadError` for bytes that no encoder writes: one update has one form."""
    if bool((scales > SCALE_MAX).any().item()):
        raise NonFinitePayload("a block's scale is above the range of fp32")
    if bool((codes == SIGN).any().item()):
        raise NonCanonicalCodes("a code is a zero with a sign")
    largest = _blocked(codes & TOP).amax(dim=1)
    if bool((largest != (scales > 0) * TOP).any().item()):
        raise NonCanonicalCodes("a block's scale is not that of its largest value")


def _table(device: torch.device) -> Tensor:
    powers = [0.0, *(2.0 ** (code - TOP) for code in range(1, TOP + 1))]
    return torch.tensor(powers + [0.0 - power for power in powers], dtype=torch.float32, device=device)


def _block_count(piece: Piece) -> int:
    return -(-piece.numel // BLOCK)


def _blocked(x: Tensor) -> Tensor:
    """A flat tensor as (blocks, 128), filled up with zeros."""
    missing = -x.numel() % BLOCK
    return (torch.cat((x, x.new_zeros(missing))) if missing else x).view(-1, BLOCK)

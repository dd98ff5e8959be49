"""The 8-bit codec of PRIME (INTELLECT-1, arXiv:2412.01152): uniform bins over a range of sigmas, each decoded
as its mean.

A piece is 256 means (fp32) and then one code per element. A piece so small that the table would make it
longer than fp32 is sent as fp32.
"""

from typing import ClassVar

from torch import Tensor, cat

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, SpanValues, as_bytes
from distrai.algorithms.codecs.fp32 import read_fp32
from distrai.algorithms.layout import Layout, Piece, pieces

BINS = 256
TABLE_BYTES = 4 * BINS


class Int8(Codec):
    """One byte per parameter and 1 KiB per piece (a tensor, or at least 1 Mi elements)."""

    options: ClassVar[dict[str, tuple[int, ...] | range]] = {"range_sigmas": range(1, 17)}

    def __init__(self, layout: Layout, range_sigmas: int = 6) -> None:
        self.range_sigmas = range_sigmas
        super().__init__(layout)

    @property
    def id(self) -> str:
        return "int8" if self.range_sigmas == 6 else f"int8-r{self.range_sigmas}"

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _span_size(self, piece: Piece) -> int:
        return min(4 * piece.numel, TABLE_BYTES + piece.numel)

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        if _is_raw(piece):
            return as_bytes(x)
        codes = arithmetic.rounded_codes(x, arithmetic.quantiser_scale(x, BINS, self.range_sigmas), BINS)
        return cat((as_bytes(arithmetic.bin_means(x, codes, BINS)), codes))

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        if _is_raw(piece):
            return SpanValues(read_fp32(data, "a value"))
        table = read_fp32(data[:TABLE_BYTES], "a table entry")
        return SpanValues(arithmetic.looked_up(table, data[TABLE_BYTES:]))


def _is_raw(piece: Piece) -> bool:
    return 4 * piece.numel <= TABLE_BYTES + piece.numel

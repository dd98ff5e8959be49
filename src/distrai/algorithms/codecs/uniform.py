"""The uniform quantiser of PRIME (INTELLECT-1, arXiv:2412.01152): bins over a range of sigmas, each decoded as
its mean.

A piece is a table of means (fp32) and then one code per element, of 8 bits or of 4 (two in a byte, the first
in its low half). A piece so small that the table would make it longer than fp32 is sent as fp32.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, cat

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, SpanValues, as_bytes
from distrai.algorithms.codecs.bits import pack4, packed4_size, unpack4
from distrai.algorithms.codecs.fp32 import read_fp32
from distrai.algorithms.layout import Layout, Piece, pieces

USUAL_SIGMAS = 6


class Uniform(Codec):
    """What the quantisers of both widths share."""

    options: ClassVar[dict[str, tuple[int, ...] | range]] = {"range_sigmas": range(1, 17)}
    name: ClassVar[str]
    bins: ClassVar[int]

    def __init__(self, layout: Layout, range_sigmas: int = USUAL_SIGMAS) -> None:
        self.range_sigmas = range_sigmas
        super().__init__(layout)

    @property
    def id(self) -> str:
        return self.name if self.range_sigmas == USUAL_SIGMAS else f"{self.name}-r{self.range_sigmas}"

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _span_size(self, piece: Piece) -> int:
        return min(4 * piece.numel, self._coded_size(piece))

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        if self._is_raw(piece):
            return as_bytes(x)
        scale = arithmetic.quantiser_scale(x, self.bins, self.range_sigmas)
        codes = arithmetic.rounded_codes(x, scale, self.bins)
        return cat((as_bytes(arithmetic.bin_means(x, codes, self.bins)), self._packed(codes)))

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        if self._is_raw(piece):
            return SpanValues(read_fp32(data, "a value"))
        table = read_fp32(data[: 4 * self.bins], "a table entry")
        return SpanValues(arithmetic.looked_up(table, self._codes(data[4 * self.bins :], piece.numel)))

    def _coded_size(self, piece: Piece) -> int:
        return 4 * self.bins + self._code_bytes(piece.numel)

    def _is_raw(self, piece: Piece) -> bool:
        return 4 * piece.numel <= self._coded_size(piece)

    @abstractmethod
    def _code_bytes(self, count: int) -> int:
        """Bytes that hold the codes of this many elements."""

    @abstractmethod
    def _packed(self, codes: Tensor) -> Tensor:
        """Codes (uint8) to the bytes of the payload."""

    @abstractmethod
    def _codes(self, data: Tensor, count: int) -> Tensor:
        """The inverse; raises a `PayloadError` for bytes that hold something else."""


class Int8(Uniform):
    """One byte per parameter and 1 KiB per piece (a tensor, or at least 1 Mi elements)."""

    name = "int8"
    bins = 256

    def _code_bytes(self, count: int) -> int:
        return count

    def _packed(self, codes: Tensor) -> Tensor:
        return codes

    def _codes(self, data: Tensor, count: int) -> Tensor:
        return data


class Int4(Uniform):
    """Half a byte per parameter and 64 bytes per piece."""

    name = "int4"
    bins = 16

    def _code_bytes(self, count: int) -> int:
        return packed4_size(count)

    def _packed(self, codes: Tensor) -> Tensor:
        return pack4(codes)

    def _codes(self, data: Tensor, count: int) -> Tensor:
        return unpack4(data, count)

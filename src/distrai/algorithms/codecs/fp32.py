"""Four bytes per parameter, nothing lost."""

from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, SpanValues, as_bytes, as_fp32
from distrai.algorithms.errors import NonFinitePayload
from distrai.algorithms.layout import Piece, pieces


def read_fp32(data: Tensor, what: str) -> Tensor:
    """Values that a payload holds as they are (uint8 to fp32); NaN and Inf are refused, -0.0 is +0.0."""
    values = arithmetic.positive_zero(as_fp32(data))
    if not arithmetic.is_finite(values):
        raise NonFinitePayload(f"{what} of the update is NaN or infinite")
    return values


class Fp32(Codec):
    """The elements in order, little-endian."""

    @property
    def id(self) -> str:
        return "fp32"

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _span_size(self, piece: Piece) -> int:
        return 4 * piece.numel

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        return as_bytes(x)

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        return SpanValues(read_fp32(data, "a value"))

"""m8v8: Adam's two moments in 2.03 bytes per parameter, so that everyone can start a round from their
average.

Blocks of 256 elements (within a piece). m is a signed byte times the block's unit. v is a byte on its fourth
root times the block's largest v, rounded up: a v that is too small makes a step too long, one that is too
large only makes it shorter. A piece is [m units, fp32] [largest v, fp32] [m codes, int8] [v codes, uint8].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Octets, Span, as_bytes, as_fp32, flat_tensors, to_bytes
from distrai.algorithms.errors import MomentsOutOfBounds, NonFinitePayload, WrongPayloadSize
from distrai.algorithms.layout import Layout, Piece, pieces
from distrai.algorithms.spec import CHECKS

BLOCK = 256
M_MAX = 2.0**20
"""Bound of |m|. Gradients are clipped to a norm of about 1, so honest moments are far below."""
V_MAX = 2.0**40
"""Bound of v, the square of M_MAX."""
M_OVER_ROOT_V_MAX = 3.0
"""Largest |m| / sqrt(v) that is believed."""
M_CODES = 127
V_ROOTS = 255


@dataclass(frozen=True)
class Moments:
    """Adam's exponential averages of gradients (m) and of their squares (v >= 0), fp32, one per tensor of the
    layout.
    """

    m: tuple[Tensor, ...]
    v: tuple[Tensor, ...]


Cut = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What is done to a member's m and v."""


class InnerStateCodec(Protocol):
    """How members share the state of their inner optimisers, bound to one layout."""

    id: ClassVar[str]
    payload_size: int

    def __init__(self, layout: Layout, checks: int = CHECKS) -> None: ...

    def encode(self, moments: Moments) -> bytes:
        """A member's bytes, always of the same size."""

    def check(self, data: Octets) -> None:
        """Raises a `PayloadError` unless `data` (uint8) is a payload of this layout."""

    def decode(self, data: Octets) -> Moments:
        """What one payload (uint8) tells."""

    def combine(
        self, previous: Moments, weighted: Sequence[tuple[int, Octets]], update: Sequence[Tensor]
    ) -> Moments:
        """The moments in common after a round: from those before it, the payloads of its members (weight > 0,
        uint8) in the order given, and the round's mean decoded update (whole layout).
        """


def _v_table(device: torch.device) -> Tensor:
    """(code / 255)^4 for every code; Python integers, so the same everywhere."""
    fourths = [code**4 / V_ROOTS**4 for code in range(V_ROOTS + 1)]
    return torch.tensor(fourths, dtype=torch.float32, device=device)


def _blocks(x: Tensor) -> Tensor:
    """A flat tensor as (blocks, 256), filled up with zeros."""
    missing = -x.numel() % BLOCK
    return (torch.cat((x, x.new_zeros(missing))) if missing else x).view(-1, BLOCK)


def encode_m(x: Tensor) -> tuple[Tensor, Tensor]:
    """Units (blocks) and codes (int8, one per element) of a flat m."""
    blocks = _blocks(torch.clamp(x, -M_MAX, M_MAX))
    units = blocks.abs().amax(dim=1) / arithmetic.scalar(M_CODES, x)
    divisor = torch.where(units > 0, units, arithmetic.scalar(1.0, x)).view(-1, 1)
    codes = torch.clamp(torch.round(blocks / divisor), -M_CODES, M_CODES).to(torch.int8)
    return units, codes.view(-1)[: x.numel()]


def encode_v(x: Tensor) -> tuple[Tensor, Tensor]:
    """Largest v (blocks) and codes (uint8, one per element): the smallest code whose fourth power reaches v /
    largest.

    The square roots only guess the code; table lookups then settle it, because `torch.sqrt` is not exact.
    """
    blocks = _blocks(torch.clamp(x, 0.0, V_MAX))
    largest = blocks.amax(dim=1)
    share = blocks / torch.where(largest > 0, largest, arithmetic.scalar(1.0, x)).view(-1, 1)
    share = share.view(-1)[: x.numel()]
    table = _v_table(x.device)
    guess = torch.clamp(torch.ceil(torch.sqrt(torch.sqrt(share)) * V_ROOTS), max=V_ROOTS).to(torch.int32)
    below = torch.clamp(guess - 1, min=0)
    too_high = table.index_select(0, below) >= share
    too_low = table.index_select(0, guess) < share
    return largest, torch.where(too_high, below, guess + too_low.to(torch.int32)).to(torch.uint8)


def _spread(per_block: Tensor, numel: int) -> Tensor:
    """One value per block to one per element."""
    return per_block.view(-1, 1).expand(-1, BLOCK).reshape(-1)[:numel]


def believable(m: Tensor, v: Tensor, most: float = M_OVER_ROOT_V_MAX) -> Tensor:
    """m, but 0 where |m| is above `most` sqrt(v): gradients hardly lead there, and Adam would leap.

    An average of gradients is at most (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) times the root of the average of their
    squares (Cauchy and Schwarz): 1.2 for betas of .9 and .95, and 7 for .9 and .999, though seldom above 2.
    """
    return torch.where(m * m > v * arithmetic.scalar(most * most, v), arithmetic.scalar(0.0, m), m)


def v_factors(means: Sequence[float]) -> list[float]:
    """By what each member's v is multiplied, so that its mean is at most the (lower) median of the members'.

    Not a little more: everybody's next v begins with what comes out, and would grow from round to round.
    """
    limit = sorted(means)[(len(means) - 1) // 2]
    return [1.0 if mean <= limit else limit / mean for mean in means]


class MomentCodec:
    """m8v8 bound to one layout; `payload_size` is exact."""

    id: ClassVar[str] = "m8v8"

    def __init__(self, layout: Layout, checks: int = CHECKS) -> None:
        self.layout = layout
        self.cuts = checks >= 2
        self.spans = tuple(_placed(pieces(layout)))
        self.payload_size = self.spans[-1].stop

    def encode(self, moments: Moments) -> bytes:
        """Raises ValueError for NaN, Inf, a negative v and wrong shapes. What is above the bounds is cut down
        to them.
        """
        ms = flat_tensors(self.layout, moments.m, "first moment")
        vs = flat_tensors(self.layout, moments.v, "second moment")
        if any(bool((v < 0).any().item()) for v in vs):
            raise ValueError("a second moment is negative")
        return b"".join(to_bytes(self._encode_span(span.piece, ms, vs)) for span in self.spans)

    def _encode_span(self, piece: Piece, ms: Sequence[Tensor], vs: Sequence[Tensor]) -> Tensor:
        units, m_codes = encode_m(ms[piece.tensor][piece.start : piece.stop])
        largest, v_codes = encode_v(vs[piece.tensor][piece.start : piece.stop])
        return torch.cat((as_bytes(units), as_bytes(largest), as_bytes(m_codes), v_codes))

    def decode_span(self, span: Span, data: Octets) -> tuple[Tensor, Tensor]:
        """m and v (flat fp32) of a span of the payload (uint8); raises a `PayloadError` for scales out of
        bounds.
        """
        numel, at = span.piece.numel, 4 * _block_count(span.piece)
        part = data[span.start : span.stop]
        units, largest = as_fp32(part[: 2 * at]).view(2, -1)
        _check_scales(units, largest)
        codes = part[2 * at :]
        m = codes[:numel].view(torch.int8).to(torch.float32) * _spread(units, numel)
        v = arithmetic.looked_up(_v_table(data.device), codes[numel:]) * _spread(largest, numel)
        return arithmetic.positive_zero(m), v

    def check(self, data: Octets) -> None:
        """Raises a `PayloadError` unless `data` (uint8) is a payload of this layout."""
        if data.numel() != self.payload_size:
            raise WrongPayloadSize(f"moments of {data.numel()} bytes; this recipe's are {self.payload_size}")
        for span in self.spans:
            at = span.start + 8 * _block_count(span.piece)
            units, largest = as_fp32(data[span.start : at]).view(2, -1)
            _check_scales(units, largest)

    def decode(self, data: Octets) -> Moments:
        """The moments in a payload (uint8), on its device."""
        parts = [[torch.zeros(spec.numel, device=data.device) for spec in self.layout.tensors] for _ in "mv"]
        for span in self.spans:
            for flats, values in zip(parts, self.decode_span(span, data), strict=True):
                flats[span.piece.tensor][span.piece.start : span.piece.stop] = values
        shapes = [spec.shape for spec in self.layout.tensors]
        m, v = (tuple(x.view(shape) for x, shape in zip(flats, shapes, strict=True)) for flats in parts)
        return Moments(m, v)

    def combine(
        self, previous: Moments, weighted: Sequence[tuple[int, Octets]], update: Sequence[Tensor]
    ) -> Moments:
        """The average: neither the moments before nor the update have a part in it."""
        return self.average(weighted)

    def average(self, weighted: Sequence[tuple[int, Octets]]) -> Moments:
        """The weighted mean of payloads (weight > 0, uint8), piece by piece, in the order given.

        From version 2 of the checks on, what is above the others' or cannot be is cut down first: everybody's next
        round starts from this.
        """
        shapes = [spec.shape for spec in self.layout.tensors]
        device = weighted[0][1].device
        m = [torch.zeros(shape, dtype=torch.float32, device=device) for shape in shapes]
        v = [torch.zeros(shape, dtype=torch.float32, device=device) for shape in shapes]
        total = torch.tensor([float(sum(w for w, _ in weighted))], dtype=torch.float32, device=device)
        for span in self.spans:
            cut = slice(span.piece.start, span.piece.stop)
            sums = self._weighted_sums(span, weighted, device)
            m[span.piece.tensor].view(-1)[cut] = arithmetic.positive_zero(sums[0] / total)
            v[span.piece.tensor].view(-1)[cut] = sums[1] / total
        return Moments(tuple(m), tuple(v))

    def _weighted_sums(
        self, span: Span, weighted: Sequence[tuple[int, Octets]], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        m_sum = torch.zeros(span.piece.numel, dtype=torch.float32, device=device)
        v_sum = torch.zeros_like(m_sum)
        for (weight, data), cut in zip(weighted, self._cuts(span, weighted), strict=True):
            m, v = cut(*self.decode_span(span, data))
            factor = arithmetic.scalar(float(weight), m)
            m_sum = m_sum + m * factor
            v_sum = v_sum + v * factor
        return m_sum, v_sum

    def _cuts(self, span: Span, weighted: Sequence[tuple[int, Octets]]) -> list[Cut]:
        """What is done to each member's m and v of a span before they are added up."""
        if not self.cuts:
            return [_as_it_is] * len(weighted)
        norms, means = [], []
        for _, data in weighted:
            m, v = self.decode_span(span, data)
            norms.append(arithmetic.squared_norm(m))
            means.append(arithmetic.mean(v))
        if sorted(means)[(len(means) - 1) // 2] > 0:
            return [partial(_cut_to, factor) for factor in v_factors(means)]
        largest = arithmetic.lower_median(norms)  # no v: m is a momentum of Muon's
        return [partial(_clipped, arithmetic.clip_factor(norm, largest)) for norm in norms]


def _as_it_is(m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return m, v


def _cut_to(factor: float, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    v = v if factor == 1.0 else v * arithmetic.scalar(factor, v)
    return believable(m, v), v


def _clipped(factor: float, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return (m if factor == 1.0 else m * arithmetic.scalar(factor, m)), v


def _block_count(piece: Piece) -> int:
    return -(-piece.numel // BLOCK)


def _placed(cut: Sequence[Piece]) -> Iterator[Span]:
    at = 0
    for piece in cut:
        size = 8 * _block_count(piece) + 2 * piece.numel
        yield Span(piece, at, at + size)
        at += size


def _check_scales(units: Tensor, largest: Tensor) -> None:
    if not (arithmetic.is_finite(units) and arithmetic.is_finite(largest)):
        raise NonFinitePayload("a block scale of the moments is NaN or infinite")
    good = (units >= 0) & (units <= M_MAX / M_CODES) & (largest >= 0) & (largest <= V_MAX)
    if not bool(good.all().item()):
        raise MomentsOutOfBounds(f"a block of the moments is negative or above |m| {M_MAX:g}, v {V_MAX:g}")

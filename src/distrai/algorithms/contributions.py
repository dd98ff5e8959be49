"""The updates of a list, read span by span: whatever their number and size, what lies in memory is bounded by
spans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import gcd, isqrt

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, Span, SpanValues, to_uint8

DAMPING_BITS = 24
"""Damping is a whole number of 2^-24, which fp32 holds exactly."""


@dataclass(frozen=True)
class Contribution:
    """One member's part in an aggregate: weight >= 1, update bytes, and two factors in 0..1."""

    weight: int
    data: memoryview
    damping: float = 1.0
    """For its age. It scales the update and not the divisor, so that a lone late update is damped too."""
    clip: float = 1.0
    """For its norm."""

    def scaled(self, values: Tensor) -> Tensor:
        """values * clip * damping; factors of 1 are left out, which changes no bit."""
        for factor in (self.clip, self.damping):
            if factor < 1.0:
                values = values * arithmetic.scalar(factor, values)
        return values


@dataclass(frozen=True)
class Updates:
    """The contributions to a round, in the order in which they are summed up, and how to read them."""

    codec: Codec
    device: torch.device
    parts: tuple[Contribution, ...]

    def read(self, span: Span, part: Contribution) -> SpanValues:
        """Decodes, and so checks, one span of one update. Raises `PayloadError`."""
        return read_span(self.codec, span, part.data, self.device)

    def dense(self, span: Span, part: Contribution) -> Tensor:
        """The same with its factors, one value per element."""
        found = self.read(span, part)
        values = part.scaled(found.values)
        if found.where is None:
            return values
        whole = torch.zeros(span.piece.numel, dtype=torch.float32, device=self.device)
        whole[found.where] = values
        return whole


def read_span(codec: Codec, span: Span, data: memoryview, device: torch.device) -> SpanValues:
    """The values of a span of an update; only the span's bytes are copied."""
    return codec.decode_span(span.piece, to_uint8(data[span.start : span.stop], device))


def squared_norm(codec: Codec, data: memoryview, device: torch.device) -> int:
    """|decoded update|^2 as in `arithmetic.squared_norm`; decodes, and so checks, every span."""
    spans = codec.spans
    return sum(arithmetic.squared_norm(read_span(codec, span, data, device).values) for span in spans)


def damping(staleness: int) -> float:
    """(1 + staleness)^-1/2 on a grid of 2^-24, rounded down: the same on every machine; 1.0 if fresh."""
    return damping_units(staleness) / (1 << DAMPING_BITS)


def damping_units(staleness: int) -> int:
    """The same in units of 2^-24."""
    return isqrt((1 << 2 * DAMPING_BITS) // (1 + staleness))


def without_shared_factor(weights: Sequence[int]) -> list[int]:
    """Whole weights divided by their greatest common divisor, so that equal ones are all 1."""
    shared = gcd(*weights)
    return [weight // shared for weight in weights]


def duplicates(updates: Sequence[memoryview]) -> set[int]:
    """Which of these are equal to another of them: copied, by whom we cannot know, so none of them counts."""
    first: dict[bytes, int] = {}
    found: set[int] = set()
    for index, update in enumerate(updates):
        other = first.setdefault(sha256(update).digest(), index)
        if other != index:
            found |= {other, index}
    return found

"""From the certified updates of a round to one pseudo-gradient: span by span, members in order within each.

A member's weight is a whole number (its tokens where the rule is weighted). Weights are divided by their
greatest common divisor first, so that equal work gives the plain mean bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec, Span, SpanValues

DUPLICATE = "its update is the same, byte for byte, as another's in this round"
OVERFLOW = "the outer step would leave the range of fp32"


@dataclass(frozen=True)
class Rule:
    """What a way of aggregating does."""

    weighted: bool
    """Weigh members by tokens, not equally."""
    contributors: bool
    """Divide each coordinate by the weight of those who sent it, not of everybody."""
    clip: bool
    """Scale updates above the (lower) median norm down to it."""


RULES = {
    "mean": Rule(weighted=False, contributors=False, clip=False),
    "token-weighted-mean": Rule(weighted=True, contributors=False, clip=False),
    "contributors-mean-norm-clip": Rule(weighted=True, contributors=True, clip=True),
}
"""Every way of aggregating by the name that recipes use."""


@dataclass(frozen=True)
class Contribution:
    """One member's part in a mean: weight >= 1, clip factor in 0..1, update bytes (uint8)."""

    weight: int
    clip: float
    data: Tensor


def duplicates(updates: Sequence[bytes | memoryview]) -> set[int]:
    """Which of these are equal to another of them: copied, by whom we cannot know, so none of them counts."""
    first: dict[bytes, int] = {}
    found: set[int] = set()
    for index, update in enumerate(updates):
        other = first.setdefault(bytes(update), index)
        if other != index:
            found |= {other, index}
    return found


def shared_factor(weights: Sequence[int]) -> int:
    """The greatest common divisor of the weights."""
    return gcd(*weights)


def contributions(
    rule: Rule, codec: Codec, weighted: Sequence[tuple[int, Tensor]]
) -> tuple[Contribution, ...]:
    """Prepares weights (each > 0) and clip factors. Reads every payload once if the rule clips."""
    shared = shared_factor([weight for weight, _ in weighted])
    clips = [1.0] * len(weighted)
    if rule.clip:
        norms = [codec.squared_norm(data) for _, data in weighted]
        clips = [arithmetic.clip_factor(each, arithmetic.lower_median(norms)) for each in norms]
    return tuple(
        Contribution(weight // shared, clip, data)
        for (weight, data), clip in zip(weighted, clips, strict=True)
    )


def aggregate_span(rule: Rule, codec: Codec, span: Span, parts: Sequence[Contribution]) -> Tensor:
    """The pseudo-gradient (flat fp32) of one span; 0 where nobody sent anything. Decodes, and so checks, the
    span.
    """
    device = parts[0].data.device
    total = torch.zeros(span.piece.numel, dtype=torch.float32, device=device)
    weight = torch.zeros_like(total) if rule.contributors and codec.sparse else None
    for part in parts:
        found = codec.decode_span(span.piece, part.data[span.start : span.stop])
        _add(total, SpanValues(_scaled(found.values, part), found.where))
        if weight is not None:
            _add(weight, SpanValues(torch.full_like(found.values, float(part.weight)), found.where))
    if weight is None:
        return arithmetic.positive_zero(
            total / arithmetic.scalar(float(sum(part.weight for part in parts)), total)
        )
    return arithmetic.positive_zero(total / torch.where(weight > 0, weight, arithmetic.scalar(1.0, total)))


def _scaled(values: Tensor, part: Contribution) -> Tensor:
    """values * clip * weight; factors of 1 are left out, which changes no bit."""
    if part.clip < 1.0:
        values = values * arithmetic.scalar(part.clip, values)
    return values * arithmetic.scalar(float(part.weight), values) if part.weight > 1 else values


def _add(total: Tensor, found: SpanValues) -> None:
    """total += found, in place. Indices are never repeated, so a read, an add and a write do."""
    if found.where is None:
        total += found.values
    else:
        total[found.where] = total[found.where] + found.values

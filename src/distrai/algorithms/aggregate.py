"""From the certified updates of a round to one pseudo-gradient: span by span, members in order within each.

A member's weight is a whole number (its tokens where the rule is weighted). Weights are divided by their
greatest common divisor first, so that equal work gives the plain mean bit for bit. Sums are taken in the
codec's domain and leave it once per span.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distrai.algorithms import arithmetic, robust
from distrai.algorithms.codecs.base import Codec, Span, SpanValues
from distrai.algorithms.contributions import Contribution, Updates, squared_norm, without_shared_factor
from distrai.algorithms.robust import Statistic

DUPLICATE = "its update is the same, byte for byte, as another's in this round"
OVERFLOW = "the outer step would leave the range of fp32"


@dataclass(frozen=True)
class Rule:
    """What a way of aggregating does."""

    weighted: bool = False
    """Weigh members by tokens, not equally."""
    contributors: bool = False
    """Divide each coordinate by the weight of those who sent it, not of everybody."""
    clip: bool = False
    """Scale updates above the (lower) median norm down to it."""
    statistic: Statistic | None = None
    """A statistic instead of a mean; it needs dense updates."""


RULES = {
    "mean": Rule(),
    "token-weighted-mean": Rule(weighted=True),
    "token-weighted-mean-norm-clip": Rule(weighted=True, clip=True),
    "contributors-mean-norm-clip": Rule(weighted=True, contributors=True, clip=True),
    "coordinate-median": Rule(statistic=robust.coordinate_median),
    "trimmed-mean": Rule(statistic=robust.trimmed_mean),
    "centred-clip": Rule(statistic=robust.centred_clip),
}
"""Every way of aggregating by the name that recipes use."""


def gradients(
    rule: Rule, codec: Codec, parts: Sequence[Contribution], device: torch.device
) -> Iterator[tuple[Span, Tensor]]:
    """The pseudo-gradient (flat fp32) of every span, in order; 0 where nobody sent anything.

    Every payload is read once, and once more before if the rule clips (more often by a centred clip).
    """
    weights = without_shared_factor([part.weight for part in parts])
    parts = [replace(part, weight=weight) for part, weight in zip(parts, weights, strict=True)]
    if rule.clip:
        norms = [squared_norm(codec, part.data, device) for part in parts]
        middle = arithmetic.lower_median(norms)
        factors = [arithmetic.clip_factor(each, middle) for each in norms]
        parts = [replace(part, clip=clip) for part, clip in zip(parts, factors, strict=True)]
    updates = Updates(codec, device, tuple(parts))
    found = rule.statistic(updates) if rule.statistic else _means(rule, updates)
    for span, total in found:
        yield span, arithmetic.positive_zero(codec.from_domain(span.piece, total))


def _means(rule: Rule, updates: Updates) -> Iterator[tuple[Span, Tensor]]:
    for span in updates.codec.spans:
        yield span, _mean(rule, updates, span)


def _mean(rule: Rule, updates: Updates, span: Span) -> Tensor:
    total = torch.zeros(span.piece.numel, dtype=torch.float32, device=updates.device)
    weight = torch.zeros_like(total) if rule.contributors and updates.codec.sparse else None
    for part in updates.parts:
        found = updates.read(span, part)
        values = part.scaled(found.values)
        factor = arithmetic.scalar(float(part.weight), values)
        _add(total, SpanValues(values * factor if part.weight > 1 else values, found.where))
        if weight is not None:
            _add(weight, SpanValues(factor.expand_as(values), found.where))
    if weight is None:
        return total / arithmetic.scalar(float(sum(part.weight for part in updates.parts)), total)
    return total / torch.where(weight > 0, weight, arithmetic.scalar(1.0, total))


def _add(total: Tensor, found: SpanValues) -> None:
    """total += found, in place. Indices are never repeated, so a read, an add and a write do."""
    if found.where is None:
        total += found.values
    else:
        total[found.where] = total[found.where] + found.values

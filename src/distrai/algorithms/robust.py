"""Aggregates that a minority of hostile members cannot move far. Members weigh alike: tokens buy no influence.

They need dense updates: of a sparse coordinate nearly every median is 0. The statistics of a coordinate hold
one piece of every member at once (4 MiB a member); the centred clip holds one update of fp32.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Span
from distrai.algorithms.contributions import Updates

Statistic = Callable[[Updates], Iterator[tuple[Span, Tensor]]]
"""Gives the aggregate (flat fp32, in the codec's domain) of every span, in order."""

TRIMMED_SHARE = 3
"""A third of the members (rounded down) is left out at each end of a coordinate: more are not to be hostile."""
CENTRED_ITERATIONS = 3


def coordinate_median(updates: Updates) -> Iterator[tuple[Span, Tensor]]:
    """The middle value of every coordinate, or the mean of the two in the middle."""
    for span in updates.codec.spans:
        yield span, _median(_sorted(updates, span))


def trimmed_mean(updates: Updates) -> Iterator[tuple[Span, Tensor]]:
    """The mean of every coordinate without its extremes (arXiv:1803.01498)."""
    count = len(updates.parts)
    cut = count // TRIMMED_SHARE
    for span in updates.codec.spans:
        rows = _sorted(updates, span)
        total = torch.zeros_like(rows[0])
        for row in rows[cut : count - cut]:
            total += row
        yield span, total / arithmetic.scalar(float(count - 2 * cut), total)


def centred_clip(updates: Updates) -> Iterator[tuple[Span, Tensor]]:
    """Means of updates whose distance from a centre is clipped (arXiv:2012.10333), begun at the coordinate
    median.

    Three times: every distance above the (lower) median distance is scaled down to it, and the centre moves by
    the mean of what is left. The number of iterations is fixed, and distances are norms on a grid of integers.
    """
    spans = updates.codec.spans
    centre = [found for _, found in coordinate_median(updates)]
    count = float(len(updates.parts))
    for _ in range(CENTRED_ITERATIONS):
        distances = [
            sum(
                arithmetic.squared_norm(updates.dense(span, part) - at)
                for span, at in zip(spans, centre, strict=True)
            )
            for part in updates.parts
        ]
        middle = arithmetic.lower_median(distances)
        factors = [arithmetic.clip_factor(each, middle) for each in distances]
        centre = [
            at + _mean_step(updates, span, at, factors) / arithmetic.scalar(count, at)
            for span, at in zip(spans, centre, strict=True)
        ]
    yield from zip(spans, centre, strict=True)


def _mean_step(updates: Updates, span: Span, centre: Tensor, factors: list[float]) -> Tensor:
    total = torch.zeros_like(centre)
    for part, factor in zip(updates.parts, factors, strict=True):
        away = updates.dense(span, part) - centre
        total += away if factor == 1.0 else away * arithmetic.scalar(factor, away)
    return total


def _sorted(updates: Updates, span: Span) -> Tensor:
    """Every member's values of a span (members, elements), each coordinate ascending."""
    rows = torch.stack([updates.dense(span, part) for part in updates.parts])
    return torch.sort(rows, dim=0).values


def _median(rows: Tensor) -> Tensor:
    middle = rows.shape[0] // 2
    if rows.shape[0] % 2:
        return rows[middle]
    half = arithmetic.scalar(0.5, rows)
    return rows[middle - 1] * half + rows[middle] * half

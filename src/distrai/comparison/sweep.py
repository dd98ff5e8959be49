"""Choosing learning rates by coordinate descent: the inner one at the arm's own outer one, then the outer one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Measure = Callable[[float, float], float | None]
"""Inner and outer rate to the loss of a run: infinite if it diverged, None if it is not known yet."""


@dataclass(frozen=True)
class Rates:
    """Where a sweep is: the rates so far, and what it has to know in order to go on (none: it is done)."""

    lr: float
    outer_lr: float
    wanted: tuple[tuple[float, float], ...] = ()
    """Inner and outer rates to measure next."""
    at_edge: bool = False
    """The best rung is an outermost one, and the ladder may not grow any more."""


def rung(rungs: Sequence[float], at: int) -> float:
    """Rung ``at`` of a ladder that goes on past both ends by the ratio of the two outermost rungs."""
    low = rungs[1] / rungs[0] if len(rungs) > 1 else 2.0
    high = rungs[-1] / rungs[-2] if len(rungs) > 1 else 2.0
    last = len(rungs) - 1
    if at < 0:
        return float(f"{rungs[0] / low**-at:.6g}")
    return float(f"{rungs[-1] * high ** (at - last):.6g}") if at > last else rungs[at]


def climb(
    rungs: Sequence[float], extend: int, loss_of: Callable[[float], float | None]
) -> tuple[float | None, list[float], bool]:
    """One ladder: the best rung or None, the rates that must be known first, whether the best is at the edge.

    Begins with all ``rungs`` and goes on past an end while the rung there is the best, ``extend`` times at most.
    The lower rung wins a tie, so that after a ladder of runs that all diverged lower ones are tried.
    """
    low, high = 0, len(rungs) - 1
    losses: dict[int, float] = {}
    while True:
        missing = []
        for at in range(low, high + 1):
            if at not in losses:
                found = loss_of(rung(rungs, at))
                if found is None:
                    missing.append(rung(rungs, at))
                else:
                    losses[at] = found
        if missing:
            return None, missing, False
        best = _best(losses)
        if best == low and low > -extend:
            low -= 1
        elif best == high and high < len(rungs) - 1 + extend:
            high += 1
        else:
            return rung(rungs, best), [], low < high and best in (low, high)


def _best(losses: Mapping[int, float]) -> int:
    return min(losses, key=lambda at: (losses[at], at))


def tune(
    start: tuple[float, float], inner: Sequence[float], outer: Sequence[float], extend: int, measure: Measure
) -> Rates:
    """The state of a sweep that begins at ``start`` (inner and outer rate), from the losses known so far.

    A ladder without rungs leaves its rate as it is.
    """
    lr, outer_lr = start
    at_edge = False
    if inner:
        best, missing, at_edge = climb(inner, extend, lambda rate: measure(rate, outer_lr))
        if best is None:
            return Rates(lr, outer_lr, tuple((rate, outer_lr) for rate in missing))
        lr = best
    if outer:
        best, missing, edge = climb(outer, extend, lambda rate: measure(lr, rate))
        if best is None:
            return Rates(lr, outer_lr, tuple((lr, rate) for rate in missing), at_edge)
        outer_lr, at_edge = best, at_edge or edge
    return Rates(lr, outer_lr, (), at_edge)


def diverged(loss: float | None) -> float:
    """A loss for ``Measure``: a run that diverged is worse than any other."""
    return math.inf if loss is None else loss

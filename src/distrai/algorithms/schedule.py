"""The learning rate over a run as a share of its highest, the same bits on every machine.

Outer rates follow it, so it must not depend on a C library: nothing but + - * / on Python floats, which IEEE
754 defines to the last bit; the cosine is a polynomial of its own.
"""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["constant", "cosine", "wsd"]
_TERMS = 13
"""Terms of the cosine's series up to a right angle: the first one left out is below 1e-18."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A linear warm-up over the share `warmup` of the run, then `kind`.

    "constant" stays at 1; "cosine" falls to `final_fraction`; "wsd" (warm up, stay, decay) stays and falls to
    it in a straight line over the last share `decay`.
    """

    kind: Kind = "cosine"
    warmup: float = 0.05
    decay: float = 0.2
    final_fraction: float = 0.1

    def factor(self, position: float) -> float:
        """0 to 1 at a position from 0 (nothing done) to 1 (the end of the run)."""
        position = min(max(position, 0.0), 1.0)
        if position < self.warmup:
            return position / self.warmup
        if self.kind == "constant":
            return 1.0
        begin = self.warmup if self.kind == "cosine" else max(self.warmup, 1.0 - self.decay)
        if position <= begin:
            return 1.0
        done = (position - begin) / (1.0 - begin)
        left = 0.5 * (1.0 + cosine_of_half_turns(done)) if self.kind == "cosine" else 1.0 - done
        return self.final_fraction + (1.0 - self.final_fraction) * left


def cosine_of_half_turns(turns: float) -> float:
    """cos(pi * turns) for 0..1, within 1e-15; exactly 1, 0 and -1 at 0, 1/2 and 1."""
    if turns == 0.5:
        return 0.0
    if turns > 0.5:
        return -cosine_of_half_turns(1.0 - turns)
    square = math.pi * turns * (math.pi * turns)
    total = 1.0
    for term in range(_TERMS, 0, -1):
        total = 1.0 - square / ((2 * term - 1) * (2 * term)) * total
    return total

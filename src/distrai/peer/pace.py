"""How many inner steps this peer takes, where the recipe lets slower peers take fewer (``pace = "measured"``).

The others' speed is seen in when their updates came: what came after t seconds with h of H steps would have taken
t * H / h for all of them. So a peer that takes fewer steps does not make the others look fast, and nobody drifts
towards ever shorter rounds. All durations are local; they decide only how much work is done, which the update says.
"""

import math
from dataclasses import dataclass, field

from distrai.peer.round import Round
from distrai.protocol.messages import Update
from distrai.protocol.primitives import MemberId

TOLERANCE = 1.25
"""Who needs at most so many times as long as most others takes all steps."""
MARGIN = 0.9
"""Share of the others' time that a slower peer fills: it has to encode and to announce, too."""


def _half(round_: Round) -> int:
    """How many trainers set the pace for the others: as many as cannot all lie."""
    return (len(round_.standing.trainers) + 1) // 2


@dataclass
class Pace:
    """The pace of one peer over its rounds; ``steps_max`` is H."""

    steps_max: int
    measured: bool
    own_s: float | None = None
    """What all H steps take this peer, in seconds."""
    others_s: float | None = None
    """In how many seconds half of the trainers took theirs, in the last round in which it could be seen."""
    announced_s: dict[MemberId, float] = field(default_factory=dict)
    """When the others' updates of this round came, in seconds since it began."""
    asked: bool = False

    def steps(self) -> int:
        """How many steps to take in the round that begins now."""
        if not self.measured or self.own_s is None or self.others_s is None:
            return self.steps_max
        if self.own_s <= TOLERANCE * self.others_s:
            return self.steps_max
        return max(1, min(self.steps_max, math.floor(self.steps_max * MARGIN * self.others_s / self.own_s)))

    def trained(self, round_: Round, steps: int, now: float) -> None:
        """The own steps of this round are done."""
        self.own_s = max(1e-9, now - round_.began_at) * self.steps_max / steps

    def end_round(self, round_: Round | None) -> None:
        """Another round begins: learn from the one that is over (None: there was none)."""
        if round_ is not None:
            times = self._full_times(round_)
            least = _half(round_)
            if len(times) >= least:
                self.others_s = times[least - 1]
        self.announced_s.clear()
        self.asked = False

    def _full_times(self, round_: Round) -> list[float]:
        """What all H steps take each whose update was seen, and this peer, ascending (seconds)."""
        own = [] if self.own_s is None else [self.own_s]
        updates = [signed.message for signed in round_.book.updates.values()]
        return sorted(
            own
            + [
                self.announced_s[update.member] * self.steps_max / update.inner_steps
                for update in updates
                if isinstance(update, Update) and update.member in self.announced_s
            ]
        )

    def watch(self, round_: Round, now: float) -> bool:
        """Take note of whose updates are here; true once if this peer, still training, should come to an end."""
        for signed in round_.book.updates.values():
            member = signed.message.member
            if member != round_.member:
                self.announced_s.setdefault(member, max(1e-9, now - round_.began_at))
        if self.asked or now < self.due_at(round_):
            return False
        self.asked = True
        return True

    def due_at(self, round_: Round) -> float:
        """When this peer would be asked to come to an end (local seconds); infinity as long as too few are done."""
        waiting = _half(round_)
        times = sorted(self.announced_s.values())
        if not self.measured or self.asked or round_.own.update is not None or len(times) < waiting:
            return math.inf
        return round_.began_at + TOLERANCE * times[waiting - 1]

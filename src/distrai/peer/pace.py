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
ROUNDS_REMEMBERED = 9
"""Rounds of which it is known when they began: an update may come some rounds after its own."""


def _half(round_: Round) -> int:
    """How many trainers set the pace for the others: as many as cannot all lie."""
    return (len(round_.standing.trainers) + 1) // 2


@dataclass
class Pace:
    """The pace of one peer over its rounds; ``steps_max`` is H."""

    steps_max: int
    measured: bool
    waited_for: bool = True
    """Whether the others wait for this peer; not where updates may be older than their certificate."""
    began: dict[int, float] = field(default_factory=dict)
    """When the rounds that updates may come from began here, by number (local seconds)."""
    full_s: dict[MemberId, float] = field(default_factory=dict)
    """What all H steps take everybody, this peer too, by what was seen of each last, in seconds."""
    noted: dict[MemberId, int] = field(default_factory=dict)
    """The newest round of which an update of each was seen."""
    announced: dict[MemberId, float] = field(default_factory=dict)
    """When the others' updates of this round came, in seconds since it began."""
    asked: bool = False

    def steps(self, round_: Round) -> int:
        """How many steps to take in the round that begins now."""
        trainers = round_.standing.trainer_members
        times = sorted(self.full_s[member] for member in trainers if member in self.full_s)
        own = self.full_s.get(round_.member)
        if not self.measured or own is None or len(times) < _half(round_):
            return self.steps_max
        others = times[_half(round_) - 1]
        if own <= TOLERANCE * others:
            return self.steps_max
        return max(1, min(self.steps_max, math.floor(self.steps_max * MARGIN * others / own)))

    def begin_round(self, round_: Round) -> None:
        """A round begins."""
        self.began[round_.standing.round + 1] = round_.began_at
        while len(self.began) > ROUNDS_REMEMBERED:
            self.began.pop(next(iter(self.began)))
        self.announced.clear()
        self.asked = False

    def trained(self, member: MemberId, number: int, steps: int, now: float) -> None:
        """The steps of ``member`` in a round, by number, are done."""
        if number in self.began:
            self.full_s[member] = max(1e-9, now - self.began[number]) * self.steps_max / steps

    def watch(self, round_: Round, now: float, *, training: bool = True) -> bool:
        """Take note of whose updates are here; true once if this peer, still ``training``, should come to an end."""
        for signed in round_.book.updates.values():
            update = signed.message
            assert isinstance(update, Update)
            if update.member == round_.member or update.round <= self.noted.get(update.member, 0):
                continue
            self.noted[update.member] = update.round
            self.trained(update.member, update.round, update.inner_steps, now)
            if update.round == round_.standing.round + 1:
                self.announced[update.member] = now - round_.began_at
        if self.asked or not training or now < self.due_at(round_):
            return False
        self.asked = True
        return True

    def due_at(self, round_: Round) -> float:
        """When this peer would be asked to come to an end (local seconds); infinity as long as too few are done."""
        times, waiting = sorted(self.announced.values()), _half(round_)
        is_over = self.asked or round_.own.update is not None
        if not (self.measured and self.waited_for) or is_over or len(times) < waiting:
            return math.inf
        return round_.began_at + TOLERANCE * times[waiting - 1]

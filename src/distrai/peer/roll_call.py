"""Step 10: how a seat gets a run going again after a mass loss, as far as one peer can tell.

The contract decides whether a call may open or close, by its own clock; what comes too early it refuses, and the next
try comes by itself. So local durations are enough here, and nothing is lost by a wrong one.
"""

import math
from typing import TYPE_CHECKING

from distrai.peer.events import CheckIn, CloseRollCall, Effect
from distrai.protocol.ledger_events import CheckedIn
from distrai.protocol.primitives import MemberId

if TYPE_CHECKING:
    from distrai.peer.round import Round

DOUBLINGS_MAX = 8
"""As in the contract: every failed call of a round doubles the next window, so many times."""
GRACE = 1 / 4
"""As in the contract: the share of the stall time for which a certificate may still come after the window."""
HEARD_WITHIN = 1 / 2
"""A seat is alive that was heard within this share of the stall time."""
PATIENCE = 2
"""Stall times after which a call is opened although enough seats talk: someone may talk and never sign."""


class RollCall:
    """The roll calls of one round."""

    def __init__(self, round_: "Round") -> None:
        self.round = round_
        self.stall_s = round_.rules.stall_s
        self.heard_at: dict[MemberId, float] = {}
        self.forget()

    def forget(self) -> None:
        """No call is known: none was opened yet, or the blocks that told of it are gone and will be told again."""
        self.first = 0
        self.call = 0
        """The newest call, 0 for none; ``first`` is the first of this round."""
        self.checked_in: set[MemberId] = set()
        self.seen_at = 0.0
        self.sent_at = -math.inf
        self.tries = 0

    # What is known

    def hear(self, member: MemberId, now: float) -> None:
        """A message that this member signed for this round has just come."""
        self.heard_at[member] = now

    def take(self, event: CheckedIn, now: float) -> None:
        """The ledger has a check-in of this round."""
        if event.call != self.call:
            self.first = self.first or event.call
            self.call, self.seen_at, self.checked_in, self.tries = event.call, now, set(), 0
            self.sent_at = -math.inf
        self.checked_in.add(event.member)

    def alive(self, now: float) -> int:
        """How many seats were heard lately, this one included."""
        since = now - HEARD_WITHIN * self.stall_s
        others = (member for member in self.round.standing.seat_members if member != self.round.member)
        return 1 + sum(self.heard_at.get(member, -math.inf) >= since for member in others)

    @property
    def window_s(self) -> float:
        """How long the newest call takes check-ins."""
        return self.stall_s * float(1 << min(self.call - self.first, DOUBLINGS_MAX))

    @property
    def retry_s(self) -> float:
        """Between two transactions of the same kind: the ledger may not have taken the first."""
        return max(self.round.rules.timing.d0_s, self.stall_s / 8)

    # What is done

    def due_at(self, now: float) -> float:
        """When there is something to do next."""
        if self.call == 0:
            return max(self._opens_at(now), self.sent_at + self.retry_s)
        if self._may_check_in(now):
            return max(now, self.sent_at + self.retry_s)
        return self._try_at()

    def act(self, now: float) -> list[Effect]:
        """Check in or close, where it is time for it."""
        if now < self.due_at(now):
            return []
        if self.call == 0 or self._may_check_in(now):
            self.sent_at = now
            return [CheckIn()]
        self.tries += 1
        if self.tries % 2 == 0:  # too few came to the last call: this opens the next one
            return [CheckIn()]
        return [CloseRollCall(tuple(sorted(set(self.round.standing.seat_members) - self.checked_in)))]

    def _opens_at(self, now: float) -> float:
        """When a call may be opened, going by who is heard now: asked after every event, so nobody need wake for it."""
        earliest = self.round.began_at + self.stall_s
        if now < earliest or self.alive(now) < self.round.standing.quorum:
            return earliest
        return self.round.began_at + PATIENCE * self.stall_s

    def _may_check_in(self, now: float) -> bool:
        return self.round.member not in self.checked_in and now < self.seen_at + self.window_s

    def _try_at(self) -> float:
        """When to close next: after window and grace, one seat after the other."""
        seats = self.round.standing.seat_members
        turn = seats.index(self.round.member) + self.tries * len(seats)
        closable = self.seen_at + self.window_s + math.ceil(GRACE * self.stall_s)
        return closable + turn * self.round.rules.timing.d0_s

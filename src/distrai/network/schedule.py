"""Which holder is asked for which chunk: pure bookkeeping, without tasks, sockets or clocks of its own.

The rarest chunks come first. Of those that only the author has, each of those who fetch first asks for a share of its
own, and then passes it on. A chunk that one holder has had for too long may be taken by another as well; the first that
verifies counts. A holder that lied is out at once, one that failed too often in a row as well (its *failure budget*).
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

H = TypeVar("H")

_LOOKED_AT = 256
"""Chunks that are compared for one request: enough to find rare ones, whatever the size of the blob."""
_OVERTAKINGS_MAX = 3


@dataclass(frozen=True)
class ScheduleLimits:
    """How many failures in a row a holder has, and seconds."""

    failures_max: int = 6
    duplicate_after_s: float = 2.0
    """How old a request is when another holder is asked for the same chunk."""
    retry_s: float = 0.25
    """How long a holder that refused a chunk politely is not asked for it."""
    insist_after_s: float = 4.0
    """How long a chunk is refused before the holder is asked without politeness."""


@dataclass(frozen=True)
class Shares(Generic[H]):
    """How those who fetch the same blob divide it, so that they ask its author for different chunks.

    All who take part have a place, the holders among them: chunk by chunk it is the next one's turn, but for the holder
    itself. Who sees other members than the rest merely has another share.
    """

    own: int = 0
    places: Mapping[H, int] = field(default_factory=dict)

    def is_own(self, holder: H, index: int) -> bool:
        """Whether a chunk of a holder of everything is for us to ask for first."""
        at = self.places.get(holder)
        others = len(self.places)  # ourselves and all the others but that holder
        if at is None or others < 2:
            return True
        turn = index % others
        return (turn if turn < at else turn + 1) == self.own


@dataclass(frozen=True, slots=True)
class Request:
    """One chunk to ask for; ``polite``: unless the holder has something rarer to send."""

    index: int
    polite: bool = True


class Schedule(Generic[H]):
    """The chunks of one blob that are still missing, what each holder has, and what it has been asked for."""

    def __init__(
        self,
        missing: Iterable[int],
        rng: random.Random,
        limits: ScheduleLimits,
        shares: Shares[H] | None = None,
        chunk_count: int = 0,
    ) -> None:
        """``chunk_count``: how many chunks the whole blob has; who has them all need not be asked again."""
        order = list(missing)
        rng.shuffle(order)
        self._unasked = dict.fromkeys(order)
        self.missing = set(order)
        self.held: dict[H, set[int]] = {}
        self.dropped: set[H] = set()
        self._limits, self._shares, self._chunk_count = limits, shares or Shares(), chunk_count
        self._copies: Counter[int] = Counter()
        self._asked: dict[int, dict[H, tuple[float, float]]] = {}
        self._refused: dict[tuple[H, int], tuple[float, float]] = {}
        self._failures: Counter[H] = Counter()
        self._overtakings: Counter[H] = Counter()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return not self.missing

    def offer(self, holder: H, held: Iterable[int]) -> bool:
        """What ``holder`` has now; whether something of it is new, and missing here."""
        before, now = self.held.get(holder, set()), set(held)
        self._copies.subtract(before - now)
        self._copies.update(now - before)
        self.held[holder] = now
        return not self.missing.isdisjoint(now - before)

    def has_all(self, holder: H) -> bool:
        """Whether a holder has the whole blob."""
        return len(self.held.get(holder, ())) >= self._chunk_count

    def lacks(self, holder: H, index: int) -> None:
        """A holder has said that it does not have a chunk after all."""
        if index in self.held.get(holder, ()):
            self.held[holder].discard(index)
            self._copies[index] -= 1

    def take(self, holder: H, now: float, usual_s: float = 0.0) -> Request | None:
        """A chunk to ask ``holder`` for, of those it has; None if there is nothing for it now.

        ``usual_s`` is how long the holder usually takes for a chunk.
        """
        if holder in self.dropped or not self.useful(holder):
            return None
        request = self._rarest(holder, now, usual_s) or self._overdue(holder, now, usual_s)
        if request is not None:
            self._unasked.pop(request.index, None)
            self._asked.setdefault(request.index, {})[holder] = (now, now + usual_s)
        return request

    def stored(self, holder: H, index: int) -> list[H]:
        """A good chunk arrived from ``holder``; the others that are still busy with it, and need not go on."""
        self.missing.discard(index)
        self._unasked.pop(index, None)
        self._failures[holder] = self._overtakings[holder] = 0
        return [other for other in self._asked.pop(index, {}) if other != holder]

    def release(self, holder: H, index: int) -> None:
        """A request ended without the chunk and without blame."""
        asked = self._asked.get(index, {})
        asked.pop(holder, None)
        if not asked:
            self._asked.pop(index, None)
            if index in self.missing:
                self._unasked[index] = None

    def overtaken(self, holder: H, index: int) -> None:
        """Another holder was faster. Who is overtaken again and again is asked only for what nobody else has."""
        self.release(holder, index)
        self._overtakings[holder] += 1

    def refused(self, holder: H, index: int, now: float) -> None:
        """A holder has something rarer to send: it is not asked for this chunk for a while."""
        self.release(holder, index)
        since, _ = self._refused.get((holder, index), (now, now))
        self._refused[holder, index] = (since, now + self._limits.retry_s)

    def failed(self, holder: H, index: int) -> bool:
        """A request ended badly; whether that used up the holder's budget of failures in a row."""
        self.release(holder, index)
        self._failures[holder] += 1
        if self._failures[holder] >= self._limits.failures_max:
            self.drop(holder)
        return holder in self.dropped

    def drop(self, holder: H) -> None:
        """Never ask this holder again, nor count on what it said that it has."""
        self.dropped.add(holder)
        self.offer(holder, ())

    def useful(self, holder: H) -> bool:
        """Whether a holder has anything that is missing."""
        return not self.missing.isdisjoint(self.held.get(holder, ()))

    def _rarest(self, holder: H, now: float, usual_s: float) -> Request | None:
        """Of some chunks that nobody has been asked for, the rarest; of those, one of our own share first."""
        held, is_shared = self.held[holder], self.has_all(holder) and len(self._shares.places) > 1
        is_last_resort = self._overtakings[holder] >= _OVERTAKINGS_MAX
        best: tuple[int, bool, int, int] | None = None
        for place, index in enumerate(islice(reversed(self._unasked), _LOOKED_AT)):
            if index not in held or self._is_refused(holder, index, now):
                continue
            if is_last_resort and self._copies[index] > 1:
                continue
            is_others = is_shared and not self._shares.is_own(holder, index)
            # all begin at the low end of their share: who takes from another's begins at the high one
            position = (-index if is_others else index) if is_shared else place
            key = (self._copies[index], is_others, position, index)
            best = key if best is None else min(best, key)
        if best is None:
            return None
        return Request(best[3], not self._insists(holder, best[3], now, usual_s))

    def _is_refused(self, holder: H, index: int, now: float) -> bool:
        return (holder, index) in self._refused and now < self._refused[holder, index][1]

    def _insists(self, holder: H, index: int, now: float, usual_s: float) -> bool:
        since, _ = self._refused.get((holder, index), (now, now))
        return now - since > max(self._limits.insist_after_s, 2 * usual_s)

    def _overdue(self, holder: H, now: float, usual_s: float) -> Request | None:
        """The chunk that has been waited for longest, if too long, or if this holder will be much faster."""
        held = self.held[holder]
        late_s = max(self._limits.duplicate_after_s, 3 * usual_s)
        late = [
            (since, index)
            for index, asked in self._asked.items()
            if index in held and holder not in asked and len(asked) < 2
            for since, expected in asked.values()
            if now - since >= late_s or 0 < 2 * usual_s < expected - now
        ]
        return Request(min(late)[1], polite=False) if late else None

"""Which holder is asked for which chunk: pure bookkeeping, without tasks, sockets or clocks of its own.

Chunks are taken in random order, so that peers who fetch the same blob soon have different parts to give to each other.
A chunk that one holder has had for too long may be taken by another as well; the first that verifies counts. A holder
that lied is out at once, one that failed too often in a row as well (its *failure budget*).
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

H = TypeVar("H")


class Schedule(Generic[H]):
    """The chunks of one blob that are still missing, and what each holder has been asked for."""

    def __init__(
        self, missing: Iterable[int], rng: random.Random, failures_max: int, duplicate_after_s: float
    ) -> None:
        self._order = list(missing)
        rng.shuffle(self._order)
        self.missing = set(self._order)
        self._asked: dict[int, dict[H, float]] = {}
        self._failures: Counter[H] = Counter()
        self._failures_max = failures_max
        self._duplicate_after_s = duplicate_after_s
        self.dropped: set[H] = set()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return not self.missing

    def take(self, holder: H, held: Collection[int], now: float) -> int | None:
        """A chunk to ask ``holder`` for, of those it has; None if there is nothing for it now."""
        if holder in self.dropped:
            return None
        index = self._unasked(held)
        if index is None:
            index = self._overdue(holder, held, now)
        if index is not None:
            self._asked.setdefault(index, {})[holder] = now
        return index

    def stored(self, holder: H, index: int) -> list[H]:
        """A good chunk arrived from ``holder``; the others that are still busy with it, and need not go on."""
        self.missing.discard(index)
        self._failures[holder] = 0
        return [other for other in self._asked.pop(index, {}) if other != holder]

    def release(self, holder: H, index: int) -> None:
        """A request ended without the chunk and without blame."""
        asked = self._asked.get(index, {})
        asked.pop(holder, None)
        if not asked:
            self._asked.pop(index, None)
            if index in self.missing and index not in self._order:
                self._order.append(index)

    def failed(self, holder: H, index: int) -> bool:
        """A request ended badly; whether that used up the holder's budget of failures in a row."""
        self.release(holder, index)
        self._failures[holder] += 1
        if self._failures[holder] >= self._failures_max:
            self.drop(holder)
        return holder in self.dropped

    def drop(self, holder: H) -> None:
        """Never ask this holder again."""
        self.dropped.add(holder)

    def useful(self, held: Collection[int]) -> bool:
        """Whether a holder of these chunks has anything that is missing."""
        return not self.missing.isdisjoint(held)

    def _unasked(self, held: Collection[int]) -> int | None:
        for at in range(len(self._order) - 1, -1, -1):
            index = self._order[at]
            if index in held:
                self._order[at] = self._order[-1]
                self._order.pop()
                return index
        return None

    def _overdue(self, holder: H, held: Collection[int], now: float) -> int | None:
        """The chunk that has been waited for longest, if too long, and not by this holder."""
        late = [
            (min(asked.values()), index)
            for index, asked in self._asked.items()
            if index in held and holder not in asked and len(asked) < 2
        ]
        if not late:
            return None
        since, index = min(late)
        return index if now - since >= self._duplicate_after_s else None

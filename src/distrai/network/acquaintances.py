"""What a transport remembers of holders from one fetch to the next, and how much it asks of them at a time."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from distrai.protocol.primitives import MemberId

_REMEMBERED = 4096
_FEW_FETCHES = 8
_WEIGHT = 0.5
"""Of the newest chunk in how long a holder usually takes."""


@dataclass(frozen=True)
class AskingLimits:
    """Requests for chunks at a time: to one holder, and to all together (each takes memory for a chunk or two)."""

    in_flight: int = 3
    at_once: int = 24
    slow_s: float = 2.0
    """Who takes longer for a chunk is asked for one at a time; so is who has not sent any yet."""


@dataclass
class Acquaintance:
    """One holder: how long it usually takes for a chunk, turns that are taken, and who waits for one."""

    usual_s: float | None = None
    taken: int = 0
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)


class Acquaintances:
    """All holders of one transport."""

    def __init__(self, limits: AskingLimits | None = None) -> None:
        self.limits = limits or AskingLimits()
        self._known: OrderedDict[MemberId, Acquaintance] = OrderedDict()
        self._fetches = 0
        self._all = asyncio.Semaphore(self.limits.at_once)

    @contextmanager
    def fetch(self) -> Iterator[None]:
        """Around one fetch."""
        self._fetches += 1
        try:
            yield
        finally:
            self._fetches -= 1

    @property
    def crowd(self) -> float:
        """How much more seldom each fetch asks who has what, where many run at a time; at least 1."""
        return max(1.0, self._fetches / _FEW_FETCHES)

    def usual_s(self, member: MemberId) -> float:
        """How long a holder usually takes for a chunk; 0 if that is not known."""
        return self._of(member).usual_s or 0.0

    def learn(self, member: MemberId, seconds: float) -> None:
        """A request to a holder ended: with a chunk, badly, or because somebody else was faster."""
        known = self._of(member)
        before = seconds if known.usual_s is None else known.usual_s
        known.usual_s = before + _WEIGHT * (seconds - before)

    @asynccontextmanager
    async def turn(self, member: MemberId) -> AsyncIterator[None]:
        """Around one request to a holder: fetches take turns, and few requests are under way at a time."""
        known = self._of(member)
        await self._take(known)
        try:
            async with self._all:
                yield
        finally:
            self._give_back(known)

    async def _take(self, known: Acquaintance) -> None:
        if known.taken < self._limit(known) and not known.waiting:
            known.taken += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        known.waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # the turn had just been given
                self._give_back(known)
            raise

    def _give_back(self, known: Acquaintance) -> None:
        known.taken -= 1
        while known.taken < self._limit(known) and known.waiting:
            future = known.waiting.popleft()
            if not future.cancelled():
                known.taken += 1
                future.set_result(None)

    def _limit(self, known: Acquaintance) -> int:
        is_fast = known.usual_s is not None and known.usual_s <= self.limits.slow_s
        return self.limits.in_flight if is_fast else 1

    def _of(self, member: MemberId) -> Acquaintance:
        known = self._known.get(member)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._forget_one()
            known = self._known[member] = Acquaintance()
        return known

    def _forget_one(self) -> None:
        idle = (name for name, each in self._known.items() if not each.taken and not each.waiting)
        if (name := next(idle, None)) is not None:
            del self._known[name]

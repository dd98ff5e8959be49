"""The chunks of one blob, from everybody who has any of them: who is asked for what, and who is asked no more.

A few requests are in flight to each holder. Whoever has a part is asked again what it has meanwhile, so that those who
fetch the same blob give it to each other.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from distrai.network.acquaintances import Acquaintances
from distrai.network.holders import Busy, Holder, HolderError, Lied, NotHeld, run_all, stop, wait_at_most
from distrai.network.interface import FetchFailed
from distrai.network.patience import Patience
from distrai.network.schedule import Request, Schedule
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import MemberId


@dataclass
class Tally:
    """Who took part in a fetch: bytes of good chunks, what went wrong, who lied."""

    sent: Counter[MemberId] = field(default_factory=Counter)
    reasons: dict[MemberId, str] = field(default_factory=dict)
    liars: list[MemberId] = field(default_factory=list)

    def note(self, holder: Holder, error: HolderError) -> None:
        """Remember what a holder did not do, or that it lied."""
        self.reasons[holder.member] = str(error)
        if isinstance(error, Lied) and holder.member not in self.liars:
            self.liars.append(holder.member)


class Swarm:
    """All holders of one blob at work, until it is complete."""

    def __init__(
        self,
        blob: BlobRef,
        holders: Sequence[Holder],
        store: BlobStore,
        schedule: Schedule[MemberId],
        patience: Patience,
        acquaintances: Acquaintances,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``schedule`` knows which chunks are missing; the blob was begun in ``store``."""
        self.blob, self.store, self.patience, self.clock = blob, store, patience, clock
        self.holders = [holder for holder in holders if holder.member not in tally.liars]
        self.acquaintances, self.tally = acquaintances, tally
        self._schedule = schedule
        self._hopeless: dict[MemberId, str] = {}
        self._refusing: set[MemberId] = set()
        self._busy: dict[tuple[MemberId, int], asyncio.Task[bytes]] = {}
        self._changed = asyncio.Event()
        self._progress_at = clock()

    async def run(self) -> None:
        """Bring all that is missing into the store. Raises FetchFailed."""
        try:
            await run_all(self._use(holder) for holder in self.holders)
        except _Complete:
            return
        raise self._failed(_NOBODY_LEFT)

    def _failed(self, why: str) -> FetchFailed:
        return FetchFailed(self.blob.hash, why, self.tally.reasons)

    async def _use(self, holder: Holder) -> None:
        """Work with one holder until it is dropped, all is there (_Complete), or nobody has the rest (FetchFailed)."""
        lanes = min(self.patience.in_flight, self.blob.chunk_count)
        await run_all([self._watch(holder), *(self._lane(holder) for _ in range(lanes))])

    async def _watch(self, holder: Holder) -> None:
        """Ask a holder what it has, and again as long as it has not everything; more seldom if that is nothing new."""
        member, count = holder.member, self.blob.chunk_count
        pause_s = self.patience.refresh_s
        while member not in self._schedule.dropped:
            if not self._schedule.has_all(member):
                is_new = await self._look(holder, count)
                pause_s = self.patience.refresh_s if is_new else self._longer(pause_s, member)
            self._check_hope()
            await asyncio.sleep(pause_s * self.acquaintances.crowd)
        self._check_hope()

    def _longer(self, pause_s: float, member: MemberId) -> float:
        """The next pause after one that brought nothing new: short for who is at work on the blob, too."""
        longest_s = self.patience.refresh_max_s if member in self._hopeless else 2 * self.patience.refresh_s
        return min(2 * pause_s, longest_s)

    async def _look(self, holder: Holder, count: int) -> bool:
        """Ask a holder once what it has; whether that helps."""
        member = holder.member
        try:
            held = await holder.have(self.blob.hash, count)
        except HolderError as error:
            if not isinstance(error, NotHeld):  # that is no failure: it may be about to begin with this blob
                self.tally.note(holder, error)
            self._hopeless[member] = str(error)
            held = frozenset()
        else:
            self._hopeless.pop(member, None)
        if member in self.tally.liars:
            self._schedule.drop(member)
        is_new = self._schedule.offer(member, held)
        if is_new:
            self._changed.set()
        return is_new

    def _check_hope(self) -> None:
        """Raise FetchFailed once nobody has, or will have, anything of the rest."""
        members = [holder.member for holder in self.holders if holder.member not in self._schedule.dropped]
        if any(self._may_help(member) for member in members):
            return
        for member in members:
            self.tally.reasons.setdefault(member, self._hopeless.get(member, "had nothing new for too long"))
        raise self._failed(_NOBODY_LEFT)

    def _may_help(self, member: MemberId) -> bool:
        if member in self.tally.liars:
            return False
        is_patient = self.clock() - self._progress_at <= self.patience.give_up_s
        if self._schedule.useful(
            member
        ):  # its failures are counted, its requests end in time: only refusals could go on
            return is_patient or member not in self._refusing
        return is_patient and member not in self._hopeless

    async def _lane(self, holder: Holder) -> None:
        """One request after the other to a holder, until it is dropped or all is there."""
        member, refusals = holder.member, 0
        while member not in self._schedule.dropped:
            async with self.acquaintances.turn(member):
                request = self._schedule.take(member, self.clock(), self.acquaintances.usual_s(member))
                outcome = None if request is None else await self._take_chunk(holder, request)
            if outcome is _Outcome.REFUSED:
                refusals += 1
                await asyncio.sleep(min(_REFUSED_S * 2**refusals, _REFUSED_MAX_S))
            elif outcome is not _Outcome.ENDED:
                await self._pause()
            else:
                refusals = 0
        self._check_hope()

    async def _take_chunk(self, holder: Holder, request: Request) -> "_Outcome":
        """Ask for one chunk and store it."""
        index, began = request.index, self.clock()
        try:
            data = await self._ask(holder, request)
            self._refusing.discard(holder.member)
            if data is None:
                return self._overtaken(holder, began)
            await self._keep(holder, index, data)
        except Lied as error:
            self.tally.note(holder, error)
            self._drop(holder, index)
        except Busy:
            self._refusing.add(holder.member)
            self._schedule.refused(holder.member, index, self.clock())
            return _Outcome.REFUSED
        except HolderError as error:
            self.tally.note(holder, error)
            if isinstance(error, NotHeld):
                self._schedule.lacks(holder.member, index)
            self._schedule.failed(holder.member, index)
        else:
            self.acquaintances.learn(holder.member, self.clock() - began)
            return _Outcome.ENDED
        self.acquaintances.learn(holder.member, self.clock() - began)
        return _Outcome.FAILED

    def _overtaken(self, holder: Holder, began: float) -> "_Outcome":
        """Another was faster: nobody knows how long this one would have taken, but it was longer."""
        usual_s = self.acquaintances.usual_s(holder.member)
        self.acquaintances.learn(holder.member, max(usual_s, 2 * (self.clock() - began)))
        return _Outcome.ENDED

    async def _ask(self, holder: Holder, request: Request) -> bytes | None:
        """What a holder sends for a chunk, not yet verified; None if another was faster. Raises HolderError."""
        key, index = (holder.member, request.index), request.index
        asking = holder.chunk(self.blob.hash, index, self.blob.chunk_size(index), request.polite)
        task = asyncio.create_task(asking)
        self._busy[key] = task
        try:
            await asyncio.wait((task,))
        finally:
            del self._busy[key]
            if not task.done():
                self._schedule.release(*key)
                await stop(task)
        if task.cancelled():
            self._schedule.overtaken(*key)
            return None
        return task.result()

    async def _keep(self, holder: Holder, index: int, data: bytes) -> None:
        """Verify and store a chunk. Raises Lied, FetchFailed or _Complete."""
        try:
            await asyncio.to_thread(self.store.write_chunk, self.blob.hash, index, data)
        except WrongBlob:
            raise Lied(f"sent a wrong chunk {index}") from None
        except MissingBlob as error:  # deleted while it was arriving
            raise self._failed(str(error)) from None
        if index in self._schedule.missing:
            self.tally.sent[holder.member] += len(data)
        self._progress_at = self.clock()
        for other in self._schedule.stored(holder.member, index):
            self._cancel(other, index)
        self._changed.set()
        if self._schedule.complete:
            raise _Complete

    def _drop(self, holder: Holder, index: int) -> None:
        """Have done with a liar at once, whatever else it is sending."""
        self._schedule.release(holder.member, index)
        self._schedule.drop(holder.member)
        for member, other in list(self._busy):
            if member == holder.member:
                self._cancel(member, other)
        self._changed.set()

    def _cancel(self, member: MemberId, index: int) -> None:
        task = self._busy.get((member, index))
        if task is not None:
            task.cancel()

    async def _pause(self) -> None:
        self._changed.clear()
        await wait_at_most(self._changed, self.patience.refresh_s)


class _Complete(Exception):
    """Every chunk is in the store: ends all lanes at once."""


class _Outcome(Enum):
    """How a request for a chunk ended: with it or because another was faster, politely refused, or badly."""

    ENDED = auto()
    REFUSED = auto()
    FAILED = auto()


_NOBODY_LEFT = "no holder is left that has the rest"
_REFUSED_S, _REFUSED_MAX_S = 0.02, 0.1
"""How long a lane waits after a polite refusal, and after several."""

"""Fetching one blob from several holders at once; which engine moves the bytes does not matter here.

First a manifest that proves itself against the blob's name, from whoever answers first. Then a few requests in flight
to each holder, until every chunk is in the store. Whoever has a part of the blob serves that part, also while it is
fetching the rest, and is asked again what it has meanwhile: those who fetch the same blob give it to each other.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from distrai.network.acquaintances import Acquaintances, AskingLimits
from distrai.network.holders import (
    Busy,
    Holder,
    HolderError,
    Lied,
    NotHeld,
    find_manifest,
    first_answer,
    run_all,
    stop,
    wait_at_most,
)
from distrai.network.interface import Fetched, FetchFailed
from distrai.network.schedule import Request, Schedule, ScheduleLimits, Shares
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import BlobRef, check_manifest, chunk_hash
from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import Hash, MemberId

SWARM_BYTES_MIN = 4 << 20
"""Size above which everybody who may be fetching the same blob is asked for its chunks, not only its author."""


@dataclass(frozen=True)
class Patience:
    """How long and how often a fetch tries. Deadlines of single requests belong to the engine."""

    in_flight: int = 3
    """Requests to one holder at a time, over all fetches."""
    at_once: int = 24
    """Requests for chunks at a time, over all holders and fetches: each takes memory for a chunk or two."""
    failures_max: int = 6
    """Failures in a row after which a holder is dropped."""
    hedge_s: float = 0.5
    """How long one holder has to name the manifest before the next is asked as well."""
    duplicate_after_s: float = 2.0
    """How old a request is when an idle holder is asked for the same chunk."""
    refresh_s: float = 0.25
    """How often a holder of a part is asked what it has by now; also the pause after a failure."""
    refresh_max_s: float = 4.0
    """How often a holder of nothing at all is asked at last."""
    give_up_s: float = 60.0
    """How long nothing may arrive from anybody before holders of nothing new are given up."""

    @property
    def asking(self) -> AskingLimits:
        """What of this holds for all fetches together."""
        return AskingLimits(self.in_flight, self.at_once, self.duplicate_after_s)

    @property
    def schedule(self) -> ScheduleLimits:
        """What of this is for choosing chunks."""
        return ScheduleLimits(self.failures_max, self.duplicate_after_s, self.refresh_s)


class Fetch:
    """One blob on its way into the store."""

    def __init__(
        self,
        blob: BlobRef,
        holders: Sequence[Holder],
        store: BlobStore,
        rng: random.Random,
        patience: Patience,
        acquaintances: Acquaintances | None = None,
        shares: Shares[MemberId] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``acquaintances``: what is known of the holders; ``shares``: how those who fetch divide the blob."""
        self.blob, self.holders, self.store = blob, list(holders), store
        self.rng, self.patience, self.clock = rng, patience, clock
        self.acquaintances = acquaintances or Acquaintances(patience.asking)
        self.shares = shares
        self.sent: Counter[MemberId] = Counter()
        self.reasons: dict[MemberId, str] = {}
        self.liars: list[MemberId] = []
        self._hashes: tuple[Hash, ...] = ()
        self._schedule = self._schedule_of([])
        self._hopeless: dict[MemberId, str] = {}
        self._busy: dict[tuple[MemberId, int], asyncio.Task[bytes]] = {}
        self._changed = asyncio.Event()
        self._progress_at = clock()

    async def run(self, deadline_s: float) -> Fetched:
        """Fetch what is missing. Raises FetchFailed; what has arrived stays in the store."""
        try:
            async with asyncio.timeout(deadline_s):
                with self.acquaintances.fetch():
                    resumed = await self._run()
        except TimeoutError:
            raise self._failed(f"not complete after {deadline_s:g} s") from None
        return Fetched(self.blob, dict(self.sent), resumed, tuple(self.liars), dict(self.reasons))

    async def _run(self) -> int:
        """Fetch; how many bytes were there before."""
        if await asyncio.to_thread(self.store.has, self.blob):
            return self.blob.size
        if self.blob.chunk_count == 1:
            await self._fetch_single()
            return 0
        self._hashes = await self._find_hashes()
        missing = await asyncio.to_thread(self.store.begin, self.blob, self._hashes)
        self._schedule = self._schedule_of(missing)
        resumed = self.blob.size - sum(self.blob.chunk_size(index) for index in missing)
        if missing:
            try:
                await run_all(self._use(holder) for holder in self.holders if holder.member not in self.liars)
            except _Complete:
                return resumed
            raise self._failed(_NOBODY_LEFT)
        return resumed

    def _schedule_of(self, missing: list[int]) -> Schedule[MemberId]:
        return Schedule(missing, self.rng, self.patience.schedule, self.shares, self.blob.chunk_count)

    def _failed(self, why: str) -> FetchFailed:
        return FetchFailed(self.blob.hash, why, self.reasons)

    def _note(self, holder: Holder, error: HolderError) -> None:
        self.reasons[holder.member] = str(error)
        if isinstance(error, Lied) and holder.member not in self.liars:
            self.liars.append(holder.member)

    # Before the first chunk

    async def _fetch_single(self) -> None:
        """A blob of one chunk needs no manifest: the chunk alone proves the name. One round trip.

        Who is slow does not keep the others from being asked.
        """

        async def ask(holder: Holder) -> bytes:
            data = await holder.chunk(self.blob.hash, 0, self.blob.size)
            try:
                check_manifest(self.blob, [chunk_hash(data)])
            except WrongManifest:
                raise Lied("sent other bytes than the blob's") from None
            return data

        hedge_s = self.patience.duplicate_after_s
        answer = await first_answer(self.holders, self.rng, hedge_s, self._note, ask)
        if answer is None:
            raise self._failed("no holder gave it")
        holder, data = answer
        await asyncio.to_thread(self.store.put, data)
        self.sent[holder.member] += len(data)

    async def _find_hashes(self) -> tuple[Hash, ...]:
        try:
            found = await asyncio.to_thread(self.store.manifest, self.blob.hash)
        except MissingBlob:
            asked = await find_manifest(
                self.blob.hash, self.blob.size, self.holders, self.rng, self.patience.hedge_s, self._note
            )
            if asked is None:
                raise self._failed("no holder gave the list of its chunks") from None
            found = asked
        size, hashes = found
        if (
            size != self.blob.size
        ):  # the manifest proves itself: who announced the blob was wrong, nobody here lied
            raise self._failed(f"it has {size} bytes, and was announced with {self.blob.size}")
        return hashes

    # Chunks

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
                self._note(holder, error)
            self._hopeless[member] = str(error)
            held = frozenset()
        else:
            self._hopeless.pop(member, None)
        if member in self.liars:
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
            self.reasons.setdefault(member, self._hopeless.get(member, "had nothing new for too long"))
        raise self._failed(_NOBODY_LEFT)

    def _may_help(self, member: MemberId) -> bool:
        if member in self.liars:
            return False
        is_patient = self.clock() - self._progress_at <= self.patience.give_up_s
        return self._schedule.useful(member) or (is_patient and member not in self._hopeless)

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
            if data is not None:
                await self._keep(holder, index, data)
        except Lied as error:
            self._note(holder, error)
            self._drop(holder, index)
        except Busy:
            self._schedule.refused(holder.member, index, self.clock())
            return _Outcome.REFUSED
        except HolderError as error:
            self._note(holder, error)
            if isinstance(error, NotHeld):
                self._schedule.lacks(holder.member, index)
            self._schedule.failed(holder.member, index)
        else:
            self.acquaintances.learn(holder.member, self.clock() - began)
            return _Outcome.ENDED
        self.acquaintances.learn(holder.member, self.clock() - began)
        return _Outcome.FAILED

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
            self._schedule.release(*key)
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
            self.sent[holder.member] += len(data)
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

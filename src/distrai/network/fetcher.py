"""Fetching one blob from several holders at once; which engine moves the bytes does not matter here.

First a manifest that proves itself against the blob's name, from whoever answers first. Then a few requests in flight
to each holder, until every chunk is in the store. Whoever has a part of the blob serves that part, and is asked again
what it has meanwhile.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distrai.network.holders import (
    Holder,
    HolderError,
    Lied,
    find_manifest,
    first_answer,
    run_all,
    stop,
    wait_at_most,
)
from distrai.network.interface import Fetched, FetchFailed
from distrai.network.schedule import Schedule
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import BlobRef, check_manifest, chunk_hash
from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import Hash, MemberId


@dataclass(frozen=True)
class Patience:
    """How long and how often a fetch tries. Deadlines of single requests belong to the engine."""

    in_flight: int = 3
    """Requests to one holder at a time."""
    failures_max: int = 6
    """Failures in a row after which a holder is dropped."""
    hedge_s: float = 0.5
    """How long one holder has to name the manifest before the next is asked as well."""
    duplicate_after_s: float = 2.0
    """How old a request is when an idle holder is asked for the same chunk."""
    refresh_s: float = 0.5
    """How often a holder of a part is asked what it has by now; also the pause after a failure."""
    give_up_s: float = 60.0
    """How long nothing may arrive from anybody before holders of nothing new are given up."""


class Fetch:
    """One blob on its way into the store."""

    def __init__(
        self,
        blob: BlobRef,
        holders: Sequence[Holder],
        store: BlobStore,
        rng: random.Random,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.blob, self.holders, self.store = blob, list(holders), store
        self.rng, self.patience, self.clock = rng, patience, clock
        self.sent: Counter[MemberId] = Counter()
        self.reasons: dict[MemberId, str] = {}
        self.liars: list[MemberId] = []
        self._hashes: tuple[Hash, ...] = ()
        self._schedule = self._schedule_of([])
        self._busy: dict[tuple[MemberId, int], asyncio.Task[bytes]] = {}
        self._changed = asyncio.Event()
        self._progress_at = clock()

    async def run(self, deadline_s: float) -> Fetched:
        """Fetch what is missing. Raises FetchFailed; what has arrived stays in the store."""
        try:
            async with asyncio.timeout(deadline_s):
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
            raise self._failed("no holder is left that has the rest")
        return resumed

    def _schedule_of(self, missing: list[int]) -> Schedule[MemberId]:
        return Schedule(missing, self.rng, self.patience.failures_max, self.patience.duplicate_after_s)

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
        """Work with one holder until it is dropped, has nothing new for too long, or all is there (_Complete)."""
        member, count = holder.member, self.blob.chunk_count
        while member not in self._schedule.dropped:
            try:
                held = await holder.have(self.blob.hash, count)
            except HolderError as error:
                self._note(holder, error)
                return
            await run_all(self._lane(holder, held) for _ in range(min(self.patience.in_flight, count)))
            if self.clock() - self._progress_at > self.patience.give_up_s:
                self.reasons.setdefault(member, "had nothing new for too long")
                return
            if member not in self._schedule.dropped:
                await self._pause()

    async def _lane(self, holder: Holder, held: frozenset[int]) -> None:
        """One request after the other to a holder, until nothing that it has is missing, or it is dropped."""
        member = holder.member
        while member not in self._schedule.dropped and self._schedule.useful(held):
            index = self._schedule.take(member, held, self.clock())
            if index is None or not await self._take_chunk(holder, index):
                await self._pause()

    async def _take_chunk(self, holder: Holder, index: int) -> bool:
        """Ask for one chunk and store it; False after a failure."""
        try:
            data = await self._ask(holder, index)
        except Lied as error:
            self._note(holder, error)
            self._drop(holder, index)
        except HolderError as error:
            self._note(holder, error)
            self._schedule.failed(holder.member, index)
        else:
            if data is not None:
                await self._keep(holder, index, data)
            return True
        return False

    async def _ask(self, holder: Holder, index: int) -> bytes | None:
        """The bytes of one chunk, verified; None if another holder was faster. Raises HolderError."""
        key = (holder.member, index)
        task = asyncio.create_task(holder.chunk(self.blob.hash, index, self.blob.chunk_size(index)))
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
        data = task.result()
        if chunk_hash(data) != self._hashes[index]:
            raise Lied(f"sent a wrong chunk {index}")
        return data

    async def _keep(self, holder: Holder, index: int, data: bytes) -> None:
        try:
            await asyncio.to_thread(self.store.write_chunk, self.blob.hash, index, data)
        except (WrongBlob, MissingBlob) as error:  # deleted while it was arriving
            raise self._failed(str(error)) from None
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

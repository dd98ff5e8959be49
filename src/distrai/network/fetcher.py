"""Fetching one blob from several holders at once; which engine moves the bytes does not matter here.

First a manifest that proves itself against the blob's name, from whoever answers first. Then a few requests in flight to
each holder, until every chunk is in the store. Whoever has a part of the blob serves that part and is asked again what
it has meanwhile.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from distrai.network.interface import FetchFailed, Fetched
from distrai.network.schedule import Schedule
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import BlobRef, check_manifest, chunk_hash
from distrai.protocol.errors import WrongBlob, WrongManifest
from distrai.protocol.primitives import Hash, MemberId


class HolderError(Exception):
    """A holder did not give what it was asked for, for a reason that is nobody's fault: gone, silent, overloaded."""


class NotHeld(HolderError):
    """The holder says that it has nothing of this blob."""


class Lied(HolderError):
    """The holder sent what cannot belong to the blob."""


class Holder(Protocol):
    """Someone who may have a blob. Every method raises HolderError, and ends within a deadline of its own."""

    @property
    def member(self) -> MemberId:
        """Who it is."""
        ...

    async def manifest(self, hash_: Hash, size_max: int) -> tuple[int, tuple[Hash, ...]]:
        """Size (at most ``size_max`` bytes) and chunk hashes, not checked against the name."""
        ...

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """The chunks that it has now."""
        ...

    async def chunk(self, hash_: Hash, index: int, size: int) -> bytes:
        """``size`` bytes that claim to be a chunk."""
        ...


@dataclass(frozen=True)
class Limits:
    """Patience with holders, in seconds and counts."""

    in_flight: int = 3
    """Requests to one holder at a time."""
    failures_max: int = 3
    hedge_s: float = 0.5
    """How long one holder has to name the manifest before the next is asked as well."""
    duplicate_after_s: float = 2.0
    """How old a request must be before an idle holder is asked for the same chunk."""
    refresh_s: float = 0.5
    """How often a holder of a part is asked what it has by now."""


class Fetch:
    """One blob on its way into the store."""

    def __init__(
        self,
        blob: BlobRef,
        holders: Sequence[Holder],
        store: BlobStore,
        rng: random.Random,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.blob, self.holders, self.store = blob, holders, store
        self.rng, self.limits, self.clock = rng, limits, clock
        self.sent: Counter[MemberId] = Counter()
        self.reasons: dict[MemberId, str] = {}
        self.liars: list[MemberId] = []
        self.schedule = Schedule[MemberId]([], rng, limits.failures_max, limits.duplicate_after_s)
        self._busy: dict[tuple[MemberId, int], asyncio.Task[bytes]] = {}
        self._changed = asyncio.Event()

    async def run(self, deadline_s: float) -> Fetched:
        """Fetch what is missing. Raises FetchFailed; what has arrived stays in the store."""
        try:
            async with asyncio.timeout(deadline_s):
                resumed = await self._run()
        except TimeoutError:
            raise FetchFailed(
                self.blob.hash, f"not complete after {deadline_s:g} s", self.reasons
            ) from None
        return Fetched(self.blob, dict(self.sent), resumed, tuple(self.liars), dict(self.reasons))

    async def _run(self) -> int:
        if await asyncio.to_thread(self.store.has, self.blob):
            return self.blob.size
        if self.blob.chunk_count == 1 and await self._fetch_single():
            return 0
        hashes = await self._find_manifest()
        missing = await asyncio.to_thread(self.store.begin, self.blob, hashes)
        self.schedule = Schedule(missing, self.rng, self.limits.failures_max, self.limits.duplicate_after_s)
        self.hashes = hashes
        resumed = self.blob.size - sum(self.blob.chunk_size(index) for index in missing)
        await _all(self._use(holder) for holder in self.holders if self._usable(holder))
        if not self.schedule.complete:
            raise FetchFailed(self.blob.hash, "no holder is left that has the rest", self.reasons)
        return resumed

    def _usable(self, holder: Holder) -> bool:
        return holder.member not in self.liars

    # Before the first chunk

    async def _fetch_single(self) -> bool:
        """A blob of one chunk needs no manifest: the chunk alone proves the name. One round trip."""
        for holder in self.rng.sample(list(self.holders), len(self.holders)):
            try:
                data = await holder.chunk(self.blob.hash, 0, self.blob.size)
                check_manifest(self.blob, [chunk_hash(data)])
            except HolderError as error:
                self._note(holder, error)
                continue
            except WrongManifest:
                self._note(holder, Lied("sent other bytes than the blob's"))
                continue
            await asyncio.to_thread(self.store.put, data)
            self.sent[holder.member] += len(data)
            return True
        raise FetchFailed(self.blob.hash, "no holder gave it", self.reasons)

    async def _find_manifest(self) -> tuple[Hash, ...]:
        try:
            size, hashes = await asyncio.to_thread(self.store.manifest, self.blob.hash)
        except MissingBlob:
            pass
        else:
            check_manifest(self.blob, hashes)
            return hashes
        size, hashes = await self.find_manifest(self.blob.size)
        try:
            check_manifest(self.blob, hashes)
        except WrongManifest:  # it proves itself against the name, so what is wrong is the size that was announced
            why = f"whoever announced it said {self.blob.size} bytes, but it has {size}"
            raise FetchFailed(self.blob.hash, why, self.reasons) from None
        return hashes

    async def find_manifest(self, size_max: int) -> tuple[int, tuple[Hash, ...]]:
        """The first manifest that proves itself; holders are asked one after the other, without waiting for long."""
        if self.blob.hash == _EMPTY:
            return 0, ()
        found: list[tuple[int, tuple[Hash, ...]]] = []

        async def ask(place: int, holder: Holder) -> None:
            earlier_failed = failed[place - 1].wait() if place else asyncio.sleep(0)
            try:
                async with asyncio.timeout(self.limits.hedge_s * place):
                    await earlier_failed
            except TimeoutError:
                pass
            try:
                size, hashes = await holder.manifest(self.blob.hash, size_max)
                try:
                    check_manifest(BlobRef(self.blob.hash, size), hashes)
                except WrongManifest:
                    raise Lied("sent a manifest that does not belong to the blob") from None
            except HolderError as error:
                self._note(holder, error)
                failed[place].set()
            else:
                found.append((size, hashes))
                raise _Found

        holders = self.rng.sample(list(self.holders), len(self.holders))
        failed = [asyncio.Event() for _ in holders]
        try:
            await _all(ask(place, holder) for place, holder in enumerate(holders))
        except _Found:
            return found[0]
        raise FetchFailed(self.blob.hash, "no holder gave a list of its chunks", self.reasons)

    # Chunks

    async def _use(self, holder: Holder) -> None:
        """Work with one holder until the blob is whole or the holder of no more use."""
        member = holder.member
        while not self.schedule.complete and member not in self.schedule.dropped:
            try:
                held = await holder.have(self.blob.hash, self.blob.chunk_count)
            except HolderError as error:
                self._note(holder, error)
                return
            width = min(self.limits.in_flight, self.blob.chunk_count)
            await _all(self._take_chunks(holder, held) for _ in range(width))
            if len(held) < self.blob.chunk_count and not self.schedule.useful(held):
                await self._wait_for_change(self.limits.refresh_s)

    async def _take_chunks(self, holder: Holder, held: frozenset[int]) -> None:
        """One lane of requests to a holder, until nothing of what it has is missing, or it is dropped."""
        member = holder.member
        while member not in self.schedule.dropped and self.schedule.useful(held):
            index = self.schedule.take(member, held, self.clock())
            if index is None:
                await self._wait_for_change(self.limits.refresh_s)
                continue
            await self._take_chunk(holder, index)
            self._changed.set()

    async def _take_chunk(self, holder: Holder, index: int) -> None:
        member, size = holder.member, self.blob.chunk_size(index)
        task = asyncio.ensure_future(_coroutine(holder.chunk(self.blob.hash, index, size)))
        self._busy[member, index] = task
        try:
            await asyncio.wait((task,))
            if task.cancelled():  # another holder was faster
                self.schedule.release(member, index)
                return
            data = task.result()
            if chunk_hash(data) != self.hashes[index]:
                raise Lied(f"sent a wrong chunk ({index})")
            await asyncio.to_thread(self.store.write_chunk, self.blob.hash, index, data)
        except Lied as error:
            self.schedule.release(member, index)
            self.schedule.drop(member)
            self._note(holder, error)
        except HolderError as error:
            self.schedule.failed(member, index)
            self._note(holder, error)
        except (WrongBlob, MissingBlob) as error:  # deleted under our hands
            raise FetchFailed(self.blob.hash, str(error), self.reasons) from None
        else:
            self.sent[member] += size
            for other in self.schedule.stored(index):
                if other != member and (late := self._busy.get((other, index))) is not None:
                    late.cancel()
        finally:
            self._busy.pop((member, index), None)
            task.cancel()

    async def _wait_for_change(self, at_most_s: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _note(self, holder: Holder, error: HolderError) -> None:
        self.reasons[holder.member] = str(error)
        if isinstance(error, Lied) and holder.member not in self.liars:
            self.liars.append(holder.member)


class _Found(Exception):  # noqa: N818
    """Ends a race whose winner has written down what it found."""


_EMPTY = Hash(b"")


async def _coroutine(work: Awaitable[bytes]) -> bytes:
    return await work


async def _all(works: Any) -> None:
    """Run all to the end, or until one raises; then cancel the others and raise that one."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_Work = Coroutine[Any, Any, None]

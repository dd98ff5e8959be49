"""Fetching one blob from several holders at once; which engine moves the bytes does not matter here.

First a manifest that proves itself against the blob's name, from whoever answers first; then the chunks, from all of
them (``swarm.py``). A blob of one chunk is a single request.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from distrai.network.acquaintances import Acquaintances
from distrai.network.holders import Holder, Lied, find_manifest, first_answer
from distrai.network.interface import Fetched, FetchFailed
from distrai.network.patience import Patience
from distrai.network.schedule import Schedule, Shares
from distrai.network.store import BlobStore, MissingBlob
from distrai.network.swarm import Swarm, Tally
from distrai.protocol.blobs import BlobRef, check_manifest, chunk_hash
from distrai.protocol.errors import WrongManifest
from distrai.protocol.primitives import Hash, MemberId

__all__ = ["SWARM_BYTES_MIN", "Fetch", "Patience"]

SWARM_BYTES_MIN = 4 << 20
"""Size above which everybody who may be fetching the same blob is asked for its chunks, not only its author."""


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
        self.tally = Tally()

    async def run(self, deadline_s: float) -> Fetched:
        """Fetch what is missing. Raises FetchFailed; what has arrived stays in the store."""
        try:
            async with asyncio.timeout(deadline_s):
                with self.acquaintances.fetch():
                    resumed = await self._run()
        except TimeoutError:
            raise self._failed(f"not complete after {deadline_s:g} s") from None
        tally = self.tally
        return Fetched(self.blob, dict(tally.sent), resumed, tuple(tally.liars), dict(tally.reasons))

    @property
    def reasons(self) -> dict[MemberId, str]:
        """What went wrong, by member."""
        return self.tally.reasons

    @property
    def liars(self) -> list[MemberId]:
        """Who lied."""
        return self.tally.liars

    async def _run(self) -> int:
        """Fetch; how many bytes were there before."""
        if await asyncio.to_thread(self.store.has, self.blob):
            return self.blob.size
        if self.blob.chunk_count == 1:
            await self._fetch_single()
            return 0
        hashes = await self._find_hashes()
        missing = await asyncio.to_thread(self.store.begin, self.blob, hashes)
        if missing:
            await self._swarm(missing).run()
        return self.blob.size - sum(self.blob.chunk_size(index) for index in missing)

    def _swarm(self, missing: list[int]) -> Swarm:
        limits, count = self.patience.schedule, self.blob.chunk_count
        schedule = Schedule(missing, self.rng, limits, self.shares, count)
        return Swarm(
            self.blob,
            self.holders,
            self.store,
            schedule,
            self.patience,
            self.acquaintances,
            self.tally,
            self.clock,
        )

    def _failed(self, why: str) -> FetchFailed:
        return FetchFailed(self.blob.hash, why, self.reasons)

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
        answer = await first_answer(self.holders, self.rng, hedge_s, self.tally.note, ask)
        if answer is None:
            raise self._failed("no holder gave it")
        holder, data = answer
        await asyncio.to_thread(self.store.put, data)
        self.tally.sent[holder.member] += len(data)

    async def _find_hashes(self) -> tuple[Hash, ...]:
        try:
            found = await asyncio.to_thread(self.store.manifest, self.blob.hash)
        except MissingBlob:
            asked = await find_manifest(
                self.blob.hash, self.blob.size, self.holders, self.rng, self.patience.hedge_s, self.tally.note
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

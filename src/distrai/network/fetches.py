"""All fetches of one transport: who is asked, who is not asked any more, and how ``close`` ends them.

Which engine a holder is reached by does not matter here: a transport says what ``Holder`` stands for an endpoint.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from distrai.network.acquaintances import Acquaintances
from distrai.network.counters import purpose_of
from distrai.network.fetcher import Fetch, Patience
from distrai.network.holders import Holder, HolderError, find_manifest
from distrai.network.interface import Endpoint, Fetched, FetchFailed
from distrai.network.schedule import Shares
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Address, Hash, MemberId

T = TypeVar("T")
HolderOf = Callable[[Endpoint, str], Holder]
"""Who stands for an endpoint, and what its bytes are for."""


class Fetches:
    """What is under way, and what is remembered of holders. Belongs to one event loop."""

    def __init__(
        self,
        store: BlobStore,
        address: Address,
        rng: random.Random,
        patience: Patience,
        holder_of: HolderOf,
    ) -> None:
        """``address`` is the own node key's: nobody fetches from himself."""
        self.store, self.address, self.rng, self.patience = store, address, rng, patience
        self.holder_of = holder_of
        self.acquaintances = Acquaintances(patience.asking)
        self.liars: dict[Address, str] = {}
        self._locks: dict[Hash, asyncio.Lock] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """End what is under way: it fails."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str
    ) -> Fetched:
        """See ``Transport``. Whoever lied once is not asked again while this transport lives."""
        return await self._unless_closed(blob.hash, self._fetch(blob, holders, deadline_s, purpose))

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """See ``Transport``."""
        return await self._unless_closed(hash_, self._resolve(hash_, holders, size_max, deadline_s))

    async def _fetch(
        self, blob: BlobRef, endpoints: Sequence[Endpoint], deadline_s: float, purpose: str
    ) -> Fetched:
        lock = self._locks.setdefault(blob.hash, asyncio.Lock())
        asked, refused = self._whom_to_ask(endpoints)
        holders = [self.holder_of(each, purpose_of(purpose)) for each in asked]
        shares = self._shares(asked)
        fetch = Fetch(blob, holders, self.store, self.rng, self.patience, self.acquaintances, shares)
        fetch.reasons.update(refused)
        try:
            async with asyncio.timeout(deadline_s), lock:  # whoever comes second finds it there
                return await fetch.run(deadline_s)
        except TimeoutError:
            raise FetchFailed(blob.hash, f"not complete after {deadline_s:g} s", fetch.reasons) from None
        finally:
            self._locks.pop(blob.hash, None)
            addresses = {endpoint.member: endpoint.address for endpoint in endpoints}
            self.liars.update((addresses[member], fetch.reasons[member]) for member in fetch.liars)

    async def _resolve(
        self, hash_: Hash, endpoints: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        asked, reasons = self._whom_to_ask(endpoints)
        holders = [self.holder_of(each, "control") for each in asked]

        def note(holder: Holder, error: HolderError) -> None:
            reasons[holder.member] = str(error)

        try:
            async with asyncio.timeout(deadline_s):
                found = await find_manifest(hash_, size_max, holders, self.rng, self.patience.hedge_s, note)
        except TimeoutError:
            raise FetchFailed(hash_, f"nobody named its size within {deadline_s:g} s", reasons) from None
        if found is None:
            raise FetchFailed(hash_, f"nobody has it, or it has more than {size_max} bytes", reasons)
        return BlobRef(hash_, found[0])

    def _shares(self, asked: Sequence[Endpoint]) -> Shares[MemberId]:
        """How a blob is divided among those who may be fetching it: by their addresses, which all of them know."""
        order = sorted({self.address, *(each.address for each in asked)})
        places = {each.member: order.index(each.address) for each in asked}
        return Shares(order.index(self.address), places)

    def _whom_to_ask(self, endpoints: Sequence[Endpoint]) -> tuple[list[Endpoint], dict[MemberId, str]]:
        """Whom to ask, and why not the others."""
        others = {endpoint.member: endpoint for endpoint in endpoints if endpoint.address != self.address}
        asked = [each for each in others.values() if each.address not in self.liars]
        refused = {
            each.member: f"lied before: {self.liars[each.address]}"
            for each in others.values()
            if each.address in self.liars
        }
        return asked, refused

    async def _unless_closed(self, hash_: Hash, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` so that ``close`` can end it without ending whoever waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                await asyncio.gather(task, return_exceptions=True)
                raise
            raise FetchFailed(hash_, "the transport was closed", {}) from None

"""The default transport: HTTP between peers, a server and a client around one store."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from distrai.network.acquaintances import Acquaintances
from distrai.network.counters import Counters, purpose_of
from distrai.network.fetcher import Fetch, Patience
from distrai.network.holders import Holder, HolderError, find_manifest
from distrai.network.http.client import HttpClient, HttpPatience
from distrai.network.http.holder import HttpHolder
from distrai.network.http.proofs import DELIVERY_HEADER, Deliveries, Recover, Sign, seal_delivery
from distrai.network.http.server import HttpServer, ServerLimits
from distrai.network.inbox import Inbox, InboxLimits
from distrai.network.interface import (
    DOCUMENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskFailed,
    Endpoint,
    Fetched,
    FetchFailed,
    SendFailed,
)
from distrai.network.schedule import Shares
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import Address, Hash, MemberId

T = TypeVar("T")


class HttpTransport:
    """See ``Transport``. Belongs to one event loop."""

    def __init__(
        self,
        store: BlobStore,
        *,
        host: str,
        port: int,
        address: Address,
        sign: Sign,
        recover: Recover,
        local: bool,
        rng: random.Random,
        public_url: str | None = None,
        patience: Patience | None = None,
        http_patience: HttpPatience | None = None,
        server_limits: ServerLimits | None = None,
        inbox_limits: InboxLimits | None = None,
    ) -> None:
        """A transport that is not started yet.

        ``address`` is that of the node key behind ``sign``; ``port`` 0 takes a free one; ``local`` allows addresses of
        private networks; ``public_url`` is how others reach this peer if that is not where it is bound.
        """
        self.store, self.host, self.port, self.address = store, host, port, address
        self.sign, self.rng, self.public_url = sign, rng, public_url
        self.patience = patience or Patience()
        self.acquaintances = Acquaintances(self.patience.asking)
        self.counters = Counters()
        self.inbox = Inbox(inbox_limits)
        self.liars: dict[Address, str] = {}
        self.client = HttpClient(recover, self.counters, http_patience or HttpPatience(), local=local)
        self.server = HttpServer(
            store,
            self.inbox,
            self.counters,
            address,
            sign,
            Deliveries(address, recover),
            server_limits or ServerLimits(),
        )
        self._locks: dict[Hash, asyncio.Lock] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self) -> str:
        """Listen; the URL to tell others. Raises OSError if the port is taken."""
        port = await self.server.start(self.host, self.port)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{port}"

    async def close(self) -> None:
        """End everything: fetches fail, ``received`` ends, nothing stays open."""
        self.inbox.close()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.client.close()
        await self.server.close()

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """See ``Transport``."""
        if isinstance(source, bytes):
            stored = await asyncio.to_thread(self.store.put, source)
        else:
            stored = await asyncio.to_thread(self.store.put_file, source)
        if stored != blob:
            await asyncio.to_thread(self.store.delete, stored)
            raise WrongBlob(f"what is to be published is not blob {blob.hash.hex()[:12]}")

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = "updates"
    ) -> Fetched:
        """See ``Transport``. Whoever lied once is not asked again while this transport lives."""
        return await self._unless_closed(blob.hash, self._fetch(blob, holders, deadline_s, purpose))

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """See ``Transport``."""
        return await self._unless_closed(hash_, self._resolve(hash_, holders, size_max, deadline_s))

    async def send(self, endpoint: Endpoint, message: bytes, purpose: str = "control") -> None:
        """See ``Transport``."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SendFailed(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}")
        try:
            url = await self.client.prove(endpoint)
            sealed = seal_delivery(message, self.address, endpoint.address, self.sign)
            await self.client.post(url, "/message", message, {DELIVERY_HEADER: sealed}, purpose_of(purpose))
        except HolderError as error:
            self.client.forget(endpoint)
            raise SendFailed(f"member {endpoint.member.hex()[:12]} {error}") from None

    async def show(self, name: str, document: bytes) -> None:
        """See ``Transport``."""
        assert len(document) <= DOCUMENT_BYTES_MAX
        self.server.documents[name] = document

    async def ask(self, endpoint: Endpoint, name: str, size_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """See ``Transport``."""
        try:
            url = await self.client.prove(endpoint)
            answer_s = self.client.patience.answer_s
            return await self.client.get(url, f"/document/{name}", range(size_max + 1), "control", answer_s)
        except HolderError as error:
            self.client.forget(endpoint)
            raise AskFailed(f"member {endpoint.member.hex()[:12]} {error}") from None

    def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        return self.inbox.messages()

    async def _fetch(
        self, blob: BlobRef, endpoints: Sequence[Endpoint], deadline_s: float, purpose: str
    ) -> Fetched:
        lock = self._locks.setdefault(blob.hash, asyncio.Lock())
        asked, refused = self._holders(endpoints, purpose)
        shares = self._shares(asked)
        fetch = Fetch(blob, asked, self.store, self.rng, self.patience, self.acquaintances, shares)
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
        asked, reasons = self._holders(endpoints, "control")

        def note(holder: Holder, error: HolderError) -> None:
            reasons[holder.member] = str(error)

        try:
            async with asyncio.timeout(deadline_s):
                found = await find_manifest(hash_, size_max, asked, self.rng, self.patience.hedge_s, note)
        except TimeoutError:
            raise FetchFailed(hash_, f"nobody named its size within {deadline_s:g} s", reasons) from None
        if found is None:
            raise FetchFailed(hash_, f"nobody has it, or it has more than {size_max} bytes", reasons)
        return BlobRef(hash_, found[0])

    def _shares(self, holders: Sequence[HttpHolder]) -> Shares[MemberId]:
        """How a blob is divided among those who may be fetching it: by their addresses, which all of them know."""
        order = sorted({self.address, *(holder.endpoint.address for holder in holders)})
        places = {holder.member: order.index(holder.endpoint.address) for holder in holders}
        return Shares(order.index(self.address), places)

    def _holders(
        self, endpoints: Sequence[Endpoint], purpose: str
    ) -> tuple[list[HttpHolder], dict[MemberId, str]]:
        """Whom to ask, and why not the others."""
        others = {endpoint.member: endpoint for endpoint in endpoints if endpoint.address != self.address}
        asked = [each for each in others.values() if each.address not in self.liars]
        refused = {
            each.member: f"lied before: {self.liars[each.address]}"
            for each in others.values()
            if each.address in self.liars
        }
        return [HttpHolder(self.client, each, purpose_of(purpose)) for each in asked], refused

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

"""The HTTP transport of one peer: a server, a client and a store between them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from distrai.network.counters import Counters
from distrai.network.fetcher import Fetch
from distrai.network.fetcher import Patience as FetchPatience
from distrai.network.holders import Holder, HolderError, find_manifest
from distrai.network.http.client import HttpClient, HttpHolder, Patience
from distrai.network.http.server import HttpServer
from distrai.network.interface import Endpoint, Fetched, FetchFailed, SendFailed
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes


class HttpTransport:
    """See ``Transport``."""

    def __init__(
        self,
        store: BlobStore,
        *,
        host: str,
        port: int,
        address: Address,
        sign: Callable[[Hash], SignatureBytes],
        recover: Callable[[Hash, bytes], Address],
        local: bool,
        rng: random.Random,
        patience: Patience | None = None,
        public_url: str | None = None,
    ) -> None:
        """``local`` allows addresses of private networks; ``public_url`` is how others reach this peer, if not as bound."""
        self.store, self.host, self.port, self.address = store, host, port, address
        self.rng, self.public_url = rng, public_url
        self.counters = Counters()
        self.liars: set[MemberId] = set()
        self.server = HttpServer(store, sign, self.counters)
        self.client = HttpClient(recover, self.counters, local=local, patience=patience or Patience())

    async def start(self) -> str:
        """Listen; returns the address to tell others."""
        return await self.server.start(self.host, self.port, self.public_url)

    async def close(self) -> None:
        """End everything."""
        await self.client.close()
        await self.server.close()

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """See ``Transport``."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        if self.store.put(data) != blob:
            raise WrongBlob(f"the bytes to publish are not blob {blob.hash.hex()[:16]}")

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = "updates"
    ) -> Fetched:
        """See ``Transport``. Who lied once is asked last from then on."""
        if self.store.has(blob):
            return Fetched(blob)
        ordered = sorted(holders, key=lambda endpoint: endpoint.member in self.liars)
        try:
            fetched = await self._fetch(blob, ordered, deadline_s, purpose)
        except FetchFailed:
            for endpoint in holders:
                self.client.forget(endpoint)
            raise
        self.liars |= set(fetched.liars)
        return fetched

    async def _fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str
    ) -> Fetched:
        sources = [HttpHolder(self.client, endpoint, purpose) for endpoint in holders]
        return await Fetch(blob, sources, self.store, self.rng, FetchPatience()).run(deadline_s)

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """See ``Transport``."""
        reasons: dict[MemberId, str] = {}
        sources = [HttpHolder(self.client, endpoint, "control") for endpoint in holders]

        def note(holder: Holder, error: HolderError) -> None:
            reasons[holder.member] = str(error)

        try:
            async with asyncio.timeout(deadline_s):
                found = await find_manifest(hash_, size_max, sources, self.rng, 0.5, note)
        except TimeoutError:
            found = None
        if found is None:
            raise FetchFailed(hash_, "nobody could say how large it is", reasons)
        return BlobRef(hash_, found[0])

    async def send(self, peer: Endpoint, message: bytes) -> None:
        """See ``Transport``."""
        try:
            await self.client.send(peer, message)
        except SendFailed:
            self.client.forget(peer)
            raise

    async def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        async for message in self.server.inbox.messages():
            yield message

"""The HTTP transport of one peer: a server, a client and a store between them."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from distrai.network.counters import Counters
from distrai.network.fetcher import Fetcher
from distrai.network.http.client import HttpClient, HttpSource, Patience
from distrai.network.http.server import HttpServer
from distrai.network.interface import Endpoint, Fetched, FetchFailed, NetworkError
from distrai.network.store import BlobStore
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef, manifest_hash
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import HASH_SIZE, Address, Hash, MemberId, SignatureBytes


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
        sources = [HttpSource(self.client, endpoint, purpose) for endpoint in ordered]
        try:
            fetched = await Fetcher(self.store, blob, sources, self.rng).run(deadline_s)
        except FetchFailed:
            for endpoint in holders:
                self.client.forget(endpoint)
            raise
        self.liars |= fetched.liars
        return fetched

    async def resolve(self, name: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float) -> BlobRef:
        """See ``Transport``."""
        manifest_max = 8 + HASH_SIZE * -(-size_max // CHUNK_SIZE)
        reasons = {}
        for endpoint in holders:
            try:
                size, hashes = await HttpSource(self.client, endpoint, "control").sized_manifest(name, manifest_max)
            except NetworkError as error:
                reasons[endpoint.member.hex()[:12]] = str(error)
                continue
            if manifest_hash(size, hashes) == name and size <= size_max:
                return BlobRef(name, size)
            reasons[endpoint.member.hex()[:12]] = "sent the manifest of something else"
        raise FetchFailed(name.hex(), reasons)

    async def send(self, peer: Endpoint, message: bytes) -> None:
        """See ``Transport``."""
        try:
            await self.client.send(peer, message)
        except NetworkError:
            self.client.forget(peer)
            raise

    async def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        while True:
            yield await self.server.received.get()

"""The default transport: HTTP between peers, a server and a client around one store."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from distrai.network.counters import Counters, purpose_of
from distrai.network.fetcher import Patience
from distrai.network.fetches import Fetches
from distrai.network.holders import Holder, HolderError, NotHeld
from distrai.network.http.addresses import check_listening, url_to_tell
from distrai.network.http.client import HttpClient, HttpPatience
from distrai.network.http.holder import HttpHolder
from distrai.network.http.proofs import DELIVERY_HEADER, Deliveries, Recover, Sign, seal_delivery
from distrai.network.http.server import HttpServer, ServerLimits
from distrai.network.http.tls import TlsKey
from distrai.network.inbox import Inbox, InboxLimits
from distrai.network.interface import (
    DOCUMENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskFailed,
    Endpoint,
    Fetched,
    SendFailed,
)
from distrai.network.publishing import keep_published
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Address, Hash


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
        tls: bool | TlsKey = False,
        advertise: str = "",
        patience: Patience | None = None,
        http_patience: HttpPatience | None = None,
        server_limits: ServerLimits | None = None,
        inbox_limits: InboxLimits | None = None,
    ) -> None:
        """A transport that is not started yet.

        ``address`` is that of the node key behind ``sign``; ``port`` 0 takes a free one; ``local`` allows addresses of
        private networks. Without ``tls`` (a key, or True for one that nobody keeps) everything stays on this machine:
        plain HTTP goes to loopback addresses alone. ``advertise`` is how others reach this peer if that is not where
        it is bound. Raises BadAddress.
        """
        check_listening(host, advertise, tls=bool(tls))
        self.tls = tls if isinstance(tls, TlsKey) else TlsKey.generate() if tls else None
        self.store, self.host, self.port, self.address = store, host, port, address
        self.sign, self.advertise = sign, advertise
        self.fetches = Fetches(store, address, rng, patience or Patience(), self.holder)
        self.counters = Counters()
        self.inbox = Inbox(inbox_limits)
        self.liars = self.fetches.liars
        self.client = HttpClient(recover, self.counters, http_patience or HttpPatience(), local=local)
        self.server = HttpServer(
            store,
            self.inbox,
            self.counters,
            address,
            sign,
            Deliveries(address, recover),
            server_limits or ServerLimits(),
            self.tls,
        )

    @property
    def fingerprint(self) -> bytes:
        """Of the own TLS certificate, for the endpoint record; empty without TLS."""
        return b"" if self.tls is None else self.tls.fingerprint

    async def start(self) -> str:
        """Listen; the URL to tell others. Raises OSError if the port is taken, or BadAddress."""
        port = await self.server.start(self.host, self.port)
        return url_to_tell(self.host, port, self.advertise, tls=self.tls is not None)

    async def close(self) -> None:
        """End everything: fetches fail, ``received`` ends, nothing stays open."""
        self.inbox.close()
        await self.fetches.close()
        await self.client.close()
        await self.server.close()

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """See ``Transport``."""
        await keep_published(self.store, blob, source)

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = "updates"
    ) -> Fetched:
        """See ``Transport``. Whoever lied once is not asked again while this transport lives."""
        return await self.fetches.fetch(blob, holders, deadline_s, purpose)

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """See ``Transport``."""
        return await self.fetches.resolve(hash_, holders, size_max, deadline_s)

    async def send(self, endpoint: Endpoint, message: bytes, purpose: str = "control") -> None:
        """See ``Transport``."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SendFailed(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}")
        try:
            way = await self.client.prove(endpoint)
            sealed = seal_delivery(message, self.address, endpoint.address, self.sign)
            await self.client.post(way, "/message", message, {DELIVERY_HEADER: sealed}, purpose_of(purpose))
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
            way = await self.client.prove(endpoint)
            answer_s = self.client.patience.answer_s
            return await self.client.get(way, f"/document/{name}", range(size_max + 1), "control", answer_s)
        except HolderError as error:
            if not isinstance(error, NotHeld):
                self.client.forget(endpoint)
            raise AskFailed(f"member {endpoint.member.hex()[:12]} {error}") from None

    def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        return self.inbox.messages()

    def holder(self, endpoint: Endpoint, purpose: str) -> Holder:
        """Who stands for an endpoint in a fetch."""
        return HttpHolder(self.client, endpoint, purpose)

"""HTTP and object stores side by side: each member is reached in the way that it offers.

A peer that listens takes messages over HTTP, and keeps what it has to say to unreachable ones in memory, where they
fetch it. A peer that does not listen posts to those who do, looks into the outboxes of all whom it deals with, and has
a bucket for its blobs, which is also where its messages to other unreachable peers lie.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from distrai.network.counters import Counters
from distrai.network.fetches import Fetches
from distrai.network.holders import Holder
from distrai.network.http.holder import HttpHolder
from distrai.network.http.server import HttpServer
from distrai.network.http.transport import HttpTransport
from distrai.network.interface import (
    DOCUMENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskFailed,
    Endpoint,
    Fetched,
    NetworkError,
    SendFailed,
)
from distrai.network.objects.bucket import Bucket, BucketAccess
from distrai.network.objects.holder import BucketHolder, EitherHolder
from distrai.network.objects.locations import bucket_urls, is_bucket, without_buckets
from distrai.network.objects.outbox import Outbox, OutboxLimits
from distrai.network.objects.poller import Poller, PollLimits
from distrai.network.objects.reader import BucketPatience, BucketReader
from distrai.network.objects.transport import ask_bucket, upload
from distrai.network.store import MissingBlob
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Address, Hash


class HttpShelf:
    """Documents that the own server shows. See ``Shelf``."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server

    async def show(self, name: str, document: bytes) -> None:
        """See ``Shelf``."""
        self.server.documents[name] = document

    async def hide(self, names: Sequence[str]) -> None:
        """See ``Shelf``."""
        for name in names:
            self.server.documents.pop(name, None)


class MixedTransport:
    """See ``Transport``. Belongs to one event loop. Starts, closes and fills the inbox of the HTTP transport in it."""

    def __init__(
        self,
        http: HttpTransport,
        access: BucketAccess | None = None,
        *,
        listen: bool = True,
        bucket_patience: BucketPatience | None = None,
        poll_limits: PollLimits | None = None,
        outbox_limits: OutboxLimits | None = None,
        places: Path | None = None,
    ) -> None:
        """``access``: to the own bucket, if there is one; ``listen``: whether others can reach this peer over HTTP.

        Raises ValueError for settings of a store that cannot be right, and for a peer that nobody could reach.
        """
        if not listen and access is None:
            raise ValueError(
                "a peer that does not listen needs an object store of its own: see docs/object-store.md"
            )
        self.http, self.listen = http, listen
        self.store, self.address, self.inbox = http.store, http.address, http.inbox
        self.counters: Counters = http.counters
        self.bucket = None if access is None else Bucket(access, self.counters)
        client = http.client
        self.reader = BucketReader(
            client.recover, self.counters, bucket_patience or BucketPatience(), local=client.local
        )
        old = http.fetches
        self.fetches = Fetches(old.store, old.address, old.rng, old.patience, self.holder)
        self.liars = self.fetches.liars
        shelf = HttpShelf(http.server) if listen or self.bucket is None else self.bucket
        self.outbox = Outbox(shelf, self.address, http.sign, outbox_limits)
        deliveries = http.server.deliveries
        self.poller = Poller(self._poll, self.address, deliveries, self.inbox, old.rng, poll_limits, places)
        self._uploads: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, ...]:
        """Listen, where this peer does; the URLs to tell others. Raises OSError, BucketFailed."""
        urls: list[str] = []
        if self.bucket is not None:
            await self.bucket.start(self.address, self.http.sign)
            urls.append(self.bucket.url)
        if self.listen:
            urls.insert(0, await self.http.start())
        return tuple(urls)

    async def close(self) -> None:
        """End everything: fetches fail, ``received`` ends, nothing stays open. The bucket keeps what is in it."""
        self.inbox.close()
        await self.poller.close()
        await self.outbox.close()
        await self.fetches.close()
        for task in list(self._uploads):
            task.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)
        await self.reader.close()
        if self.bucket is not None:
            self.bucket.close()
        await self.http.close()

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """See ``Transport``. Who listens serves it at once, and it comes into the bucket meanwhile."""
        await self.http.publish(blob, source)
        if self.bucket is None:
            return
        if not self.listen:
            await upload(self.bucket, self.store, blob)
            return
        task = asyncio.create_task(self._upload_aside(self.bucket, blob))
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = "updates"
    ) -> Fetched:
        """See ``Transport``. Whoever lied once is not asked again while this transport lives."""
        self._meet(*holders)
        return await self.fetches.fetch(blob, holders, deadline_s, purpose)

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """See ``Transport``."""
        self._meet(*holders)
        return await self.fetches.resolve(hash_, holders, size_max, deadline_s)

    async def send(self, endpoint: Endpoint, message: bytes, purpose: str = "control") -> None:
        """See ``Transport``. To who cannot be reached: returns once the message lies where the receiver looks."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SendFailed(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}")
        self._meet(endpoint)
        direct = without_buckets(endpoint)
        if direct.urls or not endpoint.urls:
            await self.http.send(direct, message, purpose)
        else:
            await self.outbox.put(endpoint.address, message)

    async def show(self, name: str, document: bytes) -> None:
        """See ``Transport``."""
        await self.http.show(name, document)
        if self.bucket is not None:
            await self.bucket.show(name, document)

    async def ask(self, endpoint: Endpoint, name: str, size_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """See ``Transport``."""
        self._meet(endpoint)
        return await self._poll(endpoint, name, size_max)

    def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        return self.inbox.messages()

    def holder(self, endpoint: Endpoint, purpose: str) -> Holder:
        """Who stands for an endpoint in a fetch: all its ways, in the order in which its record names them."""
        direct = without_buckets(endpoint)
        ways: list[Holder] = []
        if bucket_urls(endpoint.urls):
            ways.append(BucketHolder(self.reader, endpoint, purpose))
        if direct.urls or not ways:
            first = not endpoint.urls or not is_bucket(endpoint.urls[0])
            ways.insert(0 if first else 1, HttpHolder(self.http.client, direct, purpose))
        return ways[0] if len(ways) == 1 else EitherHolder(ways)

    def _meet(self, *endpoints: Endpoint) -> None:
        """Who can be reached is written to; everybody else has to look what others have to say."""
        for endpoint in endpoints if not self.listen else ():
            self.poller.watch(endpoint)

    async def _poll(self, endpoint: Endpoint, name: str, size_max: int) -> bytes:
        direct = without_buckets(endpoint)
        failure = AskFailed("no URL is known")
        if direct.urls:
            try:
                return await self.http.ask(direct, name, size_max)
            except AskFailed as error:
                failure = error
        if bucket_urls(endpoint.urls):
            return await ask_bucket(self.reader, endpoint, name, size_max)
        raise failure

    async def _upload_aside(self, bucket: Bucket, blob: BlobRef) -> None:
        with suppress(NetworkError, MissingBlob):  # this peer serves it anyway
            await upload(bucket, self.store, blob)

"""Everything through object stores: nobody listens anywhere, and nobody has to be there at the same time."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from distrai.network.counters import Counters
from distrai.network.fetcher import Patience
from distrai.network.fetches import Fetches
from distrai.network.holders import Holder, HolderError, NotHeld
from distrai.network.http.proofs import Deliveries, Recover, Sign
from distrai.network.inbox import Inbox
from distrai.network.interface import (
    DOCUMENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskFailed,
    Endpoint,
    Fetched,
    SendFailed,
)
from distrai.network.objects.bucket import Bucket, BucketAccess
from distrai.network.objects.holder import BucketHolder
from distrai.network.objects.keys import document_key
from distrai.network.objects.outbox import Outbox, OutboxLimits
from distrai.network.objects.poller import Poller, PollLimits
from distrai.network.objects.reader import BucketPatience, BucketReader
from distrai.network.publishing import keep_published
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Address, Hash


class ObjectTransport:
    """See ``Transport``. Belongs to one event loop.

    Messages come from those whom this peer has dealt with: whoever it fetched from, asked or wrote to.
    """

    def __init__(
        self,
        store: BlobStore,
        access: BucketAccess,
        *,
        address: Address,
        sign: Sign,
        recover: Recover,
        local: bool,
        rng: random.Random,
        patience: Patience | None = None,
        bucket_patience: BucketPatience | None = None,
        poll_limits: PollLimits | None = None,
        outbox_limits: OutboxLimits | None = None,
        places: Path | None = None,
    ) -> None:
        """A transport that is not started yet. Raises ValueError for settings of a store that cannot be right.

        ``access`` is to the own bucket; ``local`` allows buckets in private networks; ``places``: see ``Poller``.
        """
        self.store, self.address, self.sign = store, address, sign
        self.counters, self.inbox = Counters(), Inbox()
        self.bucket = Bucket(access, self.counters)
        self.reader = BucketReader(recover, self.counters, bucket_patience or BucketPatience(), local=local)
        self.fetches = Fetches(store, address, rng, patience or Patience(), self.holder)
        self.liars = self.fetches.liars
        self.outbox = Outbox(self.bucket, address, sign, outbox_limits)
        deliveries = Deliveries(address, recover)
        self.poller = Poller(self._poll, address, deliveries, self.inbox, rng, poll_limits, places)

    async def start(self) -> str:
        """Show whose bucket this is; its URL to tell others. Raises BucketFailed."""
        await self.bucket.start(self.address, self.sign)
        return self.bucket.url

    async def close(self) -> None:
        """End everything: fetches fail, ``received`` ends, nothing stays open. The bucket keeps what is in it."""
        self.inbox.close()
        await self.poller.close()
        await self.outbox.close()
        await self.fetches.close()
        await self.reader.close()
        self.bucket.close()

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """See ``Transport``."""
        await keep_published(self.store, blob, source)
        await upload(self.bucket, self.store, blob)

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
        """See ``Transport``. Returns once the message lies in the own bucket, which its receiver looks into."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SendFailed(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}")
        self._meet(endpoint)
        await self.outbox.put(endpoint.address, message)

    async def show(self, name: str, document: bytes) -> None:
        """See ``Transport``."""
        assert len(document) <= DOCUMENT_BYTES_MAX
        await self.bucket.show(name, document)

    async def ask(self, endpoint: Endpoint, name: str, size_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """See ``Transport``."""
        self._meet(endpoint)
        return await self._poll(endpoint, name, size_max)

    def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """See ``Transport``."""
        return self.inbox.messages()

    def holder(self, endpoint: Endpoint, purpose: str) -> Holder:
        """Who stands for an endpoint in a fetch."""
        return BucketHolder(self.reader, endpoint, purpose)

    def _meet(self, *endpoints: Endpoint) -> None:
        for endpoint in endpoints:
            self.poller.watch(endpoint)

    async def _poll(self, endpoint: Endpoint, name: str, size_max: int) -> bytes:
        return await ask_bucket(self.reader, endpoint, name, size_max)


async def upload(bucket: Bucket, store: BlobStore, blob: BlobRef) -> None:
    """Put a blob of the own store into the own bucket. Raises BucketFailed, MissingBlob."""
    hashes = (await asyncio.to_thread(store.manifest, blob.hash))[1]
    await bucket.upload(blob, hashes, store.path_of(blob), "updates")


async def ask_bucket(reader: BucketReader, endpoint: Endpoint, name: str, size_max: int) -> bytes:
    """A document in the bucket of an endpoint. Raises AskFailed."""
    try:
        base = await reader.prove(endpoint)
        answer_s = reader.patience.answer_s
        return await reader.get(base, document_key(name), range(size_max + 1), "control", answer_s)
    except HolderError as error:
        if not isinstance(error, NotHeld):
            reader.forget(endpoint)
        raise AskFailed(f"member {endpoint.member.hex()[:12]} {error}") from None

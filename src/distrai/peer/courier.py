"""A peer's post: packets out and in, blobs that the engine asked for, lists offered to who lacks them."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from distrai.network.fetcher import SWARM_BYTES_MIN
from distrai.network.interface import NetworkError, Transport
from distrai.network.store import MissingBlob
from distrai.peer.directory import Directory
from distrai.peer.events import (
    BlobFailed,
    BlobStored,
    Event,
    Fetch,
    FetchList,
    ListArrived,
    MessageReceived,
    Note,
    OfferList,
    Send,
)
from distrai.peer.identity import Identity
from distrai.peer.store import PeerStore
from distrai.protocol.blobs import BlobRef, blob_ref, chunk_hash
from distrai.protocol.errors import ProtocolError, WrongBlob
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import INLINE_BLOB_BYTES_MAX, ListOffer, Packet, decode_packet, encode_packet
from distrai.protocol.primitives import Hash, MemberId

SEND_DEADLINE_S = 10.0
FETCH_DEADLINE_S = 600.0
LIST_DEADLINE_S = 30.0
SWARM_MEMBERS_MAX = 12
"""Members that are asked for the parts of a large blob, besides its author and those who said that they have it."""
SENDS_AT_ONCE = 256
SENDS_PER_MEMBER = 16
RETRY_S = 0.5
"""How long after a failed fetch the engine hears of it, and may ask again: where nobody can be reached failing takes no
time at all.
"""
WANTED_BLOBS_MAX = 8192
"""Blobs that the engine asked for, which no offer of a list may have taken away again."""
INLINE_BLOBS_MAX = 64
"""Small blobs that came with a message and wait for the engine to ask for them; others never reach the disk."""


class Courier:
    """Carries what one peer says and hears."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        directory: Directory,
        store: PeerStore,
        post: Callable[[Event], Awaitable[None]],
        note: Callable[[Note], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """``post`` gives the engine an event, ``note`` logs, ``spawn`` runs something beside the caller."""
        self.identity, self.transport, self.directory, self.store = identity, transport, directory, store
        self.post, self.note, self.spawn = post, note, spawn
        self._inline: OrderedDict[Hash, bytes] = OrderedDict()
        self._wanted: OrderedDict[Hash, None] = OrderedDict()
        self._slots = asyncio.Semaphore(SENDS_AT_ONCE)
        self._sending: Counter[MemberId] = Counter()

    def send(self, effect: Send) -> None:
        """Send envelopes, with the blob that they name where it is small, to every member of the effect."""
        blobs: tuple[bytes, ...] = ()
        if effect.blob is not None and effect.blob.size < INLINE_BLOB_BYTES_MAX:
            try:
                blobs = (self.store.blobs.read(effect.blob),)
            except MissingBlob:
                return  # a list that was pruned while it was to be offered
        packet = encode_packet(Packet(effect.raws, blobs, self.directory.records_to_tell()))
        purpose = "updates" if blobs else "control"
        if effect.blob is not None and not blobs:
            self.spawn(self._publish_and_send(effect.blob, effect.to, packet))
            return
        for member in effect.to:
            self.spawn(self._send_to(member, packet, purpose))

    async def _publish_and_send(self, blob: BlobRef, to: Sequence[MemberId], packet: bytes) -> None:
        """Say that there is a blob once it can be fetched: an object store has to be given it first."""
        try:
            await self.transport.publish(blob, self.store.blobs.path_of(blob))
        except (NetworkError, MissingBlob) as error:
            self.note(Note("publish-failed", {"blob": blob.hash.hex(), "why": str(error)}))
        for member in to:
            self.spawn(self._send_to(member, packet, "control"))

    async def _send_to(self, member: MemberId, packet: bytes, purpose: str) -> None:
        endpoint = self.directory.endpoint(member)
        if endpoint is None or self._sending[member] >= SENDS_PER_MEMBER:
            return  # who asks and does not take the answers must not be in the way of the others
        self._sending[member] += 1
        try:
            async with self._slots, asyncio.timeout(SEND_DEADLINE_S):
                await self.transport.send(endpoint, packet, purpose)
        except (NetworkError, TimeoutError):
            pass  # normal life: the next digest brings it
        finally:
            self._sending[member] -= 1

    async def receive(self) -> None:
        """Take packets in, for ever."""
        async for sender, raw in self.transport.received():
            if sender is None or self.directory.keys().get(sender) is None:
                continue  # by a stranger, or a member that the ledger has not told of yet: its next digest comes soon
            try:
                packet = decode_packet(raw)
            except ProtocolError as error:
                facts = {"rule": type(error).__name__, "why": str(error), "sender": (sender or b"").hex()}
                self.note(Note("refused", dict(facts)))
                continue
            for record in packet.endpoints:
                self.directory.learn(record)
            for blob in packet.blobs:
                self._set_aside(blob)
            for envelope in packet.envelopes:
                await self.post(MessageReceived(envelope))

    def _set_aside(self, blob: bytes) -> None:
        self._inline[blob_ref(blob).hash] = blob
        while len(self._inline) > INLINE_BLOBS_MAX:
            self._inline.popitem(last=False)

    async def fetch(self, effect: Fetch) -> None:
        """Get a blob into the store, and say how that went."""
        self._wanted[effect.blob.hash] = None
        while len(self._wanted) > WANTED_BLOBS_MAX:
            self._wanted.popitem(last=False)
        if await self._bring(effect.blob, effect.holders):
            await self.post(BlobStored(effect.blob.hash))
        else:
            await self.post(BlobFailed(effect.blob.hash))

    async def _bring(
        self, blob: BlobRef, holders: tuple[MemberId, ...], deadline_s: float = FETCH_DEADLINE_S
    ) -> bool:
        if blob.hash in self._inline:
            self.store.blobs.put(self._inline.pop(blob.hash))
        if self.store.blobs.has(blob):
            return True
        members = dict.fromkeys((*holders, *self._swarm(blob)))
        endpoints = [endpoint for member in members if (endpoint := self.directory.endpoint(member))]
        try:
            await self.transport.fetch(blob, endpoints, deadline_s)
        except NetworkError as error:
            self.note(Note("fetch-failed", {"blob": blob.hash.hex(), "why": str(error)}))
            await asyncio.sleep(RETRY_S)
            return False
        return True

    def _swarm(self, blob: BlobRef) -> tuple[MemberId, ...]:
        """Who else may be fetching a large blob, and has parts of it by now.

        Everybody chooses the same members for a blob: their number is bounded, and they give to all the others.
        """
        if blob.size <= SWARM_BYTES_MIN:
            return ()
        members = set(self.directory.keys().values())
        chosen = sorted(members, key=lambda member: chunk_hash(blob.hash + member))[:SWARM_MEMBERS_MAX]
        return tuple(member for member in chosen if member != self.identity.member)

    async def fetch_list(self, effect: FetchList) -> None:
        """Get a list that somebody offered, and decode it."""
        data = await self._fetch_aside(effect.blob, effect.holder)
        if data is None:
            return
        try:
            certified = decode_list(data)
        except ProtocolError as error:
            self.note(Note("refused", {"rule": type(error).__name__, "member": effect.holder.hex()}))
            return
        await self.post(ListArrived(certified))

    async def _fetch_aside(self, blob: BlobRef, holder: MemberId) -> bytes | None:
        """The bytes of a blob that somebody says is a list. It stays only if it was here before, or is wanted as well.

        A list is kept with its round if it is the right one. None if it cannot be had, or another task has just had it:
        several may offer the same.
        """
        was_here = self.store.blobs.has(blob)
        if not await self._bring(blob, (holder,), LIST_DEADLINE_S):
            return None
        try:
            data = self.store.blobs.read(blob)
        except (MissingBlob, WrongBlob):
            return None
        if not was_here and blob.hash not in self._wanted:
            self.store.blobs.delete(blob)
        return data

    def offer_list(self, effect: OfferList, run: int, head: Hash) -> None:
        """Answer a request for the list of a round, if it is kept."""
        data = self.store.list_bytes(effect.round)
        if data is None:
            return
        blob = self.store.blobs.put(data)
        offer = ListOffer(
            run=run,
            round=effect.round,
            previous_head=head,
            member=self.identity.member,
            updates_root=effect.updates_root,
            blob_hash=blob.hash,
            blob_size=blob.size,
        )
        self.send(Send((effect.to,), (self.identity.seal(offer).raw,), blob))

"""What every transport must do, whatever carries its bytes: HTTP, object stores, and both side by side.

Peers listen on loopback; buckets are a real S3 server's (rclone), where owners write with credentials and everybody
else reads without.
"""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from distrai.network.fetcher import Patience
from distrai.network.http import HttpPatience, HttpTransport
from distrai.network.interface import (
    DOCUMENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    AskFailed,
    Endpoint,
    FetchFailed,
    SendFailed,
)
from distrai.network.objects import MixedTransport, ObjectTransport
from distrai.network.objects.keys import blob_key
from distrai.network.objects.poller import PollLimits
from distrai.network.objects.reader import BucketPatience
from distrai.network.store import BlobStore
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef, blob_ref, chunk_hashes
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.signatures import address_of, recover, sign
from helpers.raw_server import Behaviour, raw_server
from helpers.rclone import ObjectServer, object_server

DATA = random.Random(8).randbytes(5 * CHUNK_SIZE + 77)
REF = blob_ref(DATA)
SMALL = b"small" * 100
EAGER = Patience(hedge_s=0.05, refresh_s=0.01, duplicate_after_s=0.2, give_up_s=4.0)
HASTY = replace(EAGER, failures_max=2)
SECONDS = {"connect_s": 10.0, "stall_s": 10.0, "answer_s": 20.0, "chunk_s": 60.0}
FEW_SECONDS = {"connect_s": 5.0, "stall_s": 1.5, "answer_s": 4.0, "chunk_s": 6.0}
"""For who asks those that never answer."""
POLLING = PollLimits(pause_s=0.02, pause_max_s=0.2, asks_per_s=1000)
KINDS = ("http", "objects", "mixed")


@dataclass
class Peer:
    """A started transport and where it is; ``bucket`` names its bucket, if it has one."""

    transport: Any
    endpoint: Endpoint
    bucket: str

    @property
    def store(self) -> BlobStore:
        return self.transport.store

    @property
    def member(self) -> MemberId:
        return self.endpoint.member

    def at(self, *urls: str) -> Endpoint:
        return replace(self.endpoint, urls=urls)


@dataclass
class World:
    """Peers of one kind. In the mixed one every other peer has only a bucket, and the rest only listen."""

    kind: str
    folder: Path
    server: ObjectServer | None
    made: list[Peer]

    async def peer(self, home: str = "", key_of: Peer | None = None, *, is_hasty: bool = False) -> Peer:
        number = len(self.made) + 1 if key_of is None else self.made.index(key_of) + 1
        private = PrivateKey(bytes([number]) * 32)
        member, bucket = MemberId(bytes([number]) * 32), f"bucket-{number}"
        common = {
            "address": address_of(private.public_key),
            "sign": partial(sign, private),
            "recover": recover,
        }
        common |= {"local": True, "rng": random.Random(number), "patience": HASTY if is_hasty else EAGER}
        waits = FEW_SECONDS if is_hasty else SECONDS
        store = BlobStore(self.folder / (home or f"peer{number}"))
        objects = {"bucket_patience": BucketPatience(**waits), "poll_limits": POLLING}
        objects["places"] = self.folder / f"places{number}"
        has_bucket = self.kind == "objects" or (self.kind == "mixed" and number % 2 == 0)
        access = self.server.access(bucket) if has_bucket else None
        if self.kind == "objects":
            transport: Any = ObjectTransport(store, access, **common, **objects)
        else:
            transport = HttpTransport(
                store, host="127.0.0.1", port=0, http_patience=HttpPatience(**waits), **common
            )
            if self.kind == "mixed":
                transport = MixedTransport(transport, access, listen=not has_bucket, **objects)
        urls = await transport.start()
        urls = (urls,) if isinstance(urls, str) else urls
        peer = Peer(transport, Endpoint(member, transport.address, urls), bucket if has_bucket else "")
        self.made.append(peer)
        return peer

    async def holders(self, count: int, data: bytes = DATA) -> list[Peer]:
        """Peers that have published a blob."""
        peers = [await self.peer() for _ in range(count)]
        for peer in peers:
            await peer.transport.publish(blob_ref(data), data)
        return peers

    def spoil(self, peer: Peer, blob: BlobRef, change: Callable[[bytes], bytes]) -> None:
        """Have a holder give other bytes than the blob's."""
        if peer.bucket:
            path = self.server.path(peer.bucket, blob_key(blob.hash))
            path.write_bytes(change(path.read_bytes()))
            return
        read = peer.store.read_chunk
        peer.store.read_chunk = lambda hash_, index: change(read(hash_, index))

    async def kill(self, peer: Peer) -> None:
        """Take away all that others could reach."""
        await peer.transport.close()
        if peer.bucket:
            self.server.path(peer.bucket, "").rename(self.server.folder / peer.bucket / "gone")


@pytest.fixture(params=KINDS)
async def world(request: Any, tmp_path: Path) -> AsyncIterator[World]:
    with ExitStack() as stack:
        server = None if request.param == "http" else stack.enter_context(object_server(tmp_path / "s3"))
        made = World(request.param, tmp_path, server, [])
        yield made
        for peer in made.made:
            await peer.transport.close()


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
async def test_a_blob_makes_the_round_trip(world: World, size: int) -> None:
    one, two = await world.peer(), await world.peer()
    for author, reader in ((one, two), (two, one)):
        data = DATA[:size] and author.member[:1] + DATA[1:size]
        await author.transport.publish(blob_ref(data), data)
        done = await reader.transport.fetch(blob_ref(data), [author.endpoint], 20, "snapshots")
        assert reader.store.read(blob_ref(data)) == data
        assert done.sent == ({author.member: size} if size else {})
        assert reader.transport.counters.snapshot()["down"]["snapshots"] >= size


async def test_the_size_of_a_name_is_found(world: World) -> None:
    one, two = await world.holders(2)
    for author, reader in ((one, two), (two, one)):
        assert await reader.transport.resolve(REF.hash, [author.endpoint], 1 << 30, 60) == REF
        for hash_, size_max in ((REF.hash, REF.size - 1), (Hash(bytes(32)), 1 << 30)):
            with pytest.raises(FetchFailed):
                await reader.transport.resolve(hash_, [author.endpoint], size_max, 5)


async def test_a_blob_comes_from_several_holders_at_once(world: World) -> None:
    holders = await world.holders(2)
    me = await world.peer()
    wait_for_both(me)
    done = await me.transport.fetch(REF, [peer.endpoint for peer in holders], 60)
    assert done.sent.keys() == {peer.member for peer in holders} and sum(done.sent.values()) == REF.size


def wait_for_both(me: Peer) -> None:
    """Have no chunk given before two holders have answered with one: else the faster may give them all."""
    answered, both = set[MemberId](), asyncio.Event()
    holder_of = me.transport.fetches.holder_of

    def waiting(endpoint: Endpoint, purpose: str) -> Any:
        holder = holder_of(endpoint, purpose)

        async def chunk(*args: Any) -> bytes:
            try:
                return await type(holder).chunk(holder, *args)
            finally:
                answered.add(endpoint.member)
                if len(answered) == 2:
                    both.set()
                await both.wait()

        object.__setattr__(holder, "chunk", chunk)
        return holder

    me.transport.fetches.holder_of = waiting


@pytest.mark.parametrize("bad", [0, 1])
async def test_a_wrong_chunk_from_one_of_two_is_found_and_blamed(world: World, bad: int) -> None:
    holders = await world.holders(2)
    me = await world.peer()
    world.spoil(holders[bad], REF, lambda data: bytes(len(data)))
    wait_for_both(me)
    done = await me.transport.fetch(REF, [peer.endpoint for peer in holders], 60)
    assert me.store.read(REF) == DATA and done.liars == (holders[bad].member,)
    assert done.sent == {holders[1 - bad].member: REF.size}
    assert me.transport.liars.keys() == {holders[bad].endpoint.address}
    with pytest.raises(FetchFailed, match="lied before"):
        await me.transport.fetch(blob_ref(SMALL), [holders[bad].endpoint], 5)


@pytest.mark.parametrize("doomed", [0, 1])
async def test_a_holder_killed_on_the_way_costs_a_retry(world: World, doomed: int) -> None:
    holders = await world.holders(2)
    me = await world.peer()
    write, loop, arrived = me.store.write_chunk, asyncio.get_running_loop(), asyncio.Event()

    def tell(*args: Any) -> bool:
        done = write(*args)
        loop.call_soon_threadsafe(arrived.set)
        return done

    me.store.write_chunk = tell  # type: ignore[method-assign]
    first = asyncio.ensure_future(me.transport.fetch(REF, [holders[doomed].endpoint], 60))
    await arrived.wait()
    await world.kill(holders[doomed])
    await asyncio.wait([first])
    if first.exception() is None:  # it was all on its way already
        assert me.store.read(REF) == DATA
        return
    assert isinstance(first.exception(), FetchFailed)
    done = await me.transport.fetch(REF, [peer.endpoint for peer in holders], 60)
    assert me.store.read(REF) == DATA and done.liars == () and done.resumed >= CHUNK_SIZE


@pytest.mark.parametrize("behaviour", ["silent", "endless", "huge", "truncated", "redirect"])
async def test_a_bad_server_of_one_of_two_costs_its_owner_only(world: World, behaviour: Behaviour) -> None:
    """It answers everything in a bad way; the one behind it would have the blob."""
    bad, good = await world.holders(2)
    me = await world.peer(is_hasty=True)
    async with raw_server(behaviour) as (port, seen):
        address = f"http://127.0.0.1:{port}"
        endpoint = bad.at(f"s3+{address}/bucket" if bad.bucket else address)
        done = await me.transport.fetch(REF, [endpoint, good.endpoint], 60)
        assert done.sent == {good.member: REF.size} and done.liars == ()
        assert me.store.read(REF) == DATA and seen.requests > 0
        alone = blob_ref(DATA[:5000])
        with pytest.raises(FetchFailed) as caught:
            async with asyncio.timeout(40):
                await me.transport.fetch(alone, [endpoint], 60)
        assert caught.value.reasons.keys() == {bad.member}
    assert me.transport.counters.total("down") < REF.size + 4 * CHUNK_SIZE


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("size", [CHUNK_SIZE // 2, 3 * CHUNK_SIZE])
async def test_a_truncated_blob_is_not_taken(world: World, bad: int, size: int) -> None:
    holders = await world.holders(2)
    me, other = await world.peer(), await world.peer()
    world.spoil(holders[bad], REF, lambda data: data[:size] if len(data) > size else data[:-1])
    await me.transport.fetch(REF, [peer.endpoint for peer in holders], 60)
    assert me.store.read(REF) == DATA
    with pytest.raises(FetchFailed) as caught:
        await other.transport.fetch(REF, [holders[bad].endpoint], 60)
    assert caught.value.reasons.keys() == {holders[bad].member}


async def test_a_late_joiner_fetches_when_the_author_is_gone(world: World) -> None:
    author, relay = await world.peer(), await world.peer()
    await author.transport.publish(REF, DATA)
    await relay.transport.fetch(REF, [author.endpoint], 60)
    await relay.transport.publish(
        REF, relay.store.path_of(REF)
    )  # who has no server of its own says what it passes on
    await author.transport.close()
    late = await world.peer()
    await late.transport.fetch(REF, [author.endpoint, relay.endpoint], 60)
    assert late.store.read(REF) == DATA


async def test_a_restarted_peer_goes_on(world: World) -> None:
    (author,) = await world.holders(1)
    me = await world.peer()
    me.store.begin(REF, chunk_hashes(DATA))
    for index in (1, 5):
        me.store.write_chunk(REF.hash, index, author.store.read_chunk(REF.hash, index))
    await me.transport.close()
    again = await world.peer(key_of=me)
    done = await again.transport.fetch(REF, [author.endpoint], 60)
    assert done.resumed == CHUNK_SIZE + 77 and again.store.read(REF) == DATA


async def test_messages_arrive_once_with_their_sender(world: World) -> None:
    peers = [await world.peer() for _ in range(4)]
    pairs = [(peers[0], peers[1]), (peers[1], peers[0]), (peers[1], peers[3]), (peers[3], peers[1])]
    said = {(to.member, one.transport.address) for one, to in pairs}
    for one, to in pairs:  # who cannot be reached looks at those whom it has dealt with
        await to.transport.send(one.endpoint, b"first")
    for message in (b"", b"hello", b"x" * MESSAGE_BYTES_MAX):
        for one, to in pairs:
            await one.transport.send(to.endpoint, message)
    heard = await asyncio.gather(*(hear(peer, 4 * sum(to is peer for _, to in pairs)) for peer in peers))
    for peer, messages in zip(peers, heard, strict=True):
        for sender in {sender for sender, _ in messages}:
            assert (peer.member, sender) in said
            of_sender = [message for each, message in messages if each == sender]
            assert sorted(of_sender) == sorted([b"", b"first", b"hello", b"x" * MESSAGE_BYTES_MAX])
    with pytest.raises(SendFailed, match="at most"):
        await peers[0].transport.send(peers[1].endpoint, bytes(MESSAGE_BYTES_MAX + 1))


async def hear(peer: Peer, count: int) -> list[tuple[Any, bytes]]:
    async with asyncio.timeout(60):
        received = aiter(peer.transport.received())
        return [await anext(received) for _ in range(count)]


async def test_documents_are_shown_and_asked_for(world: World) -> None:
    one, two = await world.peer(), await world.peer()
    for author, reader in ((one, two), (two, one)):
        for document in (b"old", b"new" * 1000):
            await author.transport.show("state", document)
        assert await reader.transport.ask(author.endpoint, "state") == b"new" * 1000
        with pytest.raises(AskFailed):
            await reader.transport.ask(author.endpoint, "state", 10)
        with pytest.raises(AskFailed):
            await reader.transport.ask(author.endpoint, "nothing", DOCUMENT_BYTES_MAX)


async def test_what_is_another_nodes_gets_nothing(world: World) -> None:
    """URLs that somebody else's key does not vouch for are not used, and nobody is blamed."""
    one, two, other = (await world.holders(3))[:3]
    for reader, victim in ((one, two), (two, one), (one, other)):
        foreign = next(peer for peer in (one, two, other) if peer not in (reader, victim))
        blob = blob_ref(b"another" + reader.member + victim.member)
        await foreign.transport.publish(blob, b"another" + reader.member + victim.member)
        with pytest.raises(FetchFailed, match="another node"):
            await reader.transport.fetch(blob, [victim.at(*foreign.endpoint.urls)], 60)
        assert reader.transport.liars == {}


async def test_close_leaves_nothing(world: World) -> None:
    before, files = asyncio.all_tasks(), open_sockets()
    one, two = await world.holders(2)
    hopeless = asyncio.ensure_future(
        two.transport.fetch(BlobRef(Hash(b"x" * 32), 1 << 30), [one.endpoint], 99)
    )
    for peer, other in ((one, two), (two, one)):
        await peer.transport.send(other.endpoint, b"hello")
    ending = asyncio.ensure_future(drain(two))
    await asyncio.sleep(0)
    for peer in (two, one):
        await peer.transport.close()
        await peer.transport.close()
    with pytest.raises(FetchFailed):
        await hopeless
    await ending
    assert asyncio.all_tasks() <= before
    async with asyncio.timeout(60):
        # threads of the S3 library close its connections when they come to it
        while not open_sockets() <= files:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(SendFailed, match="closed"):
        await two.transport.send(one.endpoint, b"hello")


async def drain(peer: Peer) -> None:
    async for _ in peer.transport.received():
        pass


def open_sockets() -> set[str]:
    """The IPv4 sockets of this process that are connected or listen."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:") and peer_name(int(entry.name)) is not None:
            found.add(target)
    return found


def peer_name(number: int) -> Any:
    """What an IPv4 socket is bound to; None for the rest."""
    with socket.socket(fileno=os.dup(number)) as copy:
        if copy.family != socket.AF_INET:
            return None
        return copy.getsockname()


async def test_starting_contacts_nobody_else(world: World) -> None:
    peer = await world.peer()
    counts = peer.transport.counters
    if not peer.bucket:
        assert counts.total("up") == counts.total("down") == 0
    assert counts.snapshot()["down"]["updates"] == 0

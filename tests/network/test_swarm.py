"""Several peers that fetch one blob give its chunks to each other, over HTTP on loopback."""

import asyncio
import random
import threading
import time
from collections import Counter

from distrai.network.fetcher import Patience
from distrai.protocol.blobs import CHUNK_SIZE, blob_ref

DATA = random.Random(8).randbytes(23 * CHUNK_SIZE + 77)
REF = blob_ref(DATA)
CALM = Patience(refresh_s=0.05)
LONG_S = 90.0


class NarrowUplink:
    """Makes a peer's store give one chunk at a time, each after a while; counts them."""

    def __init__(self, peer, seconds: float) -> None:
        self.given: Counter[int] = Counter()
        self.open = threading.Event()
        self.open.set()
        lock, read = threading.Lock(), peer.store.read_chunk

        def read_chunk(hash_, index):
            with lock:
                assert self.open.wait(LONG_S)
                time.sleep(seconds)  # what a narrow link does
                self.given[index] += 1
            return read(hash_, index)

        peer.store.read_chunk = read_chunk


async def test_each_chunk_leaves_a_slow_author_about_once(make_peer) -> None:
    """Slow is, whose chunk takes longer than news of the last one: on a busy machine more than a few hundredths."""
    for seconds in (0.03, 0.06, 0.12, 0.25, 0.5):
        author, *others = [await make_peer(patience=CALM) for _ in range(4)]
        author.store.put(DATA)
        uplink = NarrowUplink(author, seconds)
        everybody = [peer.endpoint for peer in (author, *others)]
        done = await asyncio.gather(*(peer.transport.fetch(REF, everybody, LONG_S) for peer in others))
        assert all(peer.store.read(REF) == DATA for peer in others)
        assert all(len(each.sent) > 1 and not each.liars for each in done)
        assert set(uplink.given) == set(range(REF.chunk_count))
        if uplink.given.total() < 1.3 * REF.chunk_count:
            return
    raise AssertionError(f"{uplink.given.total()} chunks left an author of {REF.chunk_count}")


class Arrivals:
    """Waits for what arrives in the stores of some peers."""

    def __init__(self, *peers) -> None:
        self.changed, self.held = asyncio.Event(), [set[int]() for _ in peers]
        loop = asyncio.get_running_loop()
        for peer, held in zip(peers, self.held, strict=True):
            peer.store.write_chunk = self._told(peer.store.write_chunk, held, loop)

    def _told(self, write, held: set[int], loop):
        def write_chunk(hash_, index, data):
            done = write(hash_, index, data)
            held.add(index)
            loop.call_soon_threadsafe(self.changed.set)
            return done

        return write_chunk

    async def until(self, enough) -> None:
        async with asyncio.timeout(LONG_S):
            while not enough(*self.held):
                self.changed.clear()
                await self.changed.wait()


async def test_what_has_arrived_is_served_before_the_rest_has(make_peer) -> None:
    author, one, two = [await make_peer(patience=CALM) for _ in range(3)]
    author.store.put(DATA)
    uplink, arrivals = NarrowUplink(author, 0.01), Arrivals(one, two)
    first = asyncio.ensure_future(one.transport.fetch(REF, [author.endpoint], LONG_S))
    await arrivals.until(lambda held, _: len(held) > 2)
    uplink.open.clear()
    second = asyncio.ensure_future(two.transport.fetch(REF, [one.endpoint], LONG_S))
    await arrivals.until(lambda _, held: len(held) > 2)
    assert not first.done() and not one.store.has(REF)
    uplink.open.set()
    assert (await second).sent == {one.member: REF.size}
    await first


async def test_the_author_may_go_once_every_chunk_has_left(make_peer) -> None:
    author, one, two = [await make_peer(patience=CALM) for _ in range(3)]
    author.store.put(DATA)
    NarrowUplink(author, 0.005)
    arrivals = Arrivals(one, two)
    everybody = [peer.endpoint for peer in (author, one, two)]
    fetches = [asyncio.ensure_future(peer.transport.fetch(REF, everybody, LONG_S)) for peer in (one, two)]
    await arrivals.until(lambda *held: set.union(*held) == set(range(REF.chunk_count)))
    await author.transport.close()
    await asyncio.gather(*fetches)
    assert one.store.read(REF) == two.store.read(REF) == DATA


async def test_connections_are_used_again_with_tls_too(make_peer) -> None:
    author, reader = [await make_peer(tls=True) for _ in range(2)]
    author.store.put(DATA)
    await reader.transport.fetch(REF, [author.endpoint], LONG_S)
    assert author.transport.server._listener.open_count <= CALM.in_flight + 1

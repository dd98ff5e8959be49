"""What every transport must do, here over HTTP on loopback, plain and with TLS."""

import asyncio
import random
import socket
from pathlib import Path

import pytest

from distrai.network.fetcher import Patience
from distrai.network.http.proofs import DELIVERY_HEADER, seal_delivery
from distrai.network.inbox import InboxLimits
from distrai.network.interface import MESSAGE_BYTES_MAX, FetchFailed, SendFailed
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef, blob_ref, chunk_hashes, chunks
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import Hash

DATA = random.Random(5).randbytes(9 * CHUNK_SIZE + 77)
REF = blob_ref(DATA)
SMALL = DATA[:1000]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
async def test_a_blob_makes_the_round_trip(make_peer, size: int) -> None:
    one, two = await make_peer(), await make_peer()
    data = DATA[:size]
    await one.transport.publish(blob_ref(data), data)
    done = await two.transport.fetch(blob_ref(data), [one.endpoint], 60)
    assert two.store.read(blob_ref(data)) == data
    assert done.sent == ({one.member: size} if size else {})


async def test_a_file_is_published_and_something_else_is_not(make_peer, tmp_path: Path) -> None:
    peer = await make_peer()
    source = tmp_path / "file"
    source.write_bytes(DATA)
    await peer.transport.publish(REF, source)
    assert peer.store.read(REF) == DATA
    with pytest.raises(WrongBlob):
        await peer.transport.publish(BlobRef(REF.hash, 3), SMALL)
    assert not peer.store.has(blob_ref(SMALL))


async def test_a_blob_comes_from_several_holders_at_once(make_peer) -> None:
    one, two, three = [await make_peer(patience=Patience()) for _ in range(3)]
    for holder in (one, two):
        holder.store.put(DATA)
    done = await three.transport.fetch(REF, [one.endpoint, two.endpoint], 60)
    assert done.sent.keys() == {one.member, two.member} and sum(done.sent.values()) == REF.size


async def test_a_partial_holder_serves_what_it_has(make_peer) -> None:
    one, two, three = [await make_peer() for _ in range(3)]
    hashes, parts = chunk_hashes(DATA), [bytes(part) for part in chunks(DATA)]
    for peer, start in ((one, 0), (two, 1)):
        peer.store.begin(REF, hashes)
        for index in range(start, len(parts), 2):
            peer.store.write_chunk(REF.hash, index, parts[index])
    await three.transport.fetch(REF, [one.endpoint, two.endpoint], 60)
    assert three.store.read(REF) == DATA


async def test_a_late_joiner_fetches_from_the_one_who_fetched(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    one.store.put(DATA)
    await two.transport.fetch(REF, [one.endpoint], 60)
    await one.transport.close()
    late = await make_peer()
    assert (await late.transport.fetch(REF, [one.endpoint, two.endpoint], 60)).sent == {two.member: REF.size}


async def test_a_restarted_peer_goes_on(make_peer, tmp_path: Path) -> None:
    one, two = await make_peer(), await make_peer(home=tmp_path / "two")
    one.store.put(DATA)
    two.store.begin(REF, chunk_hashes(DATA))
    for index in (3, 4, 9):
        two.store.write_chunk(REF.hash, index, one.store.read_chunk(REF.hash, index))
    await two.transport.close()
    again = await make_peer(home=tmp_path / "two")
    done = await again.transport.fetch(REF, [one.endpoint], 60)
    assert done.resumed == 2 * CHUNK_SIZE + 77 and again.store.read(REF) == DATA
    assert sum(done.sent.values()) == REF.size - done.resumed


async def test_two_fetches_of_one_blob_cost_one(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    one.store.put(DATA)
    both = await asyncio.gather(*(two.transport.fetch(REF, [one.endpoint], 60) for _ in range(2)))
    assert sorted(sum(done.sent.values()) for done in both) == [0, REF.size]


async def test_the_size_of_a_name_is_found(make_peer) -> None:
    one, two, three = [await make_peer() for _ in range(3)]
    one.store.put(DATA)
    holders = [one.endpoint, three.endpoint]
    assert await two.transport.resolve(REF.hash, holders, 1 << 30, 60) == REF
    for hash_, size_max in ((REF.hash, REF.size - 1), (Hash(bytes(32)), 1 << 30)):
        with pytest.raises(FetchFailed) as caught:
            await two.transport.resolve(hash_, holders, size_max, 5)
        assert caught.value.reasons.keys() == {one.member, three.member}
    assert one.transport.address not in two.transport.liars


async def test_messages_arrive_with_their_sender(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    received = aiter(two.transport.received())
    for message in (b"hello", b"", b"x" * MESSAGE_BYTES_MAX):
        await one.transport.send(two.endpoint, message)
        assert await anext(received) == (one.transport.address, message)


async def test_a_message_that_is_too_large_is_not_even_sent(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    with pytest.raises(SendFailed, match="at most"):
        await one.transport.send(two.endpoint, bytes(MESSAGE_BYTES_MAX + 1))
    assert one.transport.counters.total("up") == 0


async def test_the_queue_is_bounded_and_drops_are_counted(make_peer) -> None:
    one, two, three = (
        await make_peer(),
        await make_peer(inbox_limits=InboxLimits(sender_max=3)),
        await make_peer(),
    )
    for number in range(3):
        await one.transport.send(two.endpoint, bytes([number]))
    for _ in range(2):
        with pytest.raises(SendFailed, match="503"):
            await one.transport.send(two.endpoint, b"more")
    await three.transport.send(two.endpoint, b"others are heard")
    assert len(two.transport.inbox) == 4
    assert two.transport.inbox.dropped == {one.transport.address: 2}


async def test_nobody_listens(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    await two.transport.close()
    with pytest.raises(SendFailed):
        await one.transport.send(two.endpoint, b"hello")
    for blob in (REF, blob_ref(SMALL)):
        with pytest.raises(FetchFailed, match="cannot be reached"):
            await one.transport.fetch(blob, [two.endpoint], 60)
    with pytest.raises(SendFailed, match="no URL"):
        await one.transport.send(two.at(), b"hello")


async def test_the_second_url_serves_where_the_first_is_dead(make_peer) -> None:
    one, two, dead = [await make_peer() for _ in range(3)]
    await dead.transport.close()
    await one.transport.send(two.at(*dead.endpoint.urls, *two.endpoint.urls), b"hello")
    assert len(two.transport.inbox) == 1


async def test_another_node_behind_a_url_gets_nothing(make_peer) -> None:
    one, two, other = [await make_peer() for _ in range(3)]
    other.store.put(DATA)
    with pytest.raises(SendFailed, match="another node|not certified"):
        await one.transport.send(two.at(*other.endpoint.urls), b"hello")
    with pytest.raises(FetchFailed, match="another node|not certified"):
        await one.transport.fetch(REF, [two.at(*other.endpoint.urls)], 60)
    assert len(other.transport.inbox) == 0
    assert one.transport.liars == {}


async def test_a_node_that_took_over_a_url_after_the_proof_gets_nothing(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    await one.transport.send(two.endpoint, b"hello")
    port = two.port
    await two.transport.close()
    other = await make_peer(port=port)
    for why in (
        "disconnected|reset|403|not certified",
        "another node|not certified",
    ):  # the kept connection is gone, then the proof fails
        with pytest.raises(SendFailed, match=why):
            await one.transport.send(two.endpoint, b"for two only")
    assert len(other.transport.inbox) == 0


async def test_a_delivery_cannot_be_forged_or_repeated(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    sealed = seal_delivery(b"hello", one.transport.address, two.transport.address, one.transport.sign)
    swapped = sealed[:32] + two.transport.address.hex() + sealed[72:]
    url, post = await one.transport.client.prove(two.endpoint), one.transport.client.post
    await post(url, "/message", b"hello", {DELIVERY_HEADER: sealed}, "control")
    forged = ((b"hello", sealed), (b"other", sealed), (b"hello", swapped), (b"hello", "zz"), (b"hello", "00"))
    for message, header in forged:
        with pytest.raises(Exception, match="403"):
            await post(url, "/message", message, {DELIVERY_HEADER: header}, "control")
    await post(url, "/message", b"from nobody", {}, "control")
    assert [item async for item in closing(two)] == [
        (one.transport.address, b"hello"),
        (None, b"from nobody"),
    ]


def closing(peer):
    peer.transport.inbox.close()
    return peer.transport.received()


async def test_private_addresses_are_for_local_recipes(make_peer) -> None:
    near, far = await make_peer(), await make_peer(local=False)
    near.store.put(DATA)
    for url in (
        near.endpoint.urls[0],
        f"http://localhost:{near.port}",
        f"http://[::ffff:127.0.0.1]:{near.port}",
    ):
        with pytest.raises(SendFailed, match="private network"):
            await far.transport.send(near.at(url), b"hello")
    assert far.transport.counters.total("up") == 0


@pytest.mark.parametrize(
    "url", ["ftp://192.0.2.1:1", "http://u:p@192.0.2.1:1", "http://192.0.2.1:1/x", "nonsense", "http://"]
)
async def test_what_is_no_url_of_a_peer_is_not_asked(make_peer, url: str) -> None:
    one, two = await make_peer(), await make_peer()
    with pytest.raises(SendFailed, match="URL"):
        await one.transport.send(two.at(url), b"hello")


async def test_close_ends_everything_and_frees_the_port(make_peer) -> None:
    before = asyncio.all_tasks()
    one, two = await make_peer(), await make_peer()
    one.store.put(DATA)
    await two.transport.fetch(REF, [one.endpoint], 60)
    reader = asyncio.ensure_future(anext(two.transport.received(), "end"))
    await one.transport.send(two.endpoint, b"hello")
    await reader
    hopeless = asyncio.ensure_future(
        two.transport.fetch(BlobRef(Hash(b"x" * 32), 1 << 30), [one.endpoint], 99)
    )
    ending = asyncio.ensure_future(anext(two.transport.received(), "end"))
    await asyncio.sleep(0)
    for peer in (two, one):
        await peer.transport.close()
        await peer.transport.close()
    with pytest.raises(FetchFailed):
        await hopeless
    assert await ending == "end"
    assert asyncio.all_tasks() <= before
    for peer in (one, two):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", peer.port))
    with pytest.raises(SendFailed, match="closed"):
        await two.transport.send(one.endpoint, b"hello")


async def test_a_cancelled_fetch_stops_and_keeps_what_it_has(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    one.store.begin(REF, chunk_hashes(DATA))
    one.store.write_chunk(REF.hash, 0, DATA[:CHUNK_SIZE])
    arrived = asyncio.Event()
    write, loop = two.store.write_chunk, asyncio.get_running_loop()

    def tell(*args):
        done = write(*args)
        loop.call_soon_threadsafe(arrived.set)
        return done

    two.store.write_chunk = tell
    fetching = asyncio.ensure_future(two.transport.fetch(REF, [one.endpoint], 99))
    await arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert two.store.held(REF.hash) == {0}


async def test_starting_contacts_nobody(make_peer) -> None:
    peer = await make_peer(local=False)
    assert peer.transport.counters.snapshot() == {
        way: dict.fromkeys(("updates", "snapshots", "data", "control"), 0) for way in ("up", "down")
    }


async def test_a_taken_port_is_an_error_that_leaves_nothing(make_peer) -> None:
    one = await make_peer()
    with pytest.raises(OSError, match="in use"):
        await make_peer(port=one.port)

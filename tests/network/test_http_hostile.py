"""Holders and clients that mean harm or break down: each costs little, is dropped in time, and is named."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from distrai.network.fetcher import Patience
from distrai.network.http import HttpPatience, ServerLimits
from distrai.network.http.server import HttpServer
from distrai.network.interface import MESSAGE_BYTES_MAX, FetchFailed
from distrai.protocol.blobs import CHUNK_SIZE, blob_ref

DATA = random.Random(6).randbytes(9 * CHUNK_SIZE + 77)
REF = blob_ref(DATA)
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
LONG_S = 30.0
"""What the deadlines of the tests bring about takes a second or two, and on a busy machine some more."""


@pytest.fixture
def http_patience() -> HttpPatience:
    """Short enough that what waits for a deadline does not make the tests slow."""
    return HttpPatience(connect_s=2.0, stall_s=0.8, answer_s=1.5, chunk_s=2.0)


def hijack(server: HttpServer, part: str, answer: Answer) -> None:
    """Have requests whose path contains ``part`` answered in another way."""
    honest = server._handle

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await (answer if part in request.path else honest)(request)

    server._handle = handle
    assert server._runner is not None
    server._runner.server.request_handler = handle


async def wrong(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=bytes(CHUNK_SIZE))


async def oversized(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=bytes(CHUNK_SIZE + 1))


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    answer = web.StreamResponse()
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    while True:
        await answer.write(bytes(1 << 16))


async def huge(request: web.BaseRequest) -> web.StreamResponse:
    answer = web.StreamResponse()
    answer.content_length = 1 << 40
    await answer.prepare(request)
    while True:
        await answer.write(bytes(1 << 16))


def announced(request: web.BaseRequest) -> int:
    """The size of the chunk that is asked for: the last one is shorter."""
    return REF.chunk_size(int(request.path.rpartition("/")[2]))


async def clean_end(request: web.BaseRequest) -> web.StreamResponse:
    answer = web.StreamResponse()
    answer.content_length = announced(request)
    await answer.prepare(request)
    await answer.write(bytes(announced(request) // 2))
    request.transport.close()
    return answer


async def silent(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    """One byte every 50 ms: never silent, never done."""
    answer = web.StreamResponse()
    answer.content_length = announced(request)
    await answer.prepare(request)
    for _ in range(announced(request) - 1):
        await answer.write(b"x")
        await asyncio.sleep(0.05)
    return await silent(request)


async def absent(request: web.BaseRequest) -> web.StreamResponse:
    """Says that it has everything, and has nothing."""
    return web.Response(status=404)


async def busy(request: web.BaseRequest) -> web.StreamResponse:
    """Always has something better to do."""
    return web.Response(status=503)


@pytest.mark.parametrize(
    ("answer", "lies"),
    [
        (absent, False),
        (busy, False),
        (wrong, True),
        (oversized, True),
        (endless, True),
        (huge, True),
        (clean_end, False),
        (silent, False),
        (drip, False),
    ],
)
async def test_one_bad_holder_of_two_costs_little(make_peer, answer: Answer, lies: bool) -> None:
    bad, good, me = [await make_peer() for _ in range(3)]
    for holder in (bad, good):
        holder.store.put(DATA)
    hijack(bad.transport.server, "/chunk/", answer)
    done = await me.transport.fetch(REF, [bad.endpoint, good.endpoint], LONG_S)
    assert me.store.read(REF) == DATA
    assert done.sent == {good.member: REF.size}
    assert done.liars == ((bad.member,) if lies else ())
    assert me.transport.counters.snapshot()["down"]["updates"] < REF.size + 8 * CHUNK_SIZE


@pytest.mark.parametrize("answer", [clean_end, silent, drip, endless, absent, busy])
async def test_alone_it_fails_within_its_deadlines_and_is_named(make_peer, answer: Answer) -> None:
    patience = Patience(failures_max=2, refresh_s=0.01, give_up_s=2.5)
    bad, me = [await make_peer(patience=patience) for _ in range(2)]
    bad.store.put(DATA)
    hijack(bad.transport.server, "/chunk/", answer)
    async with asyncio.timeout(LONG_S):
        with pytest.raises(FetchFailed, match="no holder is left") as caught:
            await me.transport.fetch(REF, [bad.endpoint], 2 * LONG_S)
    assert caught.value.reasons.keys() == {bad.member}


@pytest.mark.parametrize("answer", [wrong, endless, drip, silent, absent, busy])
async def test_most_of_a_swarm_may_be_bad(make_peer, answer: Answer) -> None:
    """Five who say that they have everything and one that has: it takes no longer than its deadlines."""
    good, me, *bad = [await make_peer() for _ in range(7)]
    for holder in (good, *bad):
        holder.store.put(DATA)
    for holder in bad:
        hijack(holder.transport.server, "/chunk/", answer)
    async with asyncio.timeout(LONG_S):
        done = await me.transport.fetch(REF, [holder.endpoint for holder in (*bad, good)], 2 * LONG_S)
    assert me.store.read(REF) == DATA and done.sent == {good.member: REF.size}
    assert bool(done.liars) == (answer in (wrong, endless))
    assert me.transport.counters.snapshot()["down"]["updates"] < REF.size + 10 * CHUNK_SIZE


async def test_a_liar_is_remembered_and_not_asked_again(make_peer) -> None:
    liar, me = await make_peer(), await make_peer()
    liar.store.put(DATA)
    liar.store.put(b"true")
    hijack(liar.transport.server, "/chunk/", wrong)
    with pytest.raises(FetchFailed, match="wrong chunk|announces"):
        await me.transport.fetch(REF, [liar.endpoint], LONG_S)
    assert me.transport.liars.keys() == {liar.transport.address}
    before = me.transport.counters.total("up")
    with pytest.raises(FetchFailed, match="lied before"):
        await me.transport.fetch(blob_ref(b"true"), [liar.endpoint], LONG_S)
    assert me.transport.counters.total("up") == before


@pytest.mark.parametrize("answer", [wrong, oversized, endless, clean_end, silent])
@pytest.mark.parametrize("part", ["/manifest", "/have", "/challenge"])
async def test_the_small_answers_are_not_believed_either(make_peer, part: str, answer: Answer) -> None:
    bad, good, me = [await make_peer() for _ in range(3)]
    for holder in (bad, good):
        holder.store.put(DATA)
    hijack(bad.transport.server, part, answer)
    done = await me.transport.fetch(REF, [bad.endpoint, good.endpoint], LONG_S)
    assert me.store.read(REF) == DATA and done.sent.keys() <= {good.member, bad.member}
    if part == "/challenge":  # who has not proved who it is can harm nobody's name
        assert done.sent == {good.member: REF.size} and me.transport.liars == {}


async def test_a_holder_killed_in_mid_transfer_costs_a_retry(make_peer) -> None:
    doomed, good, me = [await make_peer() for _ in range(3)]
    for holder in (doomed, good):
        holder.store.put(DATA)
    served = 0

    async def die(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal served
        served += 1
        if served <= 2 and "/chunk/" in request.path:
            return web.Response(body=doomed.store.read_chunk(REF.hash, int(request.path.rsplit("/")[-1])))
        for connection in doomed.transport.server._runner.server.connections:
            connection.transport.abort()
        hijack(doomed.transport.server, "/", die)
        return web.Response()

    hijack(doomed.transport.server, "/chunk/", die)
    done = await me.transport.fetch(REF, [doomed.endpoint, good.endpoint], LONG_S)
    assert me.store.read(REF) == DATA and done.liars == ()
    assert done.sent[good.member] >= REF.size - 2 * CHUNK_SIZE


async def talk(port: int, request: bytes, more: bytes = b"") -> bytes:
    """Send raw bytes, then ``more`` as long as anybody listens; everything that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(reader.read())
    try:
        writer.write(request)
        while more and not answer.done():
            writer.write(more)
            await writer.drain()
        return await answer
    except ConnectionError:
        return b""
    finally:
        answer.cancel()
        writer.close()
        await asyncio.gather(writer.wait_closed(), answer, return_exceptions=True)


HEAD = b"POST /message HTTP/1.1\r\nHost: x\r\n"


async def test_a_message_that_is_too_large_is_refused_before_it_is_read(make_peer) -> None:
    peer = await make_peer()
    async with asyncio.timeout(LONG_S):
        answer = await talk(peer.port, HEAD + f"Content-Length: {MESSAGE_BYTES_MAX + 1}\r\n\r\n".encode())
    assert b" 413 " in answer
    assert len(peer.transport.inbox) == 0


async def test_endless_messages_are_cut_off(make_peer) -> None:
    peer = await make_peer()
    for head in (
        HEAD + b"Content-Length: 999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    ):
        async with asyncio.timeout(LONG_S):
            await talk(peer.port, head, b"10000\r\n" + bytes(0x10000) + b"\r\n")
    assert len(peer.transport.inbox) == 0


async def test_a_message_that_never_arrives_is_given_up(make_peer) -> None:
    peer = await make_peer(server_limits=ServerLimits(body_s=0.1))
    async with asyncio.timeout(LONG_S):
        assert b" 408 " in await talk(peer.port, HEAD + b"Content-Length: 10\r\n\r\nabc")


async def test_a_connection_without_a_request_is_ended(make_peer) -> None:
    peer = await make_peer(server_limits=ServerLimits(idle_s=0.1))
    async with asyncio.timeout(LONG_S):
        for beginning in (b"", b"GET /blob"):
            assert b"200" not in await talk(peer.port, beginning)


async def test_who_does_not_take_its_answer_is_cut_off(make_peer) -> None:
    peer = await make_peer(server_limits=ServerLimits(answer_s=0.1))
    peer.store.put(DATA)
    path = f"/blob/{REF.hash.hex()}/chunk/"
    _, writer = await asyncio.open_connection("127.0.0.1", peer.port, limit=1)
    for index in range(9):
        writer.write(f"GET {path}{index} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(LONG_S):
        await peer.transport.server._listener.all_ended.wait()
    writer.close()


@pytest.mark.parametrize(
    "path",
    ["/", "/blob", "/blob/00", f"/blob/{'0' * 64}", f"/blob/{'G' * 64}/have", f"/blob/{'0' * 64}/have",
     f"/blob/{REF.hash.hex()}/chunk/99", f"/blob/{REF.hash.hex()}/chunk/-1", f"/blob/{REF.hash.hex()}/chunk/x",
     f"/blob/{REF.hash.hex()}/chunk/99999999999999", f"/blob/{REF.hash.hex().upper()}/have", "/blob/../../etc/passwd",
     "/message", f"/blob/{REF.hash.hex()}/have/x"],
)  # fmt: skip
async def test_strange_paths_find_nothing(make_peer, path: str) -> None:
    peer = await make_peer()
    peer.store.put(DATA)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b" 404 " in await talk(peer.port, request.encode())


@pytest.mark.parametrize("nonce", ["", "zz", "00", "0" * 66])
async def test_strange_challenges_are_not_signed(make_peer, nonce: str) -> None:
    peer = await make_peer()
    request = f"GET /challenge?nonce={nonce} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b" 400 " in await talk(peer.port, request.encode())


async def test_a_client_that_takes_nothing_does_not_delay_the_end(make_peer) -> None:
    peer = await make_peer()
    peer.store.put(DATA)
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port, limit=1)
    for index in range(36):  # more than the kernel's buffers take
        writer.write(f"GET /blob/{REF.hash.hex()}/chunk/{index % 9} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    listener = peer.transport.server._listener
    await reader.readexactly(1)
    assert listener.open_count == 1
    async with asyncio.timeout(LONG_S / 2):
        await peer.transport.close()
    assert listener.open_count == 0
    writer.close()


async def test_connections_above_the_limits_are_ended_at_once(make_peer) -> None:
    peer = await make_peer(server_limits=ServerLimits(connections=10, connections_per_host=2))
    kept = [await asyncio.open_connection("127.0.0.1", peer.port) for _ in range(2)]
    async with asyncio.timeout(LONG_S):
        assert await talk(peer.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    listener = peer.transport.server._listener
    assert listener.refused == 1 and listener.open_count == 2
    for _, writer in kept:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(LONG_S):
        await listener.all_ended.wait()
    assert b" 404 " in await talk(peer.port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


async def test_what_the_disk_damaged_is_not_served_and_no_lie(make_peer) -> None:
    damaged, me = await make_peer(), await make_peer()
    damaged.store.put(DATA)
    whole = damaged.store.path / REF.hash.hex()[:2] / REF.hash.hex()
    whole.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    with pytest.raises(FetchFailed, match="does not have"):
        await me.transport.fetch(REF, [damaged.endpoint], LONG_S)
    assert me.transport.liars == {}

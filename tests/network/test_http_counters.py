"""Bytes at the socket, against a proxy in between that counts what it passes on."""

import asyncio
import random
from collections import Counter

import pytest

from distrai.network.http.sockets import is_public
from distrai.protocol.blobs import CHUNK_SIZE

DATA = random.Random(7).randbytes(3 * CHUNK_SIZE + 11)


class CountingProxy:
    """Passes bytes on between its clients and one port."""

    def __init__(self, target: int, scheme: str) -> None:
        self.target, self.scheme = target, scheme
        self.bytes: Counter[str] = Counter()
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.url = f"{self.scheme}://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def connection(self, reader, writer) -> None:
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(self.pump("asked", reader, back), self.pump("answered", there, writer))
        finally:
            for end in (writer, back):
                end.close()

    async def pump(self, way: str, source, sink) -> None:
        while data := await source.read(1 << 16):
            self.bytes[way] += len(data)
            sink.write(data)
            await sink.drain()
        sink.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("purpose", ["updates", "snapshots", "data"])
async def test_both_ends_count_what_passes_between_them(make_peer, purpose: str, tls: bool) -> None:
    one, two = await make_peer(), await make_peer()
    blob = one.store.put(DATA)
    async with CountingProxy(one.port, "https" if tls else "http") as proxy:
        endpoint = one.at(proxy.url)
        await two.transport.fetch(blob, [endpoint], 10, purpose)
        for _ in range(20):
            await two.transport.send(endpoint, b"x" * 1000)
        await two.transport.close()
        await one.transport.close()
        client, server = two.transport.counters.snapshot(), one.transport.counters.snapshot()
        assert sum(client["up"].values()) == proxy.bytes["asked"] == sum(server["down"].values())
        assert sum(client["down"].values()) == pytest.approx(proxy.bytes["answered"], rel=0.01)
        assert sum(server["up"].values()) == pytest.approx(proxy.bytes["answered"], rel=0.01)
    assert blob.size < client["down"][purpose] < 1.01 * blob.size
    assert blob.size < server["up"][purpose] < 1.01 * blob.size
    assert 20_000 < client["up"]["control"] < 35_000
    for other in {"updates", "snapshots", "data"} - {purpose}:
        assert client["down"][other] == server["up"][other] == 0


async def test_an_unknown_purpose_counts_as_control(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    blob = one.store.put(DATA[:1000])
    await two.transport.fetch(blob, [one.endpoint], 10, "recipe")
    assert two.transport.counters.snapshot()["down"]["control"] > 1000


async def test_a_message_counts_under_its_purpose(make_peer) -> None:
    one, two = await make_peer(), await make_peer()
    await two.transport.send(one.endpoint, bytes(100_000), "updates")
    await two.transport.send(one.endpoint, bytes(1000), "something")
    sent, got = two.transport.counters.snapshot()["up"], one.transport.counters.snapshot()["down"]
    assert 100_000 < sent["updates"] == got["updates"] < 101_000
    assert 1000 < sent["control"] == got["control"] < 3000


@pytest.mark.parametrize(
    ("host", "public"),
    [("8.8.8.8", True), ("::ffff:8.8.8.8", True),
     ("2001:4860:4860::8888", True), ("10.0.0.1", False), ("127.0.0.1", False), ("::1", False),
     ("192.168.1.1", False), ("169.254.169.254", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False),
     ("2002:0a00:0001::", False), ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("fc00::1", False)],
)  # fmt: skip
def test_private_ranges_are_known(host: str, public: bool) -> None:
    assert is_public(host) is public

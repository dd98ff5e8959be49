"""One peer of the exchange benchmark, in its own process and namespace: ``exchange_peer.py ENGINE INDEX SIZE ADDRESS``.

It says "ready" with where it is, is told where all are, and says when it has what it is to have. Then it goes on
serving until its standard input ends. Engines: ``http`` (ours, with TLS as between any two machines), ``tcp`` (a plain
script that sends its blob to each other peer over a connection of its own), ``store`` (every peer puts its blob and
gets those of the others).
"""

import asyncio
import json
import random
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.signatures import address_of, recover, sign

DEADLINE_S = 300.0
RECEIVE_BYTES = 1 << 18


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def hear() -> dict[str, Any]:
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit
    return dict(json.loads(line))


async def until_end() -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        pass


def made(index: int, size: int) -> bytes:
    """The blob of a peer: the same whenever it is made."""
    return random.Random(index).randbytes(size)  # noqa: S311


def done(began: float, **more: Any) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = usage.ru_utime + usage.ru_stime
    say(done_s=time.monotonic() - began, cpu_s=cpu_s, rss_mib=usage.ru_maxrss / 1024, **more)


# Ours


async def ours(index: int, size: int, address: str, scratch: Path) -> None:
    private = PrivateKey((index + 1).to_bytes(32, "big"))
    transport = HttpTransport(
        BlobStore(scratch),
        host=address,
        port=0,
        address=address_of(private.public_key),
        sign=partial(sign, private),
        recover=recover,
        local=True,
        rng=random.Random(index),  # noqa: S311
        tls=True,
    )
    url = await transport.start()
    data = made(index, size)
    blob = blob_ref(data)
    await transport.publish(blob, data)
    del data
    say(ready=True, url=url, key=transport.address.hex(), hash=blob.hash.hex())
    told = await hear()
    members = [MemberId(bytes([at]) * 32) for at in range(len(told["peers"]))]
    others = [
        Endpoint(members[at], bytes.fromhex(peer["key"]), (peer["url"],))
        for at, peer in enumerate(told["peers"])
        if at != index
    ]
    wanted = [
        BlobRef(Hash(bytes.fromhex(told["peers"][at]["hash"])), size) for at in told["authors"] if at != index
    ]
    began = time.monotonic()
    results = await asyncio.gather(*(transport.fetch(each, others, DEADLINE_S) for each in wanted))
    sent = [{members.index(member): count for member, count in each.sent.items()} for each in results]
    done(began, sent=sent)
    await until_end()
    say(counters=transport.counters.snapshot())
    await transport.close()


# The plain script


async def tcp(index: int, size: int, address: str, _: Path) -> None:
    data = made(index, size)
    listener = socket.create_server((address, 0), backlog=64)
    say(ready=True, url=f"{address}:{listener.getsockname()[1]}")
    told = await hear()
    authors = set(told["authors"])
    began = time.monotonic()
    with ThreadPoolExecutor(2 * len(told["peers"])) as pool:
        sending = [
            pool.submit(send_blob, peer["url"], data)
            for at, peer in enumerate(told["peers"])
            if index in authors and at != index
        ]
        receiving = []
        for _author in authors - {index}:
            connection, _ = await asyncio.to_thread(listener.accept)
            receiving.append(pool.submit(receive_blob, connection, size))
        for work in receiving:
            await asyncio.wrap_future(work)
        done(began)
        for work in sending:
            await asyncio.wrap_future(work)
    await until_end()


def send_blob(url: str, data: bytes) -> None:
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def receive_blob(connection: socket.socket, size: int) -> None:
    buffer, at = bytearray(size), 0
    view = memoryview(buffer)
    with connection:
        while at < size and (count := connection.recv_into(view[at : at + RECEIVE_BYTES])):
            at += count
    assert at == size, "a blob came short"


# The object store


async def store(index: int, size: int, *_: Any) -> None:
    import obstore
    from obstore.store import S3Store

    data = made(index, size)
    say(ready=True, url="")
    told = await hear()
    bucket = S3Store(
        "exchange",
        endpoint=told["store"],
        access_key_id="exchange",
        secret_access_key="exchange",  # noqa: S106
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    authors = set(told["authors"])
    prefix = told["prefix"]

    async def get(author: int) -> None:
        while True:
            try:
                answer = await obstore.get_async(bucket, f"{prefix}-{author}")
                body = await answer.bytes_async()
            except FileNotFoundError:
                await asyncio.sleep(0.1)
                continue
            assert len(body) == size
            return

    began = time.monotonic()
    works: list[Awaitable[Any]] = [get(author) for author in authors - {index}]
    if index in authors:
        works.append(obstore.put_async(bucket, f"{prefix}-{index}", data))
    await asyncio.gather(*works)
    done(began)
    await until_end()


ENGINES: dict[str, Callable[[int, int, str, Path], Awaitable[None]]] = {
    "http": ours,
    "tcp": tcp,
    "store": store,
}


def main() -> None:
    engine, index, size, address = sys.argv[1:5]
    with tempfile.TemporaryDirectory(prefix="exchange-") as scratch:
        asyncio.run(ENGINES[engine](int(index), int(size), address, Path(scratch)))


if __name__ == "__main__":
    main()

"""A peer at one end of a cable: ``python -m helpers.counted author|reader FOLDER ADDRESS``; JSON lines in and out.

The author has one blob of each size that it is given and serves them. The reader fetches them, each for its purpose,
and sends messages. At the end both say what they counted.
"""

import asyncio
import json
import random
import sys
from functools import partial
from pathlib import Path

from coincurve import PrivateKey

from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.signatures import address_of, recover, sign


def say(**facts) -> None:
    print(json.dumps(facts), flush=True)


async def hear() -> dict:
    return json.loads(await asyncio.to_thread(sys.stdin.readline))


def node(role: str) -> PrivateKey:
    return PrivateKey({"author": 1, "reader": 2}[role].to_bytes(32, "big"))


async def author(peer: HttpTransport, url: str) -> None:
    blobs = {}
    for purpose, size in (await hear())["sizes"].items():
        blobs[purpose] = (peer.store.put(random.Random(size).randbytes(size)).hash.hex(), size)
    say(url=url, blobs=blobs)
    messages = peer.received()
    for _ in range((await hear())["messages"]):
        await anext(messages)
    await hear()


async def reader(peer: HttpTransport) -> None:
    told = await hear()
    there = Endpoint(MemberId(bytes(32)), address_of(node("author").public_key), (told["url"],))
    for purpose, (name, size) in told["blobs"].items():
        await peer.fetch(BlobRef(Hash(bytes.fromhex(name)), size), [there], 240, purpose)
    for _ in range(told["messages"]):
        await peer.send(there, bytes(told["message_bytes"]))
    say(done=True)
    await hear()


async def main() -> None:
    role, folder, address = sys.argv[1:]
    key = node(role)
    peer = HttpTransport(
        BlobStore(Path(folder) / role),
        host=address,
        port=0,
        address=address_of(key.public_key),
        sign=partial(sign, key),
        recover=recover,
        local=True,
        tls=True,
        rng=random.Random(1),
    )
    url = await peer.start()
    await (author(peer, url) if role == "author" else reader(peer))
    await peer.close()
    say(counters=peer.counters.snapshot())


if __name__ == "__main__":
    asyncio.run(main())

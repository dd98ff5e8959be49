"""A process of its own that does one thing with a large blob and tells by how much its memory grew meanwhile.

``python -m helpers.memory serve|fetch|open FOLDER MIB [URL]``: prints JSON lines, and serves until its input ends.
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
from distrai.protocol.blobs import CHUNK_SIZE, BlobRef
from distrai.protocol.cipher import seal_chunks, unseal_chunks
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.signatures import address_of, recover, sign

SERVER, CLIENT = 1, 2


def peak_mib(*, reset: bool = False) -> float:
    """The most memory that this process has had since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def say(**facts) -> None:
    print(json.dumps(facts), flush=True)


def node(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


def transport(folder: Path, number: int) -> HttpTransport:
    return HttpTransport(
        BlobStore(folder / str(number)),
        host="127.0.0.1",
        port=0,
        address=address_of(node(number).public_key),
        sign=partial(sign, node(number)),
        recover=recover,
        local=True,
        tls=True,
        rng=random.Random(number),
    )


async def serve(folder: Path, mib: int) -> None:
    """Publish a file, and serve it."""
    source, noise = folder / "source", random.Random(1).randbytes(CHUNK_SIZE - 4)
    with source.open("wb") as file:
        for index in range(mib):
            file.write(index.to_bytes(4, "big") + noise)
    peer = transport(folder, SERVER)
    url = await peer.start()
    before = peak_mib(reset=True)
    blob = await asyncio.to_thread(peer.store.put_file, source)
    say(url=url, hash=blob.hash.hex())
    await asyncio.to_thread(sys.stdin.read)
    say(grew_mib=peak_mib() - before)
    await peer.close()


async def fetch(folder: Path, mib: int, url: str, name: str) -> None:
    """Fetch it, and read it chunk by chunk, as who opens an update does."""
    peer = transport(folder, CLIENT)
    await peer.start()
    server = Endpoint(MemberId(bytes(32)), address_of(node(SERVER).public_key), (url,))
    blob = BlobRef(Hash(bytes.fromhex(name)), mib * CHUNK_SIZE)
    before = peak_mib(reset=True)
    await peer.fetch(blob, [server], 280)
    size = sum(len(chunk) for chunk in peer.store.chunks(blob))
    say(grew_mib=peak_mib() - before, size=size)
    await peer.close()


def seal_and_open(folder: Path, mib: int) -> None:
    """Seal a payload into a store, forget it, and open it again."""
    store, key, bound = BlobStore(folder), bytes(32), b"bound"
    payload = random.Random(1).randbytes(mib * CHUNK_SIZE)
    before = peak_mib(reset=True)
    blob = store.put_chunks(seal_chunks(payload, key, bound))
    sealed = peak_mib() - before
    same = payload[-1000:]
    del payload
    before = peak_mib(reset=True)
    opened = unseal_chunks(store.chunks(blob), blob.chunk_count, key, bound)
    assert opened[-1000:] == same
    say(sealed_mib=sealed, opened_mib=peak_mib() - before)


def main() -> None:
    what, folder, mib, *more = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(Path(folder), int(mib)))
    elif what == "fetch":
        asyncio.run(fetch(Path(folder), int(mib), *more))
    else:
        seal_and_open(Path(folder), int(mib))


if __name__ == "__main__":
    main()

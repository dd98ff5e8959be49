import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from distrai.network.fetcher import Patience
from distrai.network.http import HttpPatience, HttpTransport
from distrai.network.interface import Endpoint
from distrai.network.store import BlobStore
from distrai.protocol.primitives import MemberId
from distrai.protocol.signatures import address_of, recover, sign

QUICK = HttpPatience(connect_s=2.0, stall_s=0.8, answer_s=1.5, chunk_s=2.0)
"""Short enough that what waits for a deadline does not make the tests slow."""
EAGER = Patience(hedge_s=0.05, refresh_s=0.01, duplicate_after_s=0.2, give_up_s=0.5)


@dataclass(frozen=True)
class Peer:
    """A started transport and where it is."""

    transport: HttpTransport
    endpoint: Endpoint

    @property
    def store(self) -> BlobStore:
        return self.transport.store

    @property
    def member(self) -> MemberId:
        return self.endpoint.member

    @property
    def port(self) -> int:
        return int(self.endpoint.urls[0].rsplit(":", 1)[1])

    def at(self, *urls: str) -> Endpoint:
        return Endpoint(self.endpoint.member, self.endpoint.address, urls)


MakePeer = Callable[..., Awaitable[Peer]]


def key(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


@pytest.fixture
async def make_peer(tmp_path: Path) -> AsyncIterator[MakePeer]:
    peers: list[Peer] = []

    async def make(home: Path | None = None, port: int = 0, **options: Any) -> Peer:
        number = len(peers) + 1
        private, member = key(number), MemberId(bytes([number]) * 32)
        settings: dict[str, Any] = {"local": True, "patience": EAGER, "http_patience": QUICK, **options}
        transport = HttpTransport(
            BlobStore(home or tmp_path / f"peer{number}"),
            host="127.0.0.1",
            port=port,
            address=address_of(private.public_key),
            sign=partial(sign, private),
            recover=recover,
            rng=random.Random(number),
            **settings,
        )
        url = await transport.start()
        peers.append(Peer(transport, Endpoint(member, transport.address, (url,))))
        return peers[-1]

    yield make
    for peer in peers:
        await peer.transport.close()

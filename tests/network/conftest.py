import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
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

EAGER = Patience(hedge_s=0.05, refresh_s=0.01, duplicate_after_s=0.2, give_up_s=4.0)


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
        """The same member elsewhere."""
        return replace(self.endpoint, urls=urls)

    @property
    def unpinned(self) -> Endpoint:
        """As the ledger names it: without a fingerprint."""
        return replace(self.endpoint, fingerprint=b"")


MakePeer = Callable[..., Awaitable[Peer]]


def key(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


@pytest.fixture
def tls() -> bool:
    """Whether peers speak TLS; a module that wants to see both says so by a parameter of this name."""
    return False


@pytest.fixture
def http_patience() -> HttpPatience:
    """How long peers wait for each other; a module in which they wait in vain says it shorter by this name."""
    return HttpPatience()


@pytest.fixture
async def make_peer(tmp_path: Path, tls: bool, http_patience: HttpPatience) -> AsyncIterator[MakePeer]:
    peers: list[Peer] = []

    async def make(home: Path | None = None, port: int = 0, **options: Any) -> Peer:
        number = len(peers) + 1
        options = {"tls": tls, "host": "127.0.0.1", **options}
        private, member = key(number), MemberId(bytes([number]) * 32)
        patience = {"patience": EAGER, "http_patience": http_patience}
        settings: dict[str, Any] = {"local": True, **patience, **options}
        transport = HttpTransport(
            BlobStore(home or tmp_path / f"peer{number}"),
            port=port,
            address=address_of(private.public_key),
            sign=partial(sign, private),
            recover=recover,
            rng=random.Random(number),
            **settings,
        )
        url = await transport.start()
        peers.append(Peer(transport, Endpoint(member, transport.address, (url,), transport.fingerprint)))
        return peers[-1]

    yield make
    for peer in peers:
        await peer.transport.close()

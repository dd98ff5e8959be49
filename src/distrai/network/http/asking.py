"""How anything is asked for over HTTP: no cookies, no proxies, no decompression, deadlines, and one kind of error."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerFingerprintMismatch,
    TCPConnector,
)

from distrai.network.holders import HolderError

K = TypeVar("K")
_READ_BUFFER_BYTES = 1 << 20


class WrongKey(HolderError):
    """Behind a URL is another node than the one looked for, or none."""


def open_session(
    socket_factory: Callable[[Any], Any],
    headers: Mapping[str, str],
    *,
    connect_s: float,
    stall_s: float,
    limit: int,
    limit_per_host: int,
    keepalive_s: float,
) -> ClientSession:
    """A pool of connections that believes nothing of what it is sent."""
    return ClientSession(
        connector=TCPConnector(
            limit=limit,
            limit_per_host=limit_per_host,
            keepalive_timeout=keepalive_s,
            socket_factory=socket_factory,
        ),
        timeout=ClientTimeout(sock_connect=connect_s, sock_read=stall_s),
        headers={"User-Agent": "distrai", **headers},
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )


class Sessions(Generic[K]):
    """Pools of connections by what they are for: made when first needed, ended together."""

    def __init__(self, make: Callable[[K], ClientSession]) -> None:
        self._make = make
        self._open: dict[K, ClientSession] = {}
        self._closed = False

    def get(self, key: K) -> ClientSession:
        """The pool for ``key``. Raises HolderError once closed."""
        if self._closed:
            raise HolderError("is not asked: this transport is closed")
        if key not in self._open:
            self._open[key] = self._make(key)
        return self._open[key]

    async def close(self) -> None:
        """End all connections; nothing is asked any more."""
        self._closed = True
        for session in self._open.values():
            await session.close()
        self._open.clear()


@asynccontextmanager
async def asking(deadline_s: float, whom: str = "") -> AsyncIterator[None]:
    """A deadline, and one kind of error for all that can go wrong on the way; ``whom`` begins its words."""
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError:
        raise HolderError(f"{whom}is silent or too slow") from None
    except asyncio.IncompleteReadError:
        raise HolderError(f"{whom}ended its answer too early") from None
    except ServerFingerprintMismatch:
        raise WrongKey(f"{whom}shows a TLS certificate that its node key has not certified") from None
    except (ClientError, OSError, ValueError) as error:
        raise HolderError(f"{whom}cannot be reached: {error}") from None

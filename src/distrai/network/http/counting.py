"""Counting at the socket: transports and protocols that tell every byte that passes them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler

from distrai.network.counters import Counters


class CountingTransport:
    """A transport whose writes are counted; everything else is the wrapped one's."""

    def __init__(self, wrapped: asyncio.Transport, counters: Counters, purpose: str | None) -> None:
        self._wrapped, self._counters = wrapped, counters
        self.purpose = purpose
        self._unexplained = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def write(self, data: Any) -> None:
        """Count, then write."""
        self._counters.add("up", self.purpose or "control", len(data))
        self._wrapped.write(data)

    def writelines(self, parts: Iterable[Any]) -> None:
        """Count, then write."""
        kept = list(parts)
        self._counters.add("up", self.purpose or "control", sum(len(part) for part in kept))
        self._wrapped.writelines(kept)

    def received(self, size: int) -> None:
        """Count what came in; before a request has said what it is for, it is put aside."""
        if self.purpose is None:
            self._unexplained += size
        else:
            self._counters.add("down", self.purpose, size)

    def explain(self, purpose: str) -> None:
        """From here on the bytes of this connection are for ``purpose``, and so were those put aside."""
        self.purpose = purpose
        self._counters.add("down", purpose, self._unexplained)
        self._unexplained = 0


class CountingProtocol(asyncio.Protocol):
    """A server connection: passes everything on to the protocol of aiohttp's server, and counts."""

    def __init__(self, wrapped: asyncio.Protocol, counters: Counters) -> None:
        self._wrapped, self._counters = wrapped, counters
        self._transport: CountingTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on, with a transport that counts."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = CountingTransport(transport, self._counters, None)
        self._wrapped.connection_made(self._transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Count and pass on."""
        assert self._transport is not None
        self._transport.received(len(data))
        self._wrapped.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._wrapped.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on."""
        self._wrapped.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._wrapped.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._wrapped.resume_writing()


class _CountingResponseHandler(ResponseHandler):
    """A client connection that counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counters: Counters, purpose: str) -> None:
        super().__init__(loop)
        self._counters, self._purpose = counters, purpose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(CountingTransport(transport, self._counters, self._purpose))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._counters.add("down", self._purpose, len(data))
        super().data_received(data)


def counting_connector(counters: Counters, purpose: str, **options: Any) -> TCPConnector:
    """A connector all of whose connections are for one purpose, and counted."""
    connector = TCPConnector(**options)
    loop = asyncio.get_running_loop()
    factory: Callable[[], ResponseHandler] = lambda: _CountingResponseHandler(loop, counters, purpose)  # noqa: E731
    connector._factory = factory  # type: ignore[assignment]  # there is no public way in
    return connector

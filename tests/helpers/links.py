"""Links between peers that a test can cut and heal: before every peer stands a forwarder, and knows who calls.

A peer's process says that its forwarder is where it can be reached, and calls others from an address of its own; both
are set from outside, by ``install``. While a link is cut, what its caller opened stays open and carries nothing, in
either direction: nobody is told that anything is wrong, as where a cable is cut.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

VARIABLE = "DISTRAI_TEST_LINK"
_PIECE_BYTES = 1 << 16


# In the peer's process


def install() -> None:
    """Have this process call from its own address, and be called through its forwarder."""
    setting = os.environ.get(VARIABLE)
    if setting is None:
        return
    source, front, told = setting.split(" ")
    from distrai.network.http import client
    from distrai.network.http.transport import HttpTransport

    make_factory, start = client.socket_factory, HttpTransport.start

    def factory(*arguments: Any, **more: Any) -> Any:
        make = make_factory(*arguments, **more)

        def bound(address_info: Any) -> Any:
            made = make(address_info)
            made.bind((source, 0))
            return made

        return bound

    def tell(url: str) -> str:
        true = urlsplit(url)
        Path(told).write_text(true.netloc)
        return true._replace(netloc=front).geturl()

    async def started(self: HttpTransport) -> str:
        return tell(await start(self))

    client.socket_factory = factory
    HttpTransport.start = started  # type: ignore[method-assign]


# In the test


@dataclass
class Links:
    """The forwarders of all peers. ``folder`` is where their processes say where they listen."""

    names: Sequence[str]
    folder: Path
    cut: set[tuple[str, str]] = field(default_factory=set)
    """(who calls, who is called)"""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    servers: dict[str, asyncio.Server] = field(default_factory=dict)
    callers: dict[str, str] = field(default_factory=dict)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        for number, name in enumerate(self.names):
            self.callers[f"127.0.10.{number + 1}"] = name
            self.servers[name] = await asyncio.start_server(
                lambda reader, writer, name=name: self._called(name, reader, writer), "127.0.0.1", 0
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.close()
            await server.wait_closed()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def environment(self, name: str) -> dict[str, str]:
        """What the process of a peer needs in its environment; nothing for others."""
        if name not in self.servers:
            return {}
        source = next(address for address, caller in self.callers.items() if caller == name)
        port = self.servers[name].sockets[0].getsockname()[1]
        return {VARIABLE: f"{source} 127.0.0.1:{port} {self.folder / name}"}

    async def set_cut(self, *links: tuple[str, str]) -> None:
        """Cut these links, and heal all others."""
        async with self.changed:
            self.cut = set(links)
            self.changed.notify_all()

    async def divide(self, one: Sequence[str], other: Sequence[str]) -> None:
        """Cut every link between two halves."""
        pairs = [(first, second) for first in one for second in other]
        await self.set_cut(*pairs, *((second, first) for first, second in pairs))

    def _called(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(name, reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _carry(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to a peer, until either side ends it."""
        caller = self.callers.get(writer.get_extra_info("peername")[0], "")
        writers = [writer]
        try:
            with suppress(OSError):
                from_peer, to_peer = await asyncio.open_connection(*self._true_address(name))
                writers.append(to_peer)
                ways = ((reader, to_peer), (from_peer, writer))
                pumps = [asyncio.create_task(self._pump((caller, name), *way)) for way in ways]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for each in writers:
                each.transport.abort()

    def _true_address(self, name: str) -> tuple[str, int]:
        host, _, port = (self.folder / name).read_text().rpartition(":")
        return host, int(port)

    async def _pump(
        self, link: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            async with self.changed:
                await self.changed.wait_for(lambda: link not in self.cut)
            writer.write(piece)
            await writer.drain()

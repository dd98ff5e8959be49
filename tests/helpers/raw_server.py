"""A server that answers every request in the same bad way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Behaviour = Literal["silent", "endless", "huge", "truncated", "redirect"]
_OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Seen:
    """What was asked of it."""

    requests: int = 0


@asynccontextmanager
async def raw_server(behaviour: Behaviour) -> AsyncIterator[tuple[int, Seen]]:
    """The port that it listens on, and what it has seen."""
    seen, tasks = Seen(), set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                seen.requests += 1
                if not await _answer(behaviour, writer):
                    break
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(behaviour: Behaviour, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; whether the connection goes on."""
    match behaviour:
        case "silent":
            await asyncio.get_running_loop().create_future()
        case "endless":
            writer.write(_OK + b"Transfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                await writer.drain()
        case "huge":
            writer.write(_OK + b"Content-Length: 1099511627776\r\n\r\n")
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        case "truncated":
            writer.write(_OK + b"Content-Length: 65\r\n\r\n" + bytes(10))
            await writer.drain()
            return False
        case "redirect":
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
    return True

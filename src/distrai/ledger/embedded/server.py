"""The embedded chain over HTTP: one path, POST, JSON. Nothing to log in to, nothing to unlock."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.jsonrpc import answer

BODY_BYTES_MAX = 1 << 20
_BODY_SECONDS_MAX = 10.0
_KEEPALIVE_SECONDS = 300.0
_WAITING_MAX = 256
"""Requests whose body is being received at one time."""


class RpcHandler:
    """Answers one request at a time, in the order in which they are complete."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain
        self._waiting = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Check who asks and how much, then answer."""
        if not is_local_or_literal(request.host):
            raise web.HTTPForbidden(text="this server answers to IP addresses and localhost only")
        if request.content_type != "application/json":
            # A web page can send other types across origins without asking; this one the browser asks about first.
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        if self._waiting >= _WAITING_MAX:
            raise web.HTTPServiceUnavailable(text="too many requests at once")
        self._waiting += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS_MAX):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the request did not arrive in time") from None
        finally:
            self._waiting -= 1
        return web.Response(body=answer(self._chain, body), content_type="application/json")


def is_local_or_literal(host: str) -> bool:
    """Whether a Host header names this machine without DNS, so that no foreign name can be pointed at it."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name.lower() == "localhost"
    return True


@asynccontextmanager
async def serve(chain: EmbeddedChain, address: str, port: int) -> AsyncIterator[str]:
    """Serve ``chain`` while inside; yields the URL. ``port`` 0 takes any. Raises OSError if the port is taken."""
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application.router.add_post("/", RpcHandler(chain).handle)
    runner = web.AppRunner(
        application, access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port, reuse_address=True)
        await site.start()
        host, bound = runner.addresses[0][:2]
        yield f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
    finally:
        await runner.cleanup()

"""The embedded chain over HTTP: one path, POST, JSON. Nothing to log in to, nothing to unlock.

Other machines may ask the same as this one (every transaction is signed), within the limits of ``guests.py``.
"""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiohttp import web

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.guests import Allowances, GuestLimits, is_this_machine, listen, machine_of
from distrai.ledger.embedded.jsonrpc import answer

BODY_BYTES_MAX = 1 << 20
_BODY_SECONDS_MAX = 10.0
_KEEPALIVE_SECONDS = 300.0
_WAITING_MAX = 256
"""Requests whose body is being received at one time."""


class RpcHandler:
    """Answers one request at a time, in the order in which they are complete."""

    def __init__(
        self, chain: EmbeddedChain, names: Collection[str] = (), limits: GuestLimits | None = None
    ) -> None:
        """``names``: of this machine in the DNS, beside its addresses, under which it may be asked."""
        self._chain, self._names = chain, frozenset(name.lower() for name in names)
        self._allowances = Allowances(limits or GuestLimits())
        self._waiting = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Check who asks and how much, then answer."""
        if not is_local_or_literal(request.host) and _name_of(request.host) not in self._names:
            raise web.HTTPForbidden(text="this server answers to IP addresses and localhost only")
        if request.content_type != "application/json":
            # A web page can send other types across origins without asking; this one the browser asks about first.
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        if self._waiting >= _WAITING_MAX:
            raise web.HTTPServiceUnavailable(text="too many requests at once")
        guest = _guest(request)
        if guest and not self._allowances.may_ask(guest):
            raise web.HTTPTooManyRequests(text="this machine asks for too much: try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS_MAX):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the request did not arrive in time") from None
        finally:
            self._waiting -= 1
        began = time.monotonic()
        said = answer(self._chain, body)
        if guest:
            self._allowances.charge(guest, time.monotonic() - began)
        return web.Response(body=said, content_type="application/json")


def _guest(request: web.Request) -> str:
    """Which other machine asks; empty for this one."""
    if request.transport is None:
        raise web.HTTPBadRequest(text="the connection is gone")
    remote, own = (str(request.transport.get_extra_info(name)[0]) for name in ("peername", "sockname"))
    return "" if is_this_machine(remote, own) else machine_of(remote)


def _name_of(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host).lower()


def is_local_or_literal(host: str) -> bool:
    """Whether a Host header names this machine without DNS, so that no foreign name can be pointed at it."""
    name = _name_of(host)
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name == "localhost"
    return True


@asynccontextmanager
async def serve(
    chain: EmbeddedChain,
    address: str,
    port: int,
    names: Collection[str] = (),
    limits: GuestLimits | None = None,
) -> AsyncIterator[str]:
    """Serve ``chain`` while inside; yields the URL for this machine. ``port`` 0 takes any.

    ``names``: see ``RpcHandler``. Raises OSError if the port is taken.
    """
    limits = limits or GuestLimits()
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application.router.add_post("/", RpcHandler(chain, names, limits).handle)
    runner = web.AppRunner(
        application, access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        listener = listen(address, port, limits)
        await web.SockSite(runner, listener).start()  # which closes it in the end
        host, bound = listener.getsockname()[:2]
        if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        yield f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
    finally:
        await runner.cleanup()

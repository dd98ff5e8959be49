"""What a peer serves: chunks of blobs, a box for messages, and the proof of its node key."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from distrai.network.counters import Counters
from distrai.network.http.counting import CountingProtocol, CountingTransport
from distrai.network.interface import MESSAGE_BYTES_MAX
from distrai.network.inbox import Inbox
from distrai.network.store import BlobStore, MissingBlob, encode_manifest
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.primitives import HASH_SIZE, Hash, SignatureBytes

PURPOSE_HEADER = "X-Distrai-Purpose"
CONNECTIONS_MAX = 1024
NONCE_SIZE = 32

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def challenge_digest(nonce: bytes, url: str) -> Hash:
    """What a peer signs to show that it holds its node key, at this address."""
    return tagged_hash("challenge", nonce + url.encode())


class HttpServer:
    """Serves one peer's store."""

    def __init__(self, store: BlobStore, sign: Callable[[Hash], SignatureBytes], counters: Counters) -> None:
        self.store, self.sign, self.counters = store, sign, counters
        self.inbox = Inbox()
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self, host: str, port: int, public_url: str | None) -> str:
        """Listen; returns the address that others may use."""
        app = web.Application(middlewares=[self._explain], client_max_size=MESSAGE_BYTES_MAX)
        app.add_routes(
            [
                web.get("/blob/{name:[0-9a-f]{64}}/manifest", self._manifest),
                web.get("/blob/{name:[0-9a-f]{64}}/have", self._have),
                web.get("/blob/{name:[0-9a-f]{64}}/chunk/{index:[0-9]{1,9}}", self._chunk),
                web.post("/message", self._message),
                web.get("/challenge/{nonce:[0-9a-f]{64}}", self._challenge),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75, shutdown_timeout=1)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, host, port)
        bound = self._server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = public_url or f"http://{shown}:{bound}"
        return self.url

    async def close(self) -> None:
        """Stop listening and end all connections."""
        self.inbox.close()
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        assert self._runner is not None and self._runner.server is not None
        if len(self._runner.server.connections) >= CONNECTIONS_MAX:
            return _Refusal()
        return CountingProtocol(self._runner.server(), self.counters)

    @web.middleware
    async def _explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell the connection's counter what its bytes are for."""
        if isinstance(request.transport, CountingTransport):
            request.transport.explain(request.headers.get(PURPOSE_HEADER, "control"))
        try:
            return await handler(request)
        except MissingBlob as error:
            raise web.HTTPNotFound(text=str(error)) from None

    async def _manifest(self, request: web.Request) -> web.Response:
        size, hashes = self.store.manifest(_name(request))
        return _binary(encode_manifest(size, hashes))

    async def _have(self, request: web.Request) -> web.Response:
        name = _name(request)
        count = len(self.store.manifest(name)[1])
        held = self.store.held(name)
        return _binary(bytes(index in held for index in range(count)))

    async def _chunk(self, request: web.Request) -> web.Response:
        index = int(request.match_info["index"])
        return _binary(await asyncio.to_thread(self.store.read_chunk, _name(request), index))

    async def _message(self, request: web.Request) -> web.Response:
        message = await request.read()
        if not self.inbox.put(None, message):
            raise web.HTTPServiceUnavailable(text="too many messages are waiting here: try again")
        return web.Response(status=204)

    async def _challenge(self, request: web.Request) -> web.Response:
        nonce = bytes.fromhex(request.match_info["nonce"])
        return _binary(self.sign(challenge_digest(nonce, self.url)))


class _Refusal(asyncio.Protocol):
    """Ends a connection at once: there are too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _name(request: web.Request) -> Hash:
    name = bytes.fromhex(request.match_info["name"])
    assert len(name) == HASH_SIZE
    return Hash(name)


def _binary(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/octet-stream")

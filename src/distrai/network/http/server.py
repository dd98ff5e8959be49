"""What a peer serves to others: chunks of blobs it has, a box for messages, and the proof of its node key."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

from aiohttp import web

from distrai.network.counters import Counters, purpose_of
from distrai.network.holders import Busy
from distrai.network.http.addresses import is_own
from distrai.network.http.proofs import (
    DELIVERY_HEADER,
    NONCE_SIZE,
    PURPOSE_HEADER,
    Deliveries,
    Sign,
    challenge_digest,
)
from distrai.network.http.sockets import CountingListener, listen
from distrai.network.http.tls import TlsKey
from distrai.network.inbox import Inbox
from distrai.network.interface import MESSAGE_BYTES_MAX
from distrai.network.manifests import encode_bitmap, encode_manifest
from distrai.network.store import BlobStore, MissingBlob
from distrai.network.uploads import Uploads
from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import HASH_SIZE, Address, Hash

_CLOSE_S = 5.0


@dataclass(frozen=True)
class ServerLimits:
    """What a server puts up with: connections, and seconds for requests and their answers."""

    connections: int = 512
    connections_per_host: int | None = None
    """None: any number where only this machine can connect, else a quarter of all, so that no stranger has all."""
    idle_s: float = 75.0
    """Longer than the client keeps a connection, so that it is the client who ends it."""
    body_s: float = 15.0
    """For a message to arrive."""
    answer_s: float = 150.0
    """For an answer to be taken, however slowly."""


class HttpServer:
    """Serves one peer's store and fills its inbox."""

    def __init__(
        self,
        store: BlobStore,
        inbox: Inbox,
        counters: Counters,
        address: Address,
        sign: Sign,
        deliveries: Deliveries,
        limits: ServerLimits,
        tls: TlsKey | None = None,
    ) -> None:
        self.store, self.inbox, self.counters, self.limits = store, inbox, counters, limits
        self.address, self.sign, self.deliveries = address, sign, deliveries
        self.tls, self.uploads = tls, Uploads()
        self.documents: dict[str, bytes] = {}
        self._runner: web.ServerRunner | None = None
        self._listener: CountingListener | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was bound. Raises OSError."""
        limits = self.limits
        per_host = limits.connections_per_host or limits.connections // (1 if is_own(host) else 4)
        listener = listen(host, port, self.counters, limits.connections, per_host)
        server = web.Server(
            self._handle, access_log=None, keepalive_timeout=limits.idle_s, lingering_time=1.0
        )
        self._listener = listener
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        context = None if self.tls is None else self.tls.server_context()
        await web.SockSite(self._runner, listener, ssl_context=context, backlog=256).start()
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None or self._listener is None:
            return
        transports = [connection.transport for connection in runner.server.connections]
        await runner.cleanup()
        self._listener.close()
        for transport in transports:
            if transport is not None:  # it would wait for its peer to take what is still to be sent
                transport.abort()
        async with asyncio.timeout(_CLOSE_S):
            await self._listener.all_ended.wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and have the answer taken within its deadline."""
        self._explain(request)
        try:
            with ExitStack() as until_sent:
                return await self._send_answer(request, until_sent)
        except ConnectionError:  # somebody else was faster, or the client is gone: nothing to log
            return web.Response(status=408)

    async def _send_answer(self, request: web.BaseRequest, until_sent: ExitStack) -> web.StreamResponse:
        try:
            answer = await self._answer(request, until_sent)
        except (MissingBlob, _NoSuchPath):
            answer = web.Response(status=404)
        except Busy:
            answer = web.Response(status=503)
        except (TimeoutError, asyncio.IncompleteReadError):
            answer = _refusal(408)
        try:
            async with asyncio.timeout(self.limits.answer_s):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return answer

    def _explain(self, request: web.BaseRequest) -> None:
        """Tell the connection's counter what its bytes are for."""
        if request.transport is None or self._listener is None:
            return
        connection = self._listener.connection(request.transport.get_extra_info("socket").fileno())
        if connection is not None:
            connection.explain(purpose_of(request.headers.get(PURPOSE_HEADER)))

    async def _answer(self, request: web.BaseRequest, until_sent: ExitStack) -> web.Response:
        match [request.method, *request.path.split("/")[1:]]:
            case ["POST", "message"]:
                return await self._message(request)
            case ["GET", "challenge"]:
                return self._challenge(request.query.get("nonce", ""))
            case ["GET", "document", name]:
                return _binary(self._document(name))
            case ["GET", "blob", name, "manifest"]:
                return _binary(encode_manifest(*await asyncio.to_thread(self.store.manifest, _hash(name))))
            case ["GET", "blob", name, "have"]:
                return _binary(await asyncio.to_thread(self._have, _hash(name)))
            case ["GET", "blob", name, "chunk", index]:
                blob, number = _hash(name), _index(index)
                polite, relayed = "polite" in request.query, self.store.is_relayed(blob)
                until_sent.enter_context(self.uploads.sending(blob, number, polite=polite, relayed=relayed))
                return _binary(await asyncio.to_thread(self.store.read_chunk, blob, number))
            case _:
                return _refusal(404)

    def _document(self, name: str) -> bytes:
        try:
            return self.documents[name]
        except KeyError:
            raise _NoSuchPath from None

    def _have(self, hash_: Hash) -> bytes:
        return encode_bitmap(self.store.held(hash_), len(self.store.manifest(hash_)[1]))

    async def _message(self, request: web.BaseRequest) -> web.Response:
        size = request.content_length
        if size is None:
            return _refusal(411)
        if size > MESSAGE_BYTES_MAX:
            return _refusal(413)
        async with asyncio.timeout(self.limits.body_s):
            message = await request.content.readexactly(size) if size else b""
        header = request.headers.get(DELIVERY_HEADER)
        try:
            sender = None if header is None else self.deliveries.sender(header, message)
        except BadSignature:
            return _refusal(403)
        return web.Response(status=204 if self.inbox.put(sender, message) else 503)

    def _challenge(self, text: str) -> web.Response:
        try:
            nonce = bytes.fromhex(text)
        except ValueError:
            nonce = b""
        if len(nonce) != NONCE_SIZE:
            return _refusal(400)
        fingerprint = b"" if self.tls is None else self.tls.fingerprint
        return _binary(fingerprint + self.sign(challenge_digest(nonce, self.address, fingerprint)))


class _NoSuchPath(Exception):
    """A request for something that cannot be."""


def _hash(name: str) -> Hash:
    try:
        raw = bytes.fromhex(name)
    except ValueError:
        raw = b""
    if len(raw) != HASH_SIZE or raw.hex() != name:
        raise _NoSuchPath
    return Hash(raw)


def _index(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _NoSuchPath
    return int(text)


def _binary(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/octet-stream")


def _refusal(status: int) -> web.Response:
    """An answer after which the connection ends: the rest of the request is not wanted."""
    answer = web.Response(status=status)
    answer.force_close()
    return answer

"""Asking other peers: every answer has a size and a deadline, and nobody is believed."""

import asyncio
import secrets
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import ClientResponse, ClientSession, Fingerprint
from yarl import URL

from distrai.network.counters import Counters
from distrai.network.holders import Busy, HolderError, Lied, NotHeld
from distrai.network.http.asking import Sessions, WrongKey, asking, open_session
from distrai.network.http.proofs import NONCE_SIZE, PURPOSE_HEADER, Recover, challenge_digest
from distrai.network.http.sockets import socket_factory
from distrai.network.http.tls import FINGERPRINT_SIZE
from distrai.network.interface import Endpoint
from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import SIGNATURE_SIZE, Address

_PROOFS_MAX = 4096


@lru_cache(4096)
def _pin(fingerprint: bytes) -> Fingerprint:
    """Always the same object: aiohttp uses a connection again only where this is the very one that it was made with."""
    return Fingerprint(fingerprint)


@dataclass(frozen=True, slots=True)
class Way:
    """A URL, and the fingerprint of the certificate that must be there; empty: any, or plain HTTP on this machine."""

    url: str
    fingerprint: bytes = b""

    @property
    def origin(self) -> URL:
        """Scheme, host and port. Raises ValueError."""
        return _origin(self.url)

    @property
    def pin(self) -> Fingerprint | bool:
        """What aiohttp is to look at when it connects: this certificate, or none. Authorities never count."""
        return _pin(self.fingerprint) if self.fingerprint else False


@dataclass(frozen=True)
class HttpPatience:
    """Seconds: for connecting, without a single byte, for a small answer, for a chunk."""

    connect_s: float = 5.0
    stall_s: float = 8.0
    answer_s: float = 15.0
    chunk_s: float = 120.0


_Place = tuple[str, Address, bytes]
"""A URL, the node key that is looked for there, and the fingerprint that is known beforehand."""


class HttpClient:
    """Requests to other peers: one pool of connections for each purpose, so that every byte has one."""

    def __init__(self, recover: Recover, counters: Counters, patience: HttpPatience, *, local: bool) -> None:
        self.recover, self.counters, self.patience, self.local = recover, counters, patience, local
        self._sessions = Sessions(self._open_session)
        self._proven: dict[_Place, Way] = {}
        self._proving: dict[_Place, asyncio.Lock] = {}

    async def close(self) -> None:
        """End all connections; nothing is asked any more."""
        await self._sessions.close()

    async def get(self, way: Way, path: str, sizes: range, purpose: str, deadline_s: float) -> bytes:
        """The body of an answer whose size must be in ``sizes``. Raises HolderError.

        It is Lied where the announced size is another: what would follow cannot be right, and is not read.
        """
        async with asking(deadline_s):
            origin = way.origin
            session = self._sessions.get((purpose, origin.scheme))
            async with session.get(origin.join(URL(path)), allow_redirects=False, ssl=way.pin) as answer:
                _check_status(answer)
                size = answer.content_length
                if size is None or "Content-Encoding" in answer.headers:
                    raise Lied("does not say how much it sends")
                if size not in sizes:
                    raise Lied(f"announces {size} bytes where there are at most {sizes.stop - 1}")
                return await answer.content.readexactly(size)

    async def post(self, way: Way, path: str, body: bytes, headers: dict[str, str], purpose: str) -> None:
        """Deliver ``body``. Raises HolderError."""
        async with asking(self.patience.answer_s):
            origin = way.origin
            request = self._sessions.get((purpose, origin.scheme)).post(
                origin.join(URL(path)), data=body, headers=headers, allow_redirects=False, ssl=way.pin
            )
            async with request as answer:
                _check_status(answer)

    async def prove(self, endpoint: Endpoint) -> Way:
        """A way to ``endpoint`` on which its node key has answered. Raises HolderError."""
        failure: HolderError = HolderError("no URL is known")
        for url in endpoint.urls:
            place = (url, endpoint.address, endpoint.fingerprint)
            if (way := self._proven.get(place)) is not None:
                return way
            async with self._proving.setdefault(place, asyncio.Lock()):
                try:
                    return self._proven.get(place) or await self._challenge(*place)
                except HolderError as error:
                    failure = error
                finally:
                    self._proving.pop(place, None)
        raise failure

    def forget(self, endpoint: Endpoint) -> None:
        """Ask for the proof again the next time: something else may be behind these URLs by now."""
        for url in endpoint.urls:
            self._proven.pop((url, endpoint.address, endpoint.fingerprint), None)

    async def _challenge(self, url: str, address: Address, fingerprint: bytes) -> Way:
        """Have the node sign; over TLS it signs its certificate's fingerprint as well.

        Where the fingerprint is not known yet anybody may be behind the first connection and pass our question on. But
        from then on only the certificate counts that the node key has signed, and nobody else has the key of that.
        """
        nonce = secrets.token_bytes(NONCE_SIZE)
        path = f"/challenge?nonce={nonce.hex()}"
        size = SIGNATURE_SIZE + (FINGERPRINT_SIZE if url.startswith("https:") else 0)
        try:
            answer = await self.get(
                Way(url, fingerprint), path, range(size, size + 1), "control", self.patience.answer_s
            )
            certified, signature = answer[:-SIGNATURE_SIZE], answer[-SIGNATURE_SIZE:]
            signer = self.recover(challenge_digest(nonce, address, certified), signature)
        except (NotHeld, Lied, BadSignature):  # nobody is to blame who has not proved yet who it is
            raise WrongKey(f"{url} gives no proof of a node key") from None
        if signer != address:
            raise WrongKey(f"behind {url} is another node")
        if certified and certified != (fingerprint or certified):
            raise WrongKey(f"behind {url} is another certificate than its record names")
        if len(self._proven) >= _PROOFS_MAX:
            self._proven.pop(next(iter(self._proven)))
        way = self._proven[url, address, fingerprint] = Way(url, certified)
        return way

    def _open_session(self, key: tuple[str, str]) -> ClientSession:
        purpose, scheme = key
        return open_session(
            socket_factory(self.counters, purpose, local=self.local, plain=scheme == "http"),
            {PURPOSE_HEADER: purpose},
            connect_s=self.patience.connect_s,
            stall_s=self.patience.stall_s,
            limit=256,
            limit_per_host=8,
            keepalive_s=60,
        )


def _origin(url: str) -> URL:
    """A peer's URL: scheme, host and port and nothing else. Raises ValueError."""
    parsed = URL(url)
    is_plain = parsed.scheme in ("http", "https") and parsed.host and parsed.path in ("", "/")
    if not is_plain or parsed.user or parsed.password or parsed.query_string or parsed.fragment:
        raise ValueError(f"{url!r} is no URL of a peer; those look like https://host:port")
    return parsed.origin()


def _check_status(answer: ClientResponse) -> None:
    if answer.status == 404:
        raise NotHeld("does not have it")
    if answer.status == 503:
        raise Busy("answered with status 503: too busy")
    if answer.status not in (200, 204):
        raise HolderError(f"answered with status {answer.status}")

"""Asking other peers: every answer has a size limit and a deadline, and nobody is believed."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout

from distrai.network.counters import PURPOSES, Counters
from distrai.network.http.counting import counting_connector
from distrai.network.http.server import NONCE_SIZE, PURPOSE_HEADER, challenge_digest
from distrai.network.holders import HolderError, Lied, Manifest
from distrai.network.interface import MESSAGE_BYTES_MAX, Endpoint, SendFailed
from distrai.network.store import decode_manifest, manifest_size
from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import SIGNATURE_SIZE, Address, Hash, MemberId

CONNECTIONS_PER_HOST = 4


@dataclass(frozen=True)
class Patience:
    """Seconds: for a connection, without a byte, for a whole message, for a whole chunk."""

    connect_s: float = 5.0
    stall_s: float = 8.0
    message_s: float = 10.0
    chunk_s: float = 60.0


class NoAnswer(HolderError):
    """A peer did not answer as asked: gone, too slow, too long, or with an error."""


class UnprovenEndpoint(NoAnswer):
    """Who answers at an address does not hold the node key that it should hold."""


class HttpClient:
    """Requests to other peers, counted by purpose."""

    def __init__(
        self,
        recover: Callable[[Hash, bytes], Address],
        counters: Counters,
        *,
        local: bool,
        patience: Patience,
    ) -> None:
        self.recover, self.counters, self.local, self.patience = recover, counters, local, patience
        self._sessions: dict[str, ClientSession] = {}
        self._proven: set[tuple[str, Address]] = set()

    async def close(self) -> None:
        """End all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, purpose: str) -> ClientSession:
        if purpose not in self._sessions:
            assert purpose in PURPOSES, f"bytes are for one of {PURPOSES}"
            connector = counting_connector(
                self.counters, purpose, limit_per_host=CONNECTIONS_PER_HOST, keepalive_timeout=60
            )
            timeout = ClientTimeout(sock_connect=self.patience.connect_s, sock_read=self.patience.stall_s)
            headers = {PURPOSE_HEADER: purpose}
            self._sessions[purpose] = ClientSession(
                connector=connector, timeout=timeout, headers=headers, auto_decompress=False, trust_env=False
            )
        return self._sessions[purpose]

    async def get(
        self, endpoint: Endpoint, path: str, size_max: int, purpose: str, deadline_s: float
    ) -> bytes:
        """The body of an answer of at most ``size_max`` bytes. Raises NoAnswer or UnprovenEndpoint."""
        url = await self.proven_url(endpoint)
        return await self._get(url + path, size_max, purpose, deadline_s)

    async def _get(self, url: str, size_max: int, purpose: str, deadline_s: float) -> bytes:
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._session(purpose).get(url, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise NoAnswer(f"answered {answer.status}")
                if answer.content_length is None or answer.content_length > size_max:
                    raise NoAnswer(f"the answer is longer than {size_max} bytes")
                return await answer.content.readexactly(answer.content_length)
        except TimeoutError:
            raise NoAnswer("too slow") from None
        except (ClientError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    async def send(self, endpoint: Endpoint, message: bytes) -> None:
        """Post a message. Raises SendFailed."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SendFailed(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}")
        try:
            url = await self.proven_url(endpoint)
            async with (
                asyncio.timeout(self.patience.message_s),
                self._session("control").post(
                    url + "/message", data=message, allow_redirects=False
                ) as answer,
            ):
                status = answer.status
        except (NoAnswer, ClientError, OSError, TimeoutError) as error:
            raise SendFailed(f"{type(error).__name__}: {error}") from None
        if status != 204:
            raise SendFailed(f"answered {status}")

    async def proven_url(self, endpoint: Endpoint) -> str:
        """An address of ``endpoint`` behind which its node key answered. Raises NoAnswer or UnprovenEndpoint."""
        failure: HolderError = NoAnswer("no address is known")
        for url in endpoint.urls:
            if (url, endpoint.address) in self._proven:
                return url
            try:
                await self._prove(url, endpoint.address)
            except HolderError as error:
                failure = error
            else:
                return url
        raise failure

    async def _prove(self, url: str, address: Address) -> None:
        if not self.local and _is_private(url):
            raise UnprovenEndpoint(f"{url} is an address of a private network: only local recipes use those")
        nonce = os.urandom(NONCE_SIZE)
        path = f"{url}/challenge/{nonce.hex()}"
        signature = await self._get(path, SIGNATURE_SIZE, "control", self.patience.message_s)
        try:
            signer = self.recover(challenge_digest(nonce, url), signature)
        except BadSignature as error:
            raise UnprovenEndpoint(f"{url} sent no proof of its node key: {error}") from None
        if signer != address:
            raise UnprovenEndpoint(f"{url} is not held by node key 0x{address.hex()}")
        self._proven.add((url, address))

    def forget(self, endpoint: Endpoint) -> None:
        """Ask for the proof again: something else may listen there by now."""
        self._proven -= {(url, endpoint.address) for url in endpoint.urls}


def _is_private(url: str) -> bool:
    try:
        return not ip_address(urlsplit(url).hostname or "").is_global
    except ValueError:
        return False  # a name: what it resolves to must prove the key all the same


@dataclass
class HttpHolder:
    """An endpoint as a holder, for one fetch."""

    client: HttpClient
    endpoint: Endpoint
    purpose: str

    @property
    def member(self) -> MemberId:
        """Who this is."""
        return self.endpoint.member

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        """See ``Holder``."""
        data = await self._get(hash_, "manifest", manifest_size(size_max), self.client.patience.message_s)
        try:
            return decode_manifest(data)
        except ValueError as error:
            raise Lied(f"sent no manifest: {error}") from None

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """See ``Holder``."""
        data = await self._get(hash_, "have", chunk_count, self.client.patience.message_s)
        return frozenset(index for index, held in enumerate(data[:chunk_count]) if held)

    async def chunk(self, hash_: Hash, index: int, size: int) -> bytes:
        """See ``Holder``."""
        return await self._get(hash_, f"chunk/{index}", size, self.client.patience.chunk_s)

    async def _get(self, name: Hash, what: str, size_max: int, deadline_s: float) -> bytes:
        path = f"/blob/{name.hex()}/{what}"
        return await self.client.get(self.endpoint, path, size_max, self.purpose, deadline_s)

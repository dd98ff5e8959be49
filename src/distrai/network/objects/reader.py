"""Reading other members' buckets: plain GETs without credentials, each with a size and a deadline.

This does not go through an S3 library. Those follow redirects, resolve names themselves, and take in lists and errors
of any length; a stranger's bucket is asked as carefully as a stranger's peer: no redirects, no private networks, the
size known before the first byte, and every byte counted at the socket. Nothing is ever listed.
"""

import asyncio
from dataclasses import dataclass

from aiohttp import ClientResponse, ClientSession
from yarl import URL

from distrai.network.counters import Counters
from distrai.network.holders import HolderError, Lied, NotHeld
from distrai.network.http.asking import Sessions, asking, open_session
from distrai.network.http.proofs import Recover
from distrai.network.http.sockets import socket_factory
from distrai.network.interface import Endpoint
from distrai.network.objects.keys import PROOF_KEY, proof_digest
from distrai.network.objects.locations import base_of, bucket_urls
from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import SIGNATURE_SIZE, Address

_PROOFS_MAX = 4096
_SIGNATURE = range(SIGNATURE_SIZE, SIGNATURE_SIZE + 1)
_ITS_STORE = "its store "
_ABSENT = (403, 404)
"""A bucket that may not be listed says 403 of what it does not have."""


@dataclass(frozen=True)
class BucketPatience:
    """Seconds: for connecting, without a single byte, for a small answer, for a chunk."""

    connect_s: float = 5.0
    stall_s: float = 8.0
    answer_s: float = 15.0
    chunk_s: float = 120.0


class BucketReader:
    """Requests to buckets: one pool of connections for each purpose, so that every byte has one."""

    def __init__(
        self, recover: Recover, counters: Counters, patience: BucketPatience, *, local: bool
    ) -> None:
        self.recover, self.counters, self.patience, self.local = recover, counters, patience, local
        self._sessions = Sessions(self._open_session)
        self._proven: dict[tuple[str, Address], URL] = {}
        self._proving: dict[tuple[str, Address], asyncio.Lock] = {}

    async def close(self) -> None:
        """End all connections; nothing is asked any more."""
        await self._sessions.close()

    async def get(self, base: URL, key: str, sizes: range, purpose: str, deadline_s: float) -> bytes:
        """A whole object, whose size must be in ``sizes``. Raises HolderError; Lied where the size is another."""
        async with asking(deadline_s, _ITS_STORE):
            request = self._sessions.get(purpose).get(base.joinpath(key), allow_redirects=False)
            async with request as answer:
                _check_status(answer)
                return await answer.content.readexactly(_size_of(answer, sizes))

    async def get_range(
        self, base: URL, key: str, start: int, size: int, purpose: str, deadline_s: float
    ) -> bytes:
        """``size`` bytes of an object, from ``start`` on. Raises HolderError; Lied where they cannot be these."""
        wanted = {"Range": f"bytes={start}-{start + size - 1}"}
        async with asking(deadline_s, _ITS_STORE):
            request = self._sessions.get(purpose).get(
                base.joinpath(key), headers=wanted, allow_redirects=False
            )
            async with request as answer:
                if answer.status == 416:
                    raise Lied("has less under this name than the blob's bytes")
                _check_status(answer)
                told = answer.headers.get("Content-Range", "")  # some say 200 of a part, too
                if start > 0 and not told.startswith(f"bytes {start}-{start + size - 1}/"):
                    raise HolderError("has a store that does not serve parts of objects")
                return await answer.content.readexactly(_size_of(answer, range(size, size + 1)))

    async def size(self, base: URL, key: str, purpose: str) -> int:
        """How large an object is. Raises HolderError."""
        async with asking(self.patience.answer_s, _ITS_STORE):
            request = self._sessions.get(purpose).head(base.joinpath(key), allow_redirects=False)
            async with request as answer:
                _check_status(answer)
                if answer.content_length is None:
                    raise HolderError("does not say how much it has")
                return answer.content_length

    async def prove(self, endpoint: Endpoint) -> URL:
        """The address of a bucket of ``endpoint`` in which its node key has signed. Raises HolderError.

        Else anybody could name somebody else's server as his bucket, and have everybody ask there for ever.
        """
        failure = HolderError("no URL of a bucket is known")
        for url in bucket_urls(endpoint.urls):
            key = (url, endpoint.address)
            try:
                async with self._proving.setdefault(key, asyncio.Lock()):
                    if key not in self._proven:
                        await self._check_proof(url, endpoint.address)
                    return self._proven[key]
            except HolderError as error:
                failure = error
            finally:
                self._proving.pop(key, None)
        raise failure

    def forget(self, endpoint: Endpoint) -> None:
        """Ask for the proof again the next time: something else may be behind these URLs by now."""
        for url in bucket_urls(endpoint.urls):
            self._proven.pop((url, endpoint.address), None)

    async def _check_proof(self, url: str, address: Address) -> None:
        try:
            base = base_of(url)
        except ValueError as error:
            raise HolderError(str(error)) from None
        try:
            signature = await self.get(base, PROOF_KEY, _SIGNATURE, "control", self.patience.answer_s)
            signer = self.recover(proof_digest(url, address), signature)
        except (NotHeld, Lied, BadSignature):  # nobody is to blame who has not proved yet whose this is
            raise HolderError(f"nothing in {url} proves whose it is") from None
        if signer != address:
            raise HolderError(f"{url} is the bucket of another node")
        if len(self._proven) >= _PROOFS_MAX:
            self._proven.pop(next(iter(self._proven)))
        self._proven[url, address] = base

    def _open_session(self, purpose: str) -> ClientSession:
        return open_session(
            socket_factory(self.counters, purpose, local=self.local),
            {"Accept-Encoding": "identity"},
            connect_s=self.patience.connect_s,
            stall_s=self.patience.stall_s,
            limit=128,
            limit_per_host=16,
            keepalive_s=30,
        )


def _check_status(answer: ClientResponse) -> None:
    if answer.status in _ABSENT:
        raise NotHeld("has it not in its store")
    if answer.status not in (200, 206):
        raise HolderError(f"its store answered with status {answer.status}")


def _size_of(answer: ClientResponse, sizes: range) -> int:
    """The announced size, before anything of it is read. Raises Lied."""
    size = answer.content_length
    if size is None or "Content-Encoding" in answer.headers:
        raise Lied("has a store that does not say how much it sends")
    if size not in sizes:
        raise Lied(f"has an object of {size} bytes where there are at most {sizes.stop - 1}")
    return size

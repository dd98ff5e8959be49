"""A peer as one holder of the blob that a fetch is after."""

from dataclasses import dataclass

from distrai.network.holders import Busy, HolderError, Lied, NotHeld, ask_manifest
from distrai.network.http.client import HttpClient
from distrai.network.interface import Endpoint
from distrai.network.manifests import Manifest, bitmap_size, decode_bitmap
from distrai.protocol.primitives import Hash, MemberId


@dataclass(frozen=True)
class HttpHolder:
    """See ``Holder``: the node key is proved before anything is asked for."""

    client: HttpClient
    endpoint: Endpoint
    purpose: str

    @property
    def member(self) -> MemberId:
        """Who it is."""
        return self.endpoint.member

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        """See ``Holder``."""
        return await ask_manifest(lambda sizes: self._get(hash_, "manifest", sizes), size_max)

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """See ``Holder``."""
        size = bitmap_size(chunk_count)
        return decode_bitmap(await self._get(hash_, "have", range(size, size + 1)), chunk_count)

    async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
        """See ``Holder``."""
        deadline_s = self.client.patience.chunk_s
        what = f"chunk/{index}" + ("?polite" if polite else "")
        return await self._get(hash_, what, range(size, size + 1), deadline_s)

    async def _get(self, hash_: Hash, what: str, sizes: range, deadline_s: float | None = None) -> bytes:
        way = await self.client.prove(self.endpoint)
        path = f"/blob/{hash_.hex()}/{what}"
        try:
            return await self.client.get(
                way, path, sizes, self.purpose, deadline_s or self.client.patience.answer_s
            )
        except (NotHeld, Lied, Busy):
            raise
        except HolderError:
            self.client.forget(self.endpoint)
            raise

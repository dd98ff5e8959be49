"""The own bucket: the only one that is written to, and the only one that credentials are for.

What goes through ``obstore`` is counted by its bytes and an estimate for each request: its sockets are its own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from distrai.network.counters import Counters
from distrai.network.interface import NetworkError
from distrai.network.manifests import encode_manifest
from distrai.network.objects.keys import BLOBS, PROOF_KEY, blob_key, document_key, manifest_key, proof_digest
from distrai.network.objects.locations import bucket_url
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Address, Hash, SignatureBytes

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

    from distrai.network.http.proofs import Sign

REQUEST_BYTES = 1024
"""What a signed request and its answer cost besides the object, each way: an estimate."""
_SMALL_S, _LARGE_S = 30.0, 3600.0
_PART_BYTES, _PARTS_AT_ONCE = 8 << 20, 2
_LISTED_MAX = 100_000


class BucketFailed(NetworkError):
    """The own object store did not do what it was asked."""


@dataclass(frozen=True)
class BucketAccess:
    """Where the own bucket is, how it is written to, and where others read it. ``repr`` tells no secrets."""

    endpoint: str
    bucket: str
    read_url: str
    """As in an endpoint record; see ``locations``."""
    prefix: str = ""
    region: str = "us-east-1"
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    keep_bytes: int = 20 << 30
    """Bytes of blobs beyond which the oldest are deleted."""


class Bucket:
    """Writes to the own bucket. Every method raises BucketFailed."""

    def __init__(self, access: BucketAccess, counters: Counters) -> None:
        """Contacts nobody. Raises ValueError for settings that cannot be right."""
        self.access, self.counters = access, counters
        self.url = bucket_url(access.read_url)
        self._library_store: S3Store | None = _open(access)
        self._sizes: dict[str, int] = {}

    async def start(self, address: Address, sign: "Sign") -> None:
        """Show whose bucket this is, and find out what an earlier process left in it."""
        signature: SignatureBytes = sign(proof_digest(self.url, address))
        await self._put(PROOF_KEY, bytes(signature), "control")
        found = [entry async for entry in self._list(BLOBS)]
        self._sizes = {key: size for key, size, _ in sorted(found, key=lambda entry: entry[2])}
        left = [key async for key, _, _ in self._list("document")]
        await self._delete([key for key in left if key.startswith(document_key("outbox-"))])

    def close(self) -> None:
        """Let go of the connections; nothing is written any more."""
        self._library_store = None

    @property
    def _store(self) -> "S3Store":
        if self._library_store is None:
            raise BucketFailed("the transport was closed")
        return self._library_store

    async def upload(self, blob: BlobRef, hashes: Sequence[Hash], source: Path, purpose: str) -> None:
        """Put a blob into the bucket, unless it is there; the oldest ones go where the room ends."""
        key = blob_key(blob.hash)
        if self._sizes.get(key) == blob.size or blob.size == 0:
            return
        await self._put(manifest_key(blob.hash), encode_manifest(blob.size, hashes), purpose)
        await self._put(key, source, purpose, blob.size)
        self._sizes[key] = blob.size
        await self._make_room(key)

    async def show(self, name: str, document: bytes) -> None:
        """Put a document into the bucket, in the place of the one before."""
        await self._put(document_key(name), document, "control")

    async def hide(self, names: Sequence[str]) -> None:
        """Delete documents."""
        await self._delete([document_key(name) for name in names])

    async def _make_room(self, newest: str) -> None:
        total, gone = sum(self._sizes.values()), []
        for key, size in self._sizes.items():
            if total <= self.access.keep_bytes or key == newest:
                break
            total -= size
            gone += [key] if key.endswith(".manifest") else [key, f"{key}.manifest"]
        for key in gone:
            self._sizes.pop(key, None)
        await self._delete(gone)

    async def _put(self, key: str, data: bytes | Path, purpose: str, size: int | None = None) -> None:
        length = len(data) if isinstance(data, bytes) else size or 0
        async with _guard(_SMALL_S if isinstance(data, bytes) else _LARGE_S):
            await self._store.put_async(key, data, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        self._count(purpose, length)

    async def _delete(self, keys: list[str]) -> None:
        if keys:
            async with _guard(_SMALL_S):
                await self._store.delete_async(keys)
            self._count("control", 0)

    async def _list(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Key, size and time of what is in the bucket."""
        count = 0
        async with _guard(_SMALL_S):
            async for page in self._store.list(prefix, chunk_size=1000):
                self._count("control", 0)
                for entry in page:
                    yield entry["path"], entry["size"], entry["last_modified"].timestamp()
                    count += 1
                if count >= _LISTED_MAX:
                    return

    def _count(self, purpose: str, size: int) -> None:
        self.counters.add("up", purpose, size + REQUEST_BYTES)
        self.counters.add("down", purpose, REQUEST_BYTES)


def _open(access: BucketAccess) -> "S3Store":
    """The store behind the settings; imported here, as most peers have none."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    config: S3Config = {"endpoint": access.endpoint, "region": access.region, "disable_bulk_delete": True}
    if access.access_key_id:
        config["access_key_id"] = access.access_key_id
        config["secret_access_key"] = access.secret_access_key
        if access.session_token:
            config["session_token"] = access.session_token
    else:
        config["skip_signature"] = True
    try:
        return S3Store(
            access.bucket,
            prefix=access.prefix or None,
            config=config,
            client_options={
                "allow_http": access.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=_LARGE_S),
                "user_agent": "distrai",
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )
    except (BaseError, ValueError, TypeError) as error:
        raise ValueError(f"these settings of an object store cannot be right: {_told(error)}") from None


@asynccontextmanager
async def _guard(deadline_s: float) -> AsyncIterator[None]:
    """A deadline, and one kind of error for all that can go wrong."""
    from obstore.exceptions import BaseError

    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError:
        raise BucketFailed(f"the own object store did not answer within {deadline_s:g} s") from None
    except (BaseError, OSError, ValueError) as error:
        raise BucketFailed(f"the own object store failed: {_told(error)}") from None


def _told(error: Exception) -> str:
    """The first line of an error of the library, without the store's XML: what follows repeats the whole request."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(": <?xml")[0][:300]

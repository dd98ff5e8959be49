"""Taking what is to be published into the own store."""

import asyncio
from pathlib import Path

from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob


async def keep_published(store: BlobStore, blob: BlobRef, source: Path | bytes) -> None:
    """Have ``source`` in the store; at once if it is the store's own file. Raises WrongBlob if it is something else."""
    stored = await asyncio.to_thread(_keep, store, blob, source)
    if stored != blob:
        await asyncio.to_thread(store.delete, stored)
        raise WrongBlob(f"what is to be published is not blob {blob.hash.hex()[:12]}")


def _keep(store: BlobStore, blob: BlobRef, source: Path | bytes) -> BlobRef:
    if isinstance(source, bytes):
        return store.put(source)
    if store.has(blob) and store.path_of(blob) == source:
        return blob
    return store.put_file(source)

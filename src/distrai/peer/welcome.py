"""Keeping what newcomers ask for up to date: snapshots, lists, and where the others are."""

import asyncio
from contextlib import suppress

from distrai.network.interface import DOCUMENT_BYTES_MAX, NetworkError, Transport
from distrai.network.store import MissingBlob
from distrai.peer.directory import Directory
from distrai.peer.snapshots import DOCUMENT, ENDPOINTS_SHOWN_MAX, LISTS_SHOWN_MAX, Blob, Shown, Snapshot
from distrai.peer.store import PeerStore
from distrai.protocol.blobs import BlobRef

REFRESH_S = 2.0
"""Addresses change without anything being applied."""


class Welcome:
    """Shows a peer's document, for ever."""

    def __init__(self, store: PeerStore, transport: Transport, directory: Directory, run: int) -> None:
        self.store, self.transport, self.directory, self.run_number = store, transport, directory, run
        self._shown = b""
        self._published: set[BlobRef] = set()

    async def run(self) -> None:
        """Show what there is now, and again whenever something changes."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_change() -> None:
            loop.call_soon_threadsafe(changed.set)

        self.store.on_change = on_change
        try:
            while True:
                with suppress(
                    NetworkError, MissingBlob, FileNotFoundError
                ):  # pruned while it was to be shown
                    await self.show()
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_S):
                        await changed.wait()
                changed.clear()
        finally:
            self.store.on_change = lambda: None

    async def show(self) -> None:
        """Show what there is now. Raises NetworkError where that takes others who do not answer."""
        snapshots, lists = await asyncio.to_thread(self.store.offering.shown)
        for snapshot in snapshots:
            await self._publish(snapshot)
        newest = sorted(lists.items())[-LISTS_SHOWN_MAX:]
        document = _document(
            self.run_number,
            snapshots,
            tuple((number, Blob.of(blob)) for number, blob in newest),
            self.directory.records(ENDPOINTS_SHOWN_MAX),
        )
        if document != self._shown:
            await self.transport.show(DOCUMENT, document)
            self._shown = document

    async def _publish(self, snapshot: Snapshot) -> None:
        """Make the state servable, where that takes more than having it in the store."""
        if (blob := snapshot.state.ref) not in self._published:
            await self.transport.publish(blob, self.store.blobs.path_of(blob))
            self._published = {*list(self._published)[-1:], blob}


def _document(
    run: int,
    snapshots: tuple[Snapshot, ...],
    lists: tuple[tuple[int, Blob], ...],
    endpoints: tuple[bytes, ...],
) -> bytes:
    """The document, with as many endpoints as fit."""
    while True:
        data = Shown(run, snapshots, lists, endpoints).to_bytes()
        if len(data) <= DOCUMENT_BYTES_MAX:
            return data
        endpoints = endpoints[: len(endpoints) // 2]

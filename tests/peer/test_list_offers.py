"""Lists that others offer: what they may do to a peer's store."""

from types import SimpleNamespace
from typing import Any

import pytest

from distrai.network.store import BlobStore
from distrai.peer.courier import Courier
from distrai.peer.events import BlobStored, Event, Fetch, FetchList, ListArrived
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.lists import CertifiedList
from distrai.simulation.toy import make_identity

ME, OTHER = make_identity(0), make_identity(1)
LIST = CertifiedList(0, (), ()).to_bytes()


class Peer:
    """A courier whose transport brings what ``remote`` holds."""

    def __init__(self, store: BlobStore) -> None:
        self.blobs, self.remote, self.posted = store, {}, []
        self.courier = Courier(
            ME,
            SimpleNamespace(fetch=self._fetch),  # type: ignore[arg-type]
            SimpleNamespace(endpoint=lambda member: None, keys=dict),  # type: ignore[arg-type]
            SimpleNamespace(blobs=store),  # type: ignore[arg-type]
            self._post,
            lambda note: None,
            lambda work: None,
        )

    async def _fetch(self, blob: BlobRef, *_: Any) -> None:
        self.blobs.put(self.remote[blob.hash])

    async def _post(self, event: Event) -> None:
        self.posted.append(event)

    async def offered(self, data: bytes) -> None:
        self.remote[blob_ref(data).hash] = data
        await self.courier.fetch_list(FetchList(blob_ref(data), OTHER.member))


@pytest.fixture
def peer(tmp_path) -> Peer:
    return Peer(BlobStore(tmp_path))


async def test_an_offered_list_does_not_stay_in_the_store(peer) -> None:
    await peer.offered(LIST)
    assert [type(event) for event in peer.posted] == [ListArrived]
    assert not peer.blobs.has(blob_ref(LIST))


async def test_an_offer_takes_nothing_away_that_was_here(peer) -> None:
    """Whoever offers a ciphertext as a list does not have it deleted."""
    blob = peer.blobs.put(b"a ciphertext")
    await peer.offered(b"a ciphertext")
    assert peer.blobs.has(blob)


async def test_nor_what_the_engine_has_asked_for_meanwhile(peer) -> None:
    blob, fetch = blob_ref(b"a ciphertext"), peer._fetch

    async def both(*arguments: Any) -> None:
        await fetch(*arguments)
        await peer.courier.fetch(Fetch(blob, (OTHER.member,)))

    peer.courier.transport.fetch = both
    await peer.offered(b"a ciphertext")
    assert peer.posted == [BlobStored(blob.hash)]
    assert peer.blobs.has(blob)


async def test_a_list_that_another_task_has_had_already_is_not_read_again(peer) -> None:
    async def too_late(blob: BlobRef, *_: Any) -> None:
        """It came, was read and deleted."""

    peer.courier.transport.fetch = too_late
    await peer.offered(LIST)
    assert peer.posted == []

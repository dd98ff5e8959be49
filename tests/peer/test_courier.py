"""The post of a peer: what offers of lists may do to its store. And whom it gossips with."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from distrai.network.store import BlobStore
from distrai.peer.courier import Courier
from distrai.peer.events import BlobStored, Event, Fetch, FetchList, ListArrived
from distrai.peer.gossip import choose_listeners
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import MemberId
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


def test_one_of_two_listeners_is_a_seat_however_many_others_there_are() -> None:
    seats = [MemberId(bytes([number]) * 32) for number in range(3)]
    others = [*seats, *(MemberId(bytes([number]) * 32) for number in range(10, 200))]
    random, heard = Random(1), set()
    for _ in range(4000):
        listeners = choose_listeners(seats, others, random)
        assert len({*listeners}) == 2
        assert listeners[0] in seats
        heard |= {*listeners}
    assert len(heard) == len(others), "everybody's turn comes"


@pytest.mark.parametrize("count", [0, 1])
def test_who_is_nearly_alone_tells_whom_there_is(count) -> None:
    others = [OTHER.member][:count]
    assert choose_listeners(others, others, Random(1)) == tuple(others)

"""Who is asked for a blob: for a large one, everybody who may be fetching it as well."""

import asyncio
from types import SimpleNamespace

import pytest

from distrai.network.fetcher import SWARM_BYTES_MIN
from distrai.network.interface import Endpoint
from distrai.peer.courier import SWARM_MEMBERS_MAX, Courier
from distrai.peer.directory import Directory
from distrai.peer.events import BlobStored, Fetch
from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Hash
from helpers.engine import make_identity

MEMBERS = [make_identity(number) for number in range(30)]
AUTHOR = MEMBERS[7].member


async def asked(me: int, blob: BlobRef) -> list[bytes]:
    """Whom a member asks for a blob of AUTHOR's."""
    endpoints: list[Endpoint] = []

    async def fetch(_: BlobRef, holders: list[Endpoint], deadline_s: float) -> None:
        endpoints.extend(holders)

    async def post(event: object) -> None:
        assert event == BlobStored(blob.hash)

    directory = Directory(MEMBERS[me], 1, lambda: {each.address: each.member for each in MEMBERS})
    for each in MEMBERS:
        directory.introduce(Endpoint(each.member, each.address, ("http://127.0.0.1:1",)))
    transport, store = (
        SimpleNamespace(fetch=fetch),
        SimpleNamespace(blobs=SimpleNamespace(has=lambda _: False)),
    )
    courier = Courier(MEMBERS[me], transport, directory, store, post, print, asyncio.ensure_future)
    await courier.fetch(Fetch(blob, (AUTHOR,)))
    return [endpoint.member for endpoint in endpoints]


async def test_a_small_blob_is_asked_of_those_who_have_it() -> None:
    assert await asked(0, BlobRef(Hash(b"s" * 32), SWARM_BYTES_MIN)) == [AUTHOR]


@pytest.mark.parametrize("name", [b"a", b"b", b"c"])
async def test_a_large_blob_is_asked_of_a_bounded_swarm_that_all_choose_alike(name: bytes) -> None:
    blob = BlobRef(Hash(name * 32), SWARM_BYTES_MIN + 1)
    everybody = [await asked(me, blob) for me in range(30)]
    swarm = set.union(*map(set, everybody))
    assert len(swarm - {AUTHOR}) <= SWARM_MEMBERS_MAX < len(MEMBERS)
    for me, members in enumerate(everybody):
        assert members[0] == AUTHOR and len(members) == len(set(members))
        assert set(members) == swarm - {MEMBERS[me].member} | {AUTHOR}


async def test_other_blobs_have_other_swarms() -> None:
    swarms = {
        frozenset(await asked(0, BlobRef(Hash(bytes([n]) * 32), SWARM_BYTES_MIN + 1))) for n in range(5)
    }
    assert len(swarms) == 5

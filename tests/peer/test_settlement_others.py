"""What an epoch needs of others comes over real transports, from whoever holds it, and is what was certified."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from distrai.ledger.keys import NodeKey
from distrai.network.http import HttpTransport
from distrai.network.interface import FetchFailed
from distrai.network.store import BlobStore
from distrai.peer.bookkeeping import RunOthers
from distrai.peer.circle import Circle, History
from distrai.peer.directory import Directory
from distrai.peer.identity import Identity
from distrai.peer.newcomer import Newcomer
from distrai.peer.snapshots import DOCUMENT, Blob, Shown
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Announced, Joined, Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from helpers.rounds import RULES
from helpers.settling import list_of

RUN, DOMAIN = 7, Domain(31337, Address(b"\xd0" * 20))
HOLDER, ASKER = MemberId(b"\1" * 32), MemberId(b"\2" * 32)


@dataclass
class Two:
    """Somebody who holds lists, and somebody who asks for them."""

    holder: HttpTransport
    others: RunOthers
    blobs: BlobStore

    async def show(self, *lists: tuple[int, CertifiedList]) -> None:
        named = tuple((number, Blob.of(self.holder.store.put(each.to_bytes()))) for number, each in lists)
        await self.holder.show(DOCUMENT, Shown(RUN, (), named, ()).to_bytes())


def body_of(number: int, certified: CertifiedList) -> Body:
    roots = (certified.updates_root, keccak(b"state"), certified.trainers_root)
    return Body(RUN, number, keccak(b"head"), *roots)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        keys, transports, urls = [NodeKey.generate() for _ in range(2)], [], []
        for number, key in enumerate(keys):
            transport = HttpTransport(
                BlobStore(tmp_path / str(number)),
                host="127.0.0.1",
                port=0,
                tls=False,
                address=key.address,
                sign=key.sign,
                recover=recover,
                local=True,
                rng=random.Random(number),
            )
            stack.push_async_callback(transport.close)
            urls.append(await transport.start())
            transports.append(transport)
        at = Position(1, 0, keccak(b"block"))
        joined = [Joined(at, HOLDER, keys[0].address, True), Joined(at, ASKER, keys[1].address, True)]
        told = History([*joined, Announced(at, HOLDER, urls[0])])

        async def history() -> History:
            return told

        me = keys[1]
        circle = Circle(transports[1], DOMAIN, RUN, me.address)
        blobs = transports[1].store
        newcomer = Newcomer(circle, blobs, RULES, 100, lambda *_, **__: None)
        identity = Identity(ASKER, me.address, DOMAIN, me.sign, recover)
        others = RunOthers(newcomer, Directory(identity, RUN, dict), history)
        yield Two(transports[0], others, blobs)


async def test_lists_that_were_certified_are_taken_and_others_are_not(two: Two) -> None:
    first, second = (list_of(RUN, number, {HOLDER: 100, ASKER: 50}) for number in (1, 2))
    await two.show((1, first), (2, first), (3, second))
    wanted = [body_of(1, first), body_of(2, second), body_of(3, second), body_of(4, second)]
    assert await two.others.lists(wanted) == [(1, first), (3, second)]
    longer = msgspec.structs.replace(first, cursor=first.cursor + 1)
    assert await two.others.lists([body_of(1, longer)]) == []


async def test_the_table_of_an_epoch_is_fetched_by_its_name(two: Two) -> None:
    blob = two.holder.store.put(b"table" * 1_000)
    assert await two.others.blob(blob.hash, 1 << 20) == blob
    assert two.blobs.read(blob) == b"table" * 1_000
    other = two.holder.store.put(b"larger" * 1_000)
    with pytest.raises(FetchFailed):
        await two.others.blob(other.hash, 100)

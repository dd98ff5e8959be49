"""What others, nodes and bad luck can do to a peer that settles: nothing that stops its training or its signatures."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from distrai.ledger.keys import NodeKey
from distrai.network.store import BlobStore
from distrai.peer.epochs import EpochBook, Waits
from distrai.peer.signing import Gathered
from distrai.peer.work import WorkBook
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.pot import Due, Marked, Pot, compute_epoch, recompute
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.rewards import (
    MILLION,
    Earnings,
    Epoch,
    HeadMark,
    WorkedRound,
    accepted_tokens,
    reward_table,
    rewards_root,
)
from distrai.protocol.standing import Seat
from distrai.protocol.typed_data import Domain
from distrai.runs.reward_tables import Tables, WrongTable
from helpers.settling import EPOCH_ROUNDS, Paying

HEAD = keccak(b"head")


def due() -> Due:
    table = reward_table(1, 1, Earnings())
    epoch = Epoch(1, 1, 3, HEAD, keccak(b"root"), 5, table.blob.hash, ZERO_HASH, 0)
    return Due(epoch, table, Earnings(), Marked(HeadMark(3, 3, 9), HEAD, 9, Position(7, 0, keccak(b"block"))))


def test_a_signature_that_comes_before_its_key_has_the_seat_counts_later() -> None:
    """A seat that is one head further on shows its signature by its new key; it shows the same one ever after."""
    made = due()
    digest = keccak(b"digest")
    old, new, other = NodeKey.generate(), NodeKey.generate(), NodeKey.generate()
    members = [MemberId(keccak(name)) for name in (b"one", b"two")]
    before = (Seat(members[0], old.address, 0, 0), Seat(members[1], other.address, 0, 0))
    after = (Seat(members[0], new.address, 0, 0), before[1])
    gathered = Gathered(made, digest)
    shown = (new.sign(digest), other.sign(digest))
    gathered.take(shown, before)
    assert not gathered.enough(before)
    gathered.take(shown, after)
    assert len(gathered.enough(after)) == 2


async def test_settling_that_fails_for_any_reason_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one task of a peer: if it ended, so would training."""
    async with AsyncExitStack() as stack:
        paying = await Paying.open(tmp_path, stack, members=1)
        peer = paying.peers[0]
        settlement, looks = peer.settlement, 0
        settlement.poll_s = 0.0
        enough = asyncio.Event()

        async def fail() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            raise KeyError("a node that left out a log")

        monkeypatch.setattr(settlement, "step", fail)
        running = asyncio.create_task(settlement.run())
        await asyncio.wait({running, asyncio.create_task(enough.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert looks >= 3 and not running.done()
        assert [facts["why"] for facts in peer.told.of("settlement-waits")] == [
            "KeyError: 'a node that left out a log'"
        ]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_table_that_fills_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured seats may name a blob that every peer holds: the state of the model, say."""
    store = BlobStore(tmp_path)
    monkeypatch.setattr("distrai.peer.epochs.TABLE_BYTES_MAX", 100)
    monkeypatch.setattr("distrai.runs.reward_tables.TABLE_BYTES_MAX", 100)
    blob = store.put(bytes(101))
    monkeypatch.setattr(BlobStore, "read", lambda *_: pytest.fail("it was read"))
    at = Position(7, 0, keccak(b"block"))
    settled = EpochSettled(at, 1, 1, keccak(b"root"), 5, 3, HEAD, blob.hash, 9)
    domain = Domain(1, Address(b"\1" * 20))
    work = WorkBook(tmp_path / "work.sqlite")
    book = EpochBook(1, domain, 3, 9, work, store, Nobody())
    with pytest.raises(Waits, match="no table is longer"):
        book._held(settled)
    with pytest.raises(WrongTable, match="no table is longer"):
        Tables((store,)).held(settled, domain)
    work.close()


class Nobody:
    """No other peers."""

    async def lists(self, bodies: Sequence[Body]) -> list[tuple[int, CertifiedList]]:
        return []

    async def blob(self, name: Hash, size_max: int) -> BlobRef:
        raise AssertionError("nobody was to be asked")


async def test_a_false_epoch_is_not_believed_for_naming_the_table_of_an_honest_one(tmp_path: Path) -> None:
    """Captured seats settle rounds that pay nobody, with the root and the table of the epoch before."""
    async with AsyncExitStack() as stack:
        paying = await Paying.open(tmp_path, stack, members=4)
        honest = paying.peers[-1]
        for _ in range(EPOCH_ROUNDS):
            await paying.certify()
        await paying.settle(1)
        for _ in range(EPOCH_ROUNDS):
            await paying.certify()
        await paying.pots.mark_head(paying.run)
        for _ in range(2):
            await paying.step(honest)  # it computes the second epoch, and lacks the others' signatures
        first = (await honest_pot(paying)).epochs[-1].settled
        gathered = honest.settlement._gathered
        assert gathered is not None and gathered.due.epoch.epoch == 2
        false = msgspec.structs.replace(
            gathered.due.epoch, root=first.root, total=first.total, data_hash=first.data_hash
        )
        domain = honest.settlement.book.domain
        assert await paying.pots.settle(false, paying.sign(domain.digest(false.id)))
        signed = len(honest.told.of("epoch-signed"))
        for _ in range(EPOCH_ROUNDS):
            await paying.certify()
        await paying.pots.mark_head(paying.run)
        why = await honest.step()
        assert why is not None and "is not what the certified lists give" in why
        assert len(honest.told.of("epoch-signed")) == signed


async def honest_pot(paying: Paying) -> Pot:
    settlement = paying.peers[-1].settlement
    await settlement.index.sync(settlement.source)
    return Pot.fold(settlement.index.events(run=paying.run))


async def test_a_false_epoch_is_found_at_once_and_also_where_a_right_one_lands_on_it(tmp_path: Path) -> None:
    """Whoever looks at the newest epoch alone, with the table of the one before, finds nothing wrong with it."""
    async with AsyncExitStack() as stack:
        paying = await Paying.open(tmp_path, stack, members=4)
        honest = paying.peers[-1]
        domain, work, thief = honest.settlement.book.domain, [], paying.peers[0].member
        for number in range(1, 3 * EPOCH_ROUNDS + 1):
            await paying.certify()
            work.append(WorkedRound(number, accepted_tokens(paying.lists[number])))
            if number == EPOCH_ROUNDS:
                await paying.settle(1)
                assert await honest.step() is None
            elif number % EPOCH_ROUNDS == 0:
                await paying.pots.mark_head(paying.run)
        pot = await honest_pot(paying)
        marks = list(pot.marks.values())[-2:]
        right = recompute(pot, work, domain, paying.run)[-1].earnings
        due = compute_epoch(pot, right, work, marks[0], domain, paying.run)
        stolen = Earnings({thief: due.earnings.total * MILLION})
        table = reward_table(paying.run, 2, stolen)
        root = rewards_root(domain, paying.run, stolen.amounts)
        false = msgspec.structs.replace(due.epoch, root=root, data_hash=table.blob.hash)
        assert await paying.pots.settle(false, paying.sign(domain.digest(false.id)))
        honest.transport.store.put(table.to_bytes())
        pot = await honest_pot(paying)
        after = compute_epoch(pot, stolen, work, marks[1], domain, paying.run)
        assert await paying.pots.settle(after.epoch, paying.sign(domain.digest(after.epoch.id)))
        why = await honest.step()
        assert why is not None and "epoch 2 on the ledger" in why, "no mark is due, and both are new"

"""Peers that settle what a run's members earned, on a real chain with the real contracts, over real transports."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from distrai.ledger.keys import NodeKey
from distrai.peer.signing import DOCUMENT, SEEN_MAX, SIGNED, Gathered, ShownEpoch, SignedEpochs
from distrai.protocol.keccak import keccak
from distrai.protocol.money_events import EpochSettled, HeadMarked
from distrai.protocol.pot import Pot, recompute
from distrai.protocol.primitives import MemberId, SignatureBytes
from distrai.protocol.rewards import WorkedRound, accepted_tokens, rewards_proof
from distrai.protocol.standing import Seat
from helpers.settling import ACTIVATION_S, EPOCH_ROUNDS, TERMS, TOKEN_PRICE, TURN_S, Paying


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


async def pot_of(paying: Paying) -> Pot:
    index = paying.peers[0].settlement.index
    await index.sync(paying.peers[0].settlement.source)
    return Pot.fold(index.events(run=paying.run))


async def test_a_run_is_settled_to_its_last_round_and_everybody_is_paid(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=3, rounds=7)
    for number in range(1, 8):
        await paying.certify(0 if number == 2 else 100 + number)
        for _ in range(4):
            assert await paying.step() == [None] * 3
    pot = await pot_of(paying)
    assert [live.settled.last_round for live in pot.epochs] == [4, 7]
    index = paying.peers[0].settlement.index
    marks = index.events([HeadMarked], paying.run)
    assert [mark.round for mark in marks if isinstance(mark, HeadMarked)] == [0, 4, 7]
    assert len(index.events([EpochSettled], paying.run)) == 2
    work = [WorkedRound(number, accepted_tokens(paying.lists[number])) for number in (1, 3, 4, 5, 6, 7)]
    book = paying.peers[0].settlement.book
    dues = recompute(pot, work, book.domain, paying.run)
    assert [due.epoch.root for due in dues] == [live.settled.root for live in pot.epochs]
    earned = sum(100 + number for number in (1, 3, 4, 5, 6, 7)) * TOKEN_PRICE
    assert dues[-1].earnings.amounts == {peer.member: earned for peer in paying.peers}
    for peer in paying.peers:
        assert peer.told.of("settlement-done")[-1]["total"] == 3 * earned
        assert [facts["last_round"] for facts in peer.told.of("epoch-settled")] == [4, 7]
        assert all(peer.transport.store.has(due.table.blob) for due in dues)
        assert peer.others.asked == 0
    paying.clock.now += ACTIVATION_S
    member = paying.peers[1].member
    proof = rewards_proof(book.domain, paying.run, dues[-1].earnings.amounts, member)
    paid = await paying.pots.claim(paying.run, 2, member, earned, proof)
    assert paid.paid == earned


async def test_seats_take_turns_and_step_in_for_each_other(tmp_path: Path, stack: AsyncExitStack) -> None:
    paying = await Paying.open(tmp_path, stack, members=4)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    first, second, *others = sorted(paying.peers, key=lambda peer: peer.member)
    for _ in range(2):
        await paying.step(first, *others)
    assert len((await pot_of(paying)).marks) == 1  # it is the second one's turn, since one head is marked
    await paying.step(second)
    assert len(second.told.of("marked")) == 1
    for _ in range(2):
        await paying.step(first, *others)
    assert (await pot_of(paying)).epochs == []  # its turn again: epoch 1
    for _ in range(2):
        await paying.step()
    assert len(second.told.of("epoch-landed")) == 1
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    alone = [first, second, others[1]]  # whose turn it is now is gone
    for _ in range(2):
        await paying.step(*alone)
    assert len((await pot_of(paying)).marks) == 2
    for _ in range(4):
        for peer in alone:
            peer.clock.now += TURN_S
        await paying.step(*alone)
    assert len((await pot_of(paying)).epochs) == 2


async def test_who_starts_again_goes_on_and_settles_anew_what_was_killed(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=3)
    for epoch in (1, 2):
        for _ in range(EPOCH_ROUNDS):
            await paying.certify()
        await paying.settle(epoch)
    first = (await pot_of(paying)).epochs
    for peer in paying.peers:
        await peer.end()
        await peer.begin()
    await paying.pots.kill(paying.run, 1)
    await paying.settle(2)
    again = (await pot_of(paying)).epochs
    assert [live.settled.root for live in again] == [live.settled.root for live in first]
    assert [live.kills for live in again] == [1, 1]


async def test_a_joiner_goes_on_from_the_table_of_the_last_epoch(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=3)
    old = list(paying.peers)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    await paying.settle(1)
    await paying.certify(heard_by=old)
    joiner = await paying.add()
    for _ in range(EPOCH_ROUNDS - 1):
        await paying.certify()
    await paying.step(*old)
    why = (await joiner.step()) or ""
    assert "the lists of 2 are known" in why
    assert joiner.others.asked == 1
    await joiner.step()
    assert joiner.others.asked == 1  # others are not asked again at once
    joiner.settlement.book.clock = lambda: 1e12
    joiner.others.given = {4: paying.lists[4]}
    assert await joiner.step() is None
    computed = joiner.settlement._gathered
    assert computed is not None
    assert joiner.told.of("epoch-signed") == []  # it has no seat
    await paying.settle(2, *old)
    settled = (await pot_of(paying)).epochs[1].settled
    assert (settled.root, settled.data_hash) == (computed.due.epoch.root, computed.due.epoch.data_hash)


async def test_what_hostile_seats_show_costs_nobody_but_them(tmp_path: Path, stack: AsyncExitStack) -> None:
    paying = await Paying.open(tmp_path, stack, members=4)
    liar, *honest = paying.peers
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    junk = SignatureBytes(b"\xff" * 65)
    for document in (
        b"",
        b"\xc1" * 30_000,
        ShownEpoch(9, 9, paying.lists[1].updates_root, (junk,) * 256).to_bytes(),
    ):
        await liar.transport.show(DOCUMENT, document)
        await paying.step(*honest)
    due = next(peer.settlement._gathered for peer in honest if peer.settlement._gathered is not None)
    stolen = tuple(due.signatures.values())
    shown = ShownEpoch(paying.run, 1, due.due.epoch.id, (*[junk] * 200, *stolen))
    await liar.transport.show(DOCUMENT, shown.to_bytes())
    for peer in honest:
        peer.clock.now += 4 * TURN_S
    await paying.settle(1, *honest)
    settled = (await pot_of(paying)).epochs[0].settled
    assert settled.total == 3 * 4 * 100 * TOKEN_PRICE


async def test_a_pot_that_pays_less_than_the_recipe_says_is_told(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=1)
    (peer,) = paying.peers
    await peer.step()
    assert peer.told.of("pot-differs") == []
    paying.promised = {"cap": 7}
    await peer.end()
    await peer.begin()
    await paying.step()
    await paying.step()
    (told,) = peer.told.of("pot-differs")
    assert f"cap is {TERMS.cap} instead of 7" in told["why"]


def test_a_flood_of_wrong_signatures_shuts_nobody_out() -> None:
    keys = [NodeKey.generate() for _ in range(3)]
    seats = tuple(Seat(MemberId(bytes([number]) * 32), key.address, 0) for number, key in enumerate(keys))
    digest = keccak(b"epoch")
    gathered = Gathered(None, digest)  # type: ignore[arg-type]
    for number in range(SEEN_MAX):
        junk = keys[0].sign(keccak(number.to_bytes(4, "big")))
        gathered.take((junk,) * 6, seats)
    assert gathered.enough(seats) == ()
    for key in keys[1:]:
        gathered.take((key.sign(digest),), seats)
    by_signer = sorted(keys[1:], key=lambda key: key.address)
    assert gathered.enough(seats) == tuple(key.sign(digest) for key in by_signer)
    assert gathered.enough(seats[:2]) == ()  # a seat that was dropped counts no more
    assert gathered.enough(()) == ()


async def test_nobody_signs_after_an_epoch_that_the_lists_do_not_give(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    """Captured seats settle what they like; an honest one sees it by the lists, says so, and signs nothing."""
    paying = await Paying.open(tmp_path, stack, members=4)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    honest = paying.peers[-1]
    for _ in range(2):
        await paying.step(*paying.peers)
    gathered = honest.settlement._gathered
    assert gathered is not None
    if (await pot_of(paying)).epochs:
        await paying.pots.kill(paying.run, 1)
    pot = await pot_of(paying)
    false = msgspec.structs.replace(
        gathered.due.epoch, total=1, root=paying.lists[1].updates_root, kills=pot.kills
    )
    domain = honest.settlement.book.domain
    assert await paying.pots.settle(false, paying.sign(domain.digest(false.id)))
    signed = len(honest.told.of("epoch-signed"))
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    await paying.step(*paying.peers)
    why = await honest.step()
    assert why is not None
    assert "is not what the certified lists give" in why
    assert len(honest.told.of("epoch-signed")) == signed


async def test_nothing_is_signed_before_its_end_is_final(tmp_path: Path, stack: AsyncExitStack) -> None:
    paying = await Paying.open(tmp_path, stack, members=3)
    finality = 4
    for peer in paying.peers:
        await peer.end()
        await peer.begin(finality)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    assert await paying.step() == [None] * 3
    assert len((await pot_of(paying)).marks) == 1  # the third round is not final
    blocks = []
    while not (epochs := (await pot_of(paying)).epochs):
        await paying.certify(0)
        await paying.step()
        await paying.step()
        index = paying.peers[0].settlement.index
        marks = index.events([HeadMarked], paying.run)
        if len(marks) > 1 and any(peer.told.of("epoch-signed") for peer in paying.peers):
            blocks.append(index.newest_block - marks[-1].at.block_number)
    assert min(blocks) >= finality
    assert epochs[0].settled.total == 3 * 3 * 100 * TOKEN_PRICE


async def test_one_place_is_signed_once_whatever_is_computed_later(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=1)
    (peer,) = paying.peers
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    await paying.settle(1)
    gathered = peer.settlement._gathered
    assert gathered is not None
    due = gathered.due
    assert [entry.head for entry in peer.log.entries(SIGNED)] == [due.epoch.head]
    other = replace(due, epoch=msgspec.structs.replace(due.epoch, total=5))
    fork = replace(other, marked=replace(due.marked, at=replace(due.marked.at, block_hash=due.epoch.root)))
    for signed in (SignedEpochs(peer.log), SignedEpochs(peer.log)):
        assert signed.commit(due)
        assert not signed.commit(other)
    assert SignedEpochs(peer.log).commit(fork)
    assert not SignedEpochs(peer.log).commit(replace(due, marked=fork.marked))


async def test_who_signed_something_else_for_a_place_signs_nothing_more_there(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    paying = await Paying.open(tmp_path, stack, members=2)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    one, other = paying.peers
    for _ in range(3):
        one.clock.now += TURN_S
        await one.step()
    gathered = one.settlement._gathered
    assert gathered is not None
    false = replace(gathered.due, epoch=msgspec.structs.replace(gathered.due.epoch, total=5))
    assert SignedEpochs(other.log).commit(false)
    await other.end()
    await other.begin()
    assert "signs no second one" in (await other.step() or "")
    await paying.step()
    assert (await pot_of(paying)).epochs == []
    assert other.told.of("epoch-signed") == []


async def test_after_a_reorg_the_other_fork_is_settled(tmp_path: Path, stack: AsyncExitStack) -> None:
    paying = await Paying.open(tmp_path, stack, members=3)
    for _ in range(EPOCH_ROUNDS):
        await paying.certify()
    signer = paying.peers[0]
    while not signer.told.of("epoch-signed"):
        signer.clock.now += TURN_S  # the others seem to be gone
        await paying.step(signer)
    assert (await pot_of(paying)).epochs == []  # one of three is not enough
    await paying.take_back(2)
    await paying.certify(tokens=50)
    for peer in paying.peers:
        peer.clock.now += 3 * TURN_S
    await paying.settle(1)
    settled = (await pot_of(paying)).epochs[0].settled
    assert settled.total == 3 * (100 + 100 + 50) * TOKEN_PRICE
    roots = [facts["root"] for facts in signer.told.of("epoch-signed")]
    assert len(roots) == 2
    assert roots[1] == settled.root != roots[0]

"""A run that pays, on anvil: gas costs something, blocks come by themselves, and not all that was mined stays.

The chain takes three blocks back again and again: with a certificate in them, with a settled epoch, with a claim. In
between its node cannot be reached for a while. In the end all rounds and epochs stand on the ledger, and who worked has
what it earned, once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.deployment import LOCAL, Deployment, deploy
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey, save_key
from distrai.ledger.token import TokenClient
from distrai.protocol.amounts import format_amount
from distrai.protocol.ledger_events import Certified, LedgerEvent, Started
from distrai.protocol.money_events import EpochSettled, Funded, Refunded, RewardClaimed, Slashed
from distrai.protocol.primitives import Address, MemberId
from distrai.runs.chain import Chain
from distrai.runs.folder import RunFolder
from distrai.runs.ledger_verify import ledger_verify
from distrai.runs.results import finish
from distrai.runs.summary import Summary
from distrai.runs.verify import Verdict, verify
from helpers.anvil import FUNDED_KEY, running_anvil
from helpers.chronicles import DEPTH, Chronicle, mine
from helpers.local_runs import Drive, check_consistent, tiny_recipe
from helpers.nursery import Nursery
from helpers.proxies import Proxy, proxy_to

pytestmark = pytest.mark.processes

CHAIN_ID = 777_000_111
DECIMALS = 18
FINALITY = DEPTH + 1
ROUNDS = 8
PEERS = [f"peer-{number}" for number in range(3)]
MONEY = {
    "rewards": {
        "price": "1000",
        "cap": "0.1",
        "max_members": 3,
        "epoch_rounds": 3,
        "finality_blocks": FINALITY,
    },
    "stake": {"minimum": "10", "fault_max": "1"},
}


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    drive: Drive
    lost: list[LedgerEvent]
    outage: list[int]
    history: list[LedgerEvent]
    balances: dict[Address, int]
    summary: Summary
    replayed: Verdict
    verified: dict[str, Any]

    @property
    def paid(self) -> dict[MemberId, int]:
        """What the ledger says that members were paid, base units."""
        found: dict[MemberId, int] = defaultdict(int)
        for event in self.of(RewardClaimed):
            found[event.member] += event.amount
        return found

    def of(self, kind: type[LedgerEvent]) -> list[LedgerEvent]:
        return [event for event in self.history if isinstance(event, kind)]


async def train(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, path = new_folder("anvil-texts"), new_folder("anvil")
    recipe = tiny_recipe(
        texts,
        rounds={"count": ROUNDS, "d0_s": 0.3, "cut_s": 20.0, "hard_s": 40.0, "stall_seconds": 300},
        membership={"peers": 3},
        **MONEY,
    )
    folder, owner = RunFolder(path), NodeKey(FUNDED_KEY)
    save_key(owner, folder.owner_key)
    async with AsyncExitStack() as stack:
        anvil = stack.enter_context(running_anvil("--chain-id", str(CHAIN_ID), "--no-mining"))
        source = await LogSource.connect(anvil.url, CHAIN_ID)
        stack.push_async_callback(source.close)
        mining = asyncio.create_task(mine(anvil, turn := asyncio.Lock()))
        stack.callback(mining.cancel)
        made = await deploy(anvil.url, CHAIN_ID, owner, LOCAL)
        index = LedgerIndex.open(path / "test-index", made)
        stack.callback(index.close)
        proxy = await stack.enter_async_context(proxy_to(anvil.port))
        stack.enter_context(nursery.attached())
        drive = Drive(folder, nursery, recipe, texts, chain=Chain(proxy.url, made))
        chronicle = Chronicle(anvil, index, source, turn)
        silence = await live_through(drive, chronicle, proxy)
        finishing = asyncio.create_task(asyncio.to_thread(finish, folder, "cpu", drive.observer.report))
        await chronicle.take_back(RewardClaimed, at_once)
        summary = await finishing
        replayed = await asyncio.to_thread(verify, folder, None, lambda *_: None)
        verified = await asyncio.to_thread(ledger_verify, folder)
        await index.sync(source)
        history = index.events()
        balances = await read_balances(anvil.url, made, history)
        return Record(folder, drive, chronicle.lost, silence, history, balances, summary, replayed, verified)


async def at_once(event: LedgerEvent) -> None:
    """Nobody needs to have heard of it."""


async def live_through(drive: Drive, chronicle: Chronicle, proxy: Proxy) -> list[int]:
    """Do all rounds, whatever happens to the chain."""
    observer = drive.observer

    async def is_applied(event: LedgerEvent) -> None:
        assert isinstance(event, Certified)
        number = event.body.round
        await drive.until(lambda: all(drive.has_applied(name, number) for name in PEERS), f"round {number}")

    async def is_landed(event: LedgerEvent) -> None:
        await drive.until(lambda: observer.of("epoch-landed"), "word of an epoch")

    async with drive:
        await drive.until(lambda: observer.newest_round() >= 1, "a round")
        await chronicle.take_back(Certified, is_applied)
        newest = observer.newest_round()
        await drive.until(lambda: observer.newest_round() >= newest + 2, "rounds after that")
        silence = await chronicle.outage(proxy)
        await chronicle.take_back(EpochSettled, is_landed)
        assert await drive.finish()
    return silence


async def read_balances(url: str, made: Deployment, events: list[LedgerEvent]) -> dict[Address, int]:
    token = await TokenClient.connect(url, made.token, made.chain_id)
    try:
        paid = {event.to for event in events if isinstance(event, RewardClaimed)}
        return {account: await token.balance(account) for account in paid}
    finally:
        await token.close()


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(train(nursery, new_folder))


def test_what_was_taken_back_landed_again(record: Record) -> None:
    certificate, epoch, claim = record.lost
    assert isinstance(certificate, Certified)
    (again,) = [each for each in record.of(Certified) if each.body.round == certificate.body.round]
    assert (again.body, again.head) == (certificate.body, certificate.head)
    assert again.at.block_hash != certificate.at.block_hash
    assert isinstance(epoch, EpochSettled)
    (settled,) = [each for each in record.of(EpochSettled) if each.epoch == epoch.epoch]
    assert (settled.root, settled.total) == (epoch.root, epoch.total)
    assert settled.at.block_hash != epoch.at.block_hash
    assert isinstance(claim, RewardClaimed)
    paid = [each for each in record.of(RewardClaimed) if each.member == claim.member]
    assert paid, "in one claim, or in one for each epoch, whichever roots were active by then"
    assert paid[-1].claimed >= claim.claimed
    assert {each.to for each in paid} == {claim.to}
    assert claim.at.block_hash not in {each.at.block_hash for each in paid}


def test_all_rounds_are_certified_and_all_peers_agree(record: Record) -> None:
    observer = record.drive.observer
    rounds = [event.body.round for event in record.of(Certified)]
    assert rounds == list(range(1, ROUNDS + 1)), "none empty for want of a ledger, none twice"
    states = observer.states()  # two states of a round would raise
    for event in record.of(Certified):
        told = states[event.body.round]
        assert set(told.values()) == {("0x" + event.head.hex(), "0x" + event.body.state_root.hex())}
    for name in PEERS:
        assert observer.of("reorganised", name)
    check_consistent(observer, record.folder, PEERS)
    assert not record.of(Slashed)
    assert len(record.outage) > DEPTH and not sum(record.outage[1:]), (
        "what was sent before may be in the first"
    )


def test_everybody_was_paid_what_it_earned_once(record: Record) -> None:
    epochs, claims = record.of(EpochSettled), record.of(RewardClaimed)
    assert epochs[-1].last_round == ROUNDS
    (started,) = record.of(Started)
    assert record.paid.keys() == {seat.member for seat in started.seats}
    assert all(amount > 0 for amount in record.paid.values())
    assert record.paid == {event.member: event.claimed for event in claims}, "the last says what all brought"
    assert sum(record.paid.values()) == epochs[-1].total
    assert record.balances == {event.to: record.paid[event.member] for event in claims}
    funded = record.of(Funded)[-1].funded
    assert sum(event.amount for event in record.of(Refunded)) == funded - epochs[-1].total


def test_the_run_replays_and_the_ledger_adds_up(record: Record) -> None:
    assert record.replayed.replayed is not None, record.replayed.failure
    assert record.replayed.replayed.rounds == ROUNDS
    assert record.replayed.payouts is not None
    assert record.replayed.payouts.earned == record.paid
    told, epochs = record.verified, record.of(EpochSettled)
    assert told["ok"], told["problems"]
    assert (told["certificates"], told["roots"], told["records"]) == (ROUNDS, len(epochs), 1)
    assert (told["paid"], told["owed"]) == (format_amount(epochs[-1].total, DECIMALS), "0")
    assert record.summary.earned == record.summary.claimed
    assert len(record.summary.earned) == len(PEERS)

"""Events rebuild all state: what the index tells, folded, is what the contracts' views say, after every block."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.index import LedgerIndex, LogSource, TokenMoved
from distrai.ledger.pots import AccountState, EpochState, PotState
from distrai.ledger.stakes import StakeState, StakeTerms
from distrai.ledger.training_records import Record, Request, Result, Stage, read_claims
from distrai.protocol import money_events as told
from distrai.protocol.body import start_head
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, LedgerEvent, RunOpened, Started
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId
from distrai.protocol.rewards import HeadMark
from helpers.money_chain import GUARDIAN, MINIMUM, QUICK, TERMS, WINDOWS, MoneyChain, PaidRun

NOTHING = StakeState(0, 0, 0, 0)


@dataclass
class State:
    """What the events of a deployment amount to."""

    pots: dict[int, PotState] = field(default_factory=dict)
    epochs: dict[tuple[int, int], EpochState] = field(default_factory=dict)
    marks: dict[tuple[int, int], tuple[Hash, HeadMark]] = field(default_factory=dict)
    accounts: dict[tuple[int, MemberId], AccountState] = field(default_factory=dict)
    terms: dict[int, StakeTerms] = field(default_factory=dict)
    stakes: dict[tuple[int, MemberId], StakeState] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    rounds: dict[int, tuple[int, Hash]] = field(default_factory=dict)
    balances: dict[bytes, int] = field(default_factory=dict)

    def take(self, event: LedgerEvent, time: int) -> None:
        self._take_pot(event, time)
        self._take_epoch(event, time)
        self._take_stake(event)
        self._take_record(event, time)
        match event:
            case TokenMoved(sender=sender, to=to, amount=amount):
                self.balances[sender] = self.balances.get(sender, 0) - amount
                self.balances[to] = self.balances.get(to, 0) + amount
            case RunOpened(genesis=genesis):
                self.rounds[genesis.run] = (0, genesis.head)
            case Started(head=head, seats=seats):
                keys = [(seat.member, seat.key) for seat in seats]
                (run,) = [run for run, (_, first) in self.rounds.items() if start_head(first, keys) == head]
                self.rounds[run] = (0, head)
            case Certified(body=body, head=head):
                self.rounds[body.run] = (body.round, head)

    def pot(self, run: int, **changes: Any) -> None:
        self.pots[run] = replace(self.pots[run], **changes)

    def _take_pot(self, event: LedgerEvent, time: int) -> None:
        match event:
            case told.PotOpened(run=run, owner=owner, after_round=after, terms=terms):
                self.pots[run] = PotState(owner, time, 0, 0, 0, 0, 0, 0, 0, 0, 0, terms)
                self.epochs[run, 0] = EpochState(ZERO_HASH, 0, 0, after)
            case told.Funded(run=run, funded=funded):
                self.pot(run, funded=funded)
            case told.MemberAllowed(run=run, member=member):
                before = self.accounts.get((run, member), AccountState(False, False, 0))
                self.accounts[run, member] = AccountState(True, True, before.claimed)
                self.pot(run, members=self.pots[run].members + 1)
            case told.MemberDisallowed(run=run, member=member):
                self.accounts[run, member] = replace(self.accounts[run, member], allowed=False)
                self.pot(run, members=self.pots[run].members - 1)
            case told.PotClosed(run=run, worked_max=worked_max, time=closed):
                assert closed == time
                self.pot(run, closed_at=closed, worked_max=worked_max)
            case told.Refunded(run=run, amount=amount):
                self.pot(run, refunded=self.pots[run].refunded + amount)

    def _take_epoch(self, event: LedgerEvent, time: int) -> None:
        match event:
            case told.HeadMarked(run=run, round=number, head=head):
                self.marks[run, number] = (head, HeadMark(number, event.worked, event.time))
            case told.EpochSettled(run=run, epoch=epoch):
                state = EpochState(event.root, event.total, event.active_from, event.last_round)
                self.epochs[run, epoch] = state
                self.pot(run, live=epoch)
            case told.EpochKilled(run=run, live=live, kills=kills):
                self.pot(run, live=live, kills=kills, killed_at=time)
            case told.RewardClaimed(run=run, member=member, amount=amount, claimed=claimed):
                self.accounts[run, member] = replace(self.accounts[run, member], claimed=claimed)
                self.pot(run, paid=self.pots[run].paid + amount)

    def _take_stake(self, event: LedgerEvent) -> None:
        match event:
            case told.StakeTermsSet(run=run):
                self.terms[run] = StakeTerms(event.minimum, event.fault_max)
            case told.Staked(run=run, member=member, staked=staked):
                before = self.stakes.get((run, member), NOTHING)
                self.stakes[run, member] = replace(before, staked=staked, asked_at=0)
            case told.ExitAsked(run=run, member=member, unbond_at=at):
                before = self.stakes[run, member]
                self.stakes[run, member] = replace(before, asked_at=at - WINDOWS.dead_seconds)
            case told.Unbonding(run=run, member=member, unbonding=amount, release_at=at):
                self.stakes[run, member] = StakeState(0, amount, at, 0)
            case told.Withdrawn(run=run, member=member):
                self.stakes[run, member] = replace(self.stakes[run, member], unbonding=0, release_at=0)
            case told.Slashed(run=run, member=member):
                before = self.stakes[run, member]
                left = (before.staked - event.from_staked, before.unbonding - event.from_unbonding)
                self.stakes[run, member] = StakeState(*left, before.release_at, before.asked_at)
                assert event.active == (left[0] >= self.terms[run].minimum and not before.asked_at)

    def _take_record(self, event: LedgerEvent, time: int) -> None:
        match event:
            case told.RecordOpened(record=number, sender=sender, run=run, claims=claims):
                assert event.time == time
                request, empty = read_claims(run, claims), Result(ZERO_HASH, ZERO_HASH, 0, 0, 0)
                known = (number, sender, time, Stage.REQUESTED, run, 0, 0, ZERO_HASH)
                self.records[number] = Record(*known, empty, request)
            case told.StageReached(record=number, stage=stage):
                self.records[number] = replace(self.records[number], stage=Stage(stage))
            case told.RecordClosed(record=number):
                result = Result(
                    event.manifest, event.table, event.training_seconds, event.gpu_seconds, event.peers
                )
                ended = {"round": event.round, "state_root": event.state_root, "result": result}
                self.records[number] = replace(
                    self.records[number], stage=Stage.CLOSED, closed_at=time, **ended
                )


@pytest.fixture
def chain(served: Any) -> Any:
    return served.chain


async def live(money: MoneyChain) -> tuple[PaidRun, PaidRun]:
    """Everything that can happen to two runs on one distributor."""
    first, second = await money.run(staked=True), await money.run()
    records = await money.records()
    one, two, three = first.members
    for run in (first, second):
        await run.pots.fund(run.number, 5 * TERMS.rate)
        await run.work(2)
        await run.settle({run.members[0]: 1_500, run.members[1]: 20})
    await records.open(Request(first.number, keccak(b"r"), 5, 6, "H100", "me", "m", "t", "{}"))
    await records.open(Request(0, keccak(b"job"), 0, 0, "", "", "", "", "{}"))
    await records.reach(1, Stage.STARTED, keccak(b"e"))
    await (await money.pots(GUARDIAN)).kill(second.number, 1)
    money.wait(WINDOWS.activation_seconds)
    await first.pots.claim(first.number, 1, one, 1_500, first.proof(one))
    await first.pots.disallow(first.number, three)
    pair = first.update(one, b"one"), first.update(one, b"other")
    await first.stakes.slash(*pair, *[first.signed(update, first.keys[one]) for update in pair])  # type: ignore[arg-type]
    await first.stake(two, first.keys[two], MINIMUM)
    await (await money.ledger(first.keys[two])).leave(first.number, two)
    leaving = await money.stakes(first.keys[two])
    await leaving.unbond(first.number, two)
    await first.certify(drops=(two,))
    del first.keys[two]
    await leaving.unbond(first.number, two)
    await records.close_record(1, Result(keccak(b"m"), ZERO_HASH, 9, 10, 2))
    money.wait(WINDOWS.unbond_seconds)
    await leaving.withdraw(first.number, two)
    await first.work(2)
    await first.settle({one: 100})
    await first.pots.close_pot(first.number)
    money.wait(WINDOWS.settle_seconds + WINDOWS.activation_seconds)
    await first.pots.claim(first.number, 2, one, 1_600, first.proof(one))
    await first.pots.refund(first.number)
    return first, second


async def test_events_rebuild_all_state(money: MoneyChain, chain: Any, tmp_path: Path) -> None:
    runs = await live(money)
    index = LedgerIndex.open(tmp_path / "index", money.deployment)
    source = await LogSource.connect(money.url, money.chain_id, patience=QUICK)
    assert await index.sync(source)
    await source.close()
    state, checked, events = State(), 0, index.events()
    for number in {event.at.block_number for event in events}:
        assert index.block_time(number) == chain.header(number).timestamp
    for block in range(chain.block_number + 1):
        for event in (event for event in events if event.at.block_number == block):
            time = index.block_time(block)
            assert time is not None
            state.take(event, time)
        if block % 13 == 12 or block == chain.block_number:
            await compare(money, state, runs, block)
            checked += 1
    assert checked > 5
    assert len(state.records) == 2
    assert index.newest_block == chain.block_number
    finality = 10
    assert index.events(finality=finality) == [
        event for event in events if event.at.block_number <= chain.block_number - finality
    ]
    index.close()


async def compare(money: MoneyChain, state: State, runs: Iterable[PaidRun], block: int) -> None:
    """All views as of the end of a block are what the events up to there amount to."""
    records, token, of = await money.records(), await money.token(), money.deployment
    assert await records.count(block=block) == len(state.records)
    for number, record in state.records.items():
        assert await records.get(number, block=block) == record
    for contract in (of.rewards, of.stakes):
        assert await token.balance(contract, block=block) == state.balances.get(contract, 0)
    for run in runs:
        pots, stakes, number = run.pots, run.stakes, run.number
        assert await pots.pot_of(number, block=block) == state.pots.get(number)
        assert await stakes.terms_of(number, block=block) == state.terms.get(number, StakeTerms(0, 0))
        for epoch in range(4):
            expected = state.epochs.get((number, epoch), EpochState(ZERO_HASH, 0, 0, 0))
            assert await pots.epoch_of(number, epoch, block=block) == expected
        for round_number in range(6):
            mark = state.marks.get((number, round_number))
            assert await pots.mark_of(number, round_number, block=block) == mark
        for member in (*run.entered, MemberId(b"x" * 32)):
            account = state.accounts.get((number, member), AccountState(False, False, 0))
            assert await pots.account_of(number, member, block=block) == account
            stake = state.stakes.get((number, member), NOTHING)
            assert await stakes.stake_of(number, member, block=block) == stake
        if number in state.rounds:
            reached = await run.ledger.run_state(number, block=block)
            assert (reached.round, reached.head) == state.rounds[number]


async def test_a_run_s_events_are_those_that_its_ledger_gives(money: MoneyChain, tmp_path: Path) -> None:
    """The registry's part of the index and of a peer's ledger are one."""
    run = await money.run()
    await run.work(2)
    await (await money.run()).work(1)
    index = LedgerIndex.open(tmp_path / "index", money.deployment)
    source = await LogSource.connect(money.url, money.chain_id, patience=QUICK)
    await index.sync(source)
    await source.close()
    newest = await run.ledger.block_number()
    from_ledger = await run.ledger.events(run.number, 0, newest)
    kinds = {type(event) for event in from_ledger}
    assert len(kinds) == 4
    assert index.events(kinds, run=run.number) == from_ledger
    index.close()

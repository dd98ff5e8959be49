"""Accounts: four states of every amount, which add up to what was earned, whatever was settled, killed or claimed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.ledger_events import Certified, LedgerEvent, Position
from distrai.protocol.lists import CertifiedList, Entry
from distrai.protocol.messages import Envelope
from distrai.protocol.money_events import (
    EpochKilled,
    EpochSettled,
    Funded,
    HeadMarked,
    MemberAllowed,
    PotOpened,
    RewardClaimed,
)
from distrai.protocol.pot import Pot, compute_epoch
from distrai.protocol.primitives import SIGNATURE_SIZE, ZERO_HASH, Address, Hash
from distrai.protocol.rewards import MILLION, Earnings, RewardTerms, WorkedRound, accepted_tokens
from distrai.protocol.typed_data import Domain
from distrai.runs.accounts import Account, Accounts, accounts
from distrai.runs.bookkeeping import Books, whole
from distrai.runs.reward_tables import Tables
from helpers.messages import named
from helpers.paid_runs import PRICE, ROUND_S, WINDOWS, PaidRun, Scene
from helpers.rounds import authors, secret_of, started, update_of

WAGE = 256 * PRICE
ROUNDS_OF = {0: 6, 1: 7, 2: 7, 3: 1}
"""In how many of the first eight rounds each author's update is certified; authors are sorted by member id."""


def on(scene: Scene, play: Callable[[PaidRun], Awaitable[None]]) -> None:
    async def run() -> None:
        async with scene.opened() as world:
            await play(world)

    asyncio.run(run())


async def books(world: PaidRun, **changes: Any) -> Books:
    events = await world.events()
    heads = [event for event in events if isinstance(event, Certified)]
    head_time = world.index.block_time(heads[-1].at.block_number)
    assert head_time is not None
    made = Books(events, world.lists(), world.domain, world.run, int(world.clock.now), head_time)
    return replace(made, **changes)


def amounts(account: Account) -> tuple[int, int, int, int]:
    return account.certified, account.settled, account.payable, account.paid


def test_every_amount_is_in_one_state_and_shown_by_its_evidence(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        made = await books(world)
        told = await accounts(made, Tables.of_folder(world.folder))
        assert told.pays and not told.missing
        floor = [count * WAGE // MILLION for count in range(9)]
        one, three = told.of(scene.author(1).member), told.of(scene.author(3).member)
        assert amounts(one) == (floor[7] - floor[6], floor[6] - floor[3], 0, floor[3])
        assert amounts(three) == (0, 0, floor[1], 0)
        for number, count in ROUNDS_OF.items():
            account = told.of(scene.author(number).member)
            assert account.earned == account.pending + account.payable + account.paid == floor[count]
            assert account.audited == 0
            assert whole(account.work) == account.earned
        assert told.paid + told.owed == sum(floor[count] for count in ROUNDS_OF.values())
        assert [item.round for item in one.work] == [1, 2, 4, 5, 6, 7, 8]
        lists = world.lists()
        assert all(item.update in {u.identity(b"") for u in lists[item.round].updates} for item in one.work)
        (payment,) = one.payments
        receipt = await world.pots._rpc.call("eth_getTransactionReceipt", "0x" + payment.transaction.hex())
        assert (payment.epoch, payment.block) == (1, int(receipt["blockNumber"], 16))
        assert one.root is not None and one.payable_from == one.root.active_from
        shown = one.to_json(18)
        assert shown["label"] == "pending, unverified" and shown["audited"] == "0"
        assert shown["evidence"]["pending"]["epoch"] == 2 and shown["evidence"]["payable"] is None
        assert shown["evidence"]["paid"][0]["transaction"] == "0x" + payment.transaction.hex()
        later = await accounts(replace(made, now=one.payable_from), Tables.of_folder(world.folder))
        assert amounts(later.of(one.member)) == (floor[7] - floor[6], 0, floor[6] - floor[3], floor[3])
        assert later.of(one.member).payable_from is None

    on(scene, play)


def test_a_killed_epoch_is_pending_again(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        member, tables = scene.author(1).member, Tables.of_folder(world.folder)
        before = (await accounts(await books(world), tables)).of(member)
        await world.pots.kill(world.run, 2)
        after = (await accounts(await books(world), tables)).of(member)
        assert after.earned == before.earned
        assert (after.certified, after.settled, after.paid) == (before.pending, 0, before.paid)

    on(scene, play)


def test_what_is_not_known_is_said_and_not_guessed(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        tables, member = Tables.of_folder(world.folder), scene.author(1).member
        made = await books(world)
        full = (await accounts(made, tables)).of(member)
        pruned = replace(made, lists={number: listed for number, listed in made.lists.items() if number > 6})
        told = await accounts(pruned, tables)
        assert amounts(told.of(member)) == amounts(full), "tables stand for the lists of settled rounds"
        assert not told.missing
        assert [item.millionths for item in told.of(member).work] == [None, None]
        told = await accounts(replace(made, lists={}), tables)
        assert amounts(told.of(member)) == (0, *amounts(full)[1:])
        assert "what was certified since the last epoch is not counted" in told.missing[0]
        assert amounts((await accounts(made, Tables(()))).of(member)) == amounts(full), (
            "lists stand for tables"
        )
        told = await accounts(pruned, Tables(()))
        assert told.of(member).paid == full.paid
        assert any("epoch 2" in text and "not counted" in text for text in told.missing)
        other = msgspec.structs.replace(made.lists[8], cursor=0, entries=made.lists[7].entries)
        told = await accounts(replace(made, lists={**made.lists, 8: other}), tables)
        assert told.of(member).certified == 0 and told.missing, "a list that was not certified is none"

    on(scene, play)


def test_a_false_root_shows_what_the_ledger_would_pay(scene: Scene) -> None:
    """Captured seats leave a member out: it is paid by the older root, as far as that is not used up."""

    async def play(world: PaidRun) -> None:
        liar, robbed, friend = (scene.author(number).member for number in (1, 2, 0))
        before = (await accounts(await books(world), Tables.of_folder(world.folder))).of(robbed)
        total = Pot.fold(await world.events()).epochs[-1].settled.total
        told_paid = before.payable
        await world.conspire(world.run, {liar: total - told_paid, friend: told_paid})
        world.wait(WINDOWS.activation_seconds + ROUND_S)
        told = await accounts(await books(world), Tables.of_folder(world.folder))
        assert told.of(liar).payable == total - told_paid - told.of(liar).paid
        assert told.of(robbed).payable == before.payable + before.settled
        alone = await accounts(await books(world), Tables(()))
        assert alone.of(liar).payable < told.of(liar).payable
        assert "epoch 3" in alone.missing[0], "its lists lead to another root"

    on(scene, play)


def test_a_run_without_a_pot_pays_nothing() -> None:
    told = asyncio.run(accounts(Books([], {}, DOMAIN, 1, 0, 0), Tables(())))
    assert told == Accounts(1)
    assert told.of(authors(1)[0].member).earned == 0


# Any history

DOMAIN = Domain(31337, Address(b"\5" * 20))
TERMS = RewardTerms(price=7_001, cap=5, max_members=3, min_round_seconds=1)
ACTIVATION = 15


@dataclass
class Story:
    """A chain of events of one run, with a block a second."""

    events: list[LedgerEvent] = field(default_factory=list)
    lists: dict[int, CertifiedList] = field(default_factory=dict)
    worked: int = 0
    head: Hash = ZERO_HASH
    earned: list[Earnings] = field(default_factory=list)
    """By live epoch."""

    @property
    def now(self) -> int:
        return len(self.events) + 1

    def tell(self, kind: type[LedgerEvent], *values: Any) -> None:
        self.events.append(kind(Position(self.now, 0, ZERO_HASH), *values))

    @property
    def round(self) -> int:
        return max(self.lists, default=0)

    def open(self) -> None:
        self.tell(HeadMarked, 1, 0, self.head, 0, self.now)
        self.tell(PotOpened, 1, Address(bytes(20)), 0, TERMS)
        self.tell(Funded, 1, Address(bytes(20)), 150, 150)
        for author in authors(3):
            self.tell(MemberAllowed, 1, author.member, 1)

    def work(self, tokens: tuple[int, ...]) -> None:
        standing, people = started(authors(3)), authors(3)
        updates = [update_of(people[n], standing, tokens=count) for n, count in enumerate(tokens) if count]
        raw = [
            encode_canonical(Envelope(each.kind, encode_canonical(each), bytes(SIGNATURE_SIZE)))
            for each in updates
        ]
        listed = CertifiedList(0, (), tuple(Entry(item, secret_of(people[0])) for item in raw))
        number = self.round + 1
        body = Body(1, number, self.head, listed.updates_root, ZERO_HASH, ZERO_HASH)
        self.head, self.lists[number] = body.head, listed
        self.worked += bool(updates)
        self.tell(Certified, body, body.head)

    def settle(self) -> None:
        """Mark the newest head and settle until there, if that is anything new."""
        pot = Pot.fold(self.events)
        if self.round > pot.since(len(pot.epochs)).mark.round:
            if self.round not in pot.marks:
                self.tell(HeadMarked, 1, self.round, self.head, self.worked, self.now - 1)
                pot = Pot.fold(self.events)
            worked = [WorkedRound(number, accepted_tokens(listed)) for number, listed in self.lists.items()]
            worked = [item for item in worked if item.tokens]
            before = self.earned[-1] if self.earned else Earnings()
            due = compute_epoch(pot, before, worked, pot.marks[self.round], DOMAIN, 1)
            epoch = due.epoch
            values = (epoch.root, epoch.total, epoch.last_round, epoch.head, epoch.data_hash)
            self.tell(EpochSettled, 1, epoch.epoch, *values, self.now + ACTIVATION)
            self.earned.append(due.earnings)

    def kill(self) -> None:
        pot = Pot.fold(self.events)
        young = [item.settled.epoch for item in pot.epochs if item.settled.active_from > self.now]
        if young:
            self.tell(EpochKilled, 1, young[0], young[0] - 1, pot.kills + 1)
            del self.earned[young[0] - 1 :]

    def claim(self, number: int) -> None:
        pot, member = Pot.fold(self.events), authors(3)[number].member
        active = [item.settled for item in pot.epochs if item.settled.active_from <= self.now]
        if active:
            amount, before = self.earned[len(active) - 1].amounts.get(member, 0), pot.claimed.get(member, 0)
            if amount > before:
                values = (member, len(active), Address(bytes(20)), amount - before, amount, named(self.now))
                self.tell(RewardClaimed, 1, *values)


steps = st.one_of(
    st.tuples(st.just("work"), st.tuples(*[st.integers(0, 1_500)] * 3)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("claim"), st.integers(0, 2)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=24))
def test_pending_payable_and_paid_are_what_was_earned(moves: list[tuple[Any, ...]]) -> None:
    story, straight = Story(), Story()
    story.open()
    straight.open()
    for name, *values in moves:
        getattr(story, name)(*values)
        if name == "work":
            straight.work(*values)
    told, never_settled = (asyncio.run(accounts(_books(each), Tables(()))) for each in (story, straight))
    for author in authors(3):
        account = told.of(author.member)
        assert account.pending + account.payable + account.paid == account.earned
        assert account.earned == never_settled.of(author.member).earned, "epochs and claims change nothing"
        assert whole(account.work) == account.earned
        assert account.paid == sum(payment.amount for payment in account.payments)
        assert min(amounts(account)) >= 0
    total = sum(account.earned for account in told.members.values())
    assert total == told.paid + told.owed <= 150
    assert all(Pot.fold(story.events).claimed.get(m, 0) == a.paid for m, a in told.members.items())


def _books(story: Story) -> Books:
    return Books(story.events, story.lists, DOMAIN, 1, story.now, story.now)

"""Epochs from events: the same for everybody who starts anywhere, within what the contract allows, and nothing lost."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.errors import MissingList, WrongTable
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import LedgerEvent, Left, Position
from distrai.protocol.money_events import (
    EpochKilled,
    EpochSettled,
    Funded,
    HeadMarked,
    MemberAllowed,
    MemberDisallowed,
    PotClosed,
    PotOpened,
    Refunded,
    RewardClaimed,
)
from distrai.protocol.pot import (
    LISTS_NEEDED,
    REACH,
    Due,
    Pot,
    compute_epoch,
    due_mark,
    due_marks,
    is_mark_due,
    last_epoch,
    next_epoch,
    read_table,
    recompute,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.rewards import Earnings, HeadMark, RewardTerms, WorkedRound, decode_reward_table
from distrai.protocol.typed_data import Domain

DOMAIN = Domain(31337, Address(b"\xd1" * 20))
OWNER = Address(b"\x0a" * 20)
RUN, MILLION = 7, 1_000_000
TERMS = RewardTerms(price=3 * MILLION, cap=1_000, max_members=2, min_round_seconds=10)
A, B, C = (MemberId(bytes([number]) * 32) for number in range(1, 4))
EVERY, ROUNDS = 3, 1_000


@dataclass
class Ledger:
    """A model of a run and its pot, by the contract's rules: it refuses what the contract refuses."""

    terms: RewardTerms = TERMS
    rounds: int = 1_000_000
    events: list[LedgerEvent] = field(default_factory=list)
    work: list[WorkedRound] = field(default_factory=list)
    round: int = 0
    worked: int = 0
    now: int = 1_000
    head_at: int = 1_000
    marks: dict[int, HeadMark] = field(default_factory=dict)
    settled: list[EpochSettled] = field(default_factory=list)
    funded: int = 0
    refunded: int = 0
    kills: int = 0
    closing: tuple[int, int] | None = None
    allowed: set[MemberId] = field(default_factory=set)
    after: int = 0

    @property
    def at(self) -> Position:
        return Position(100 + len(self.events), 0, keccak(len(self.events).to_bytes(8, "big")))

    @property
    def head(self) -> Hash:
        return keccak(b"head" + self.round.to_bytes(8, "big"))

    @property
    def pot(self) -> Pot:
        return Pot.fold(self.events)

    @property
    def course(self) -> HeadMark:
        return HeadMark(self.round, self.worked, self.head_at)

    def open(self) -> "Ledger":
        self.after = self.round
        self._mark(self.now)
        self.events.append(PotOpened(self.at, RUN, OWNER, self.round, self.terms))
        return self

    def fund(self, amount: int) -> "Ledger":
        self.funded += amount
        self.events.append(Funded(self.at, RUN, OWNER, amount, self.funded))
        return self

    def allow(self, *members: MemberId) -> "Ledger":
        for member in members:
            if member not in self.allowed and len(self.allowed) < self.terms.max_members:
                self.allowed.add(member)
                self.events.append(MemberAllowed(self.at, RUN, member, self.round + 2 if self.round else 1))
        return self

    def disallow(self, member: MemberId) -> None:
        if member in self.allowed:
            self.allowed.remove(member)
            self.events.append(MemberDisallowed(self.at, RUN, member, self.round + 1))

    def certify(self, tokens: dict[MemberId, int], seconds: int = 10) -> None:
        self.now += seconds
        self.round, self.head_at = self.round + 1, self.now
        if tokens:
            self.worked += 1
            self.work.append(WorkedRound(self.round, tokens))

    def mark(self) -> None:
        if self.round not in self.marks:
            self._mark(self.head_at)

    def _mark(self, time: int) -> None:
        self.marks[self.round] = HeadMark(self.round, self.worked, time)
        self.events.append(HeadMarked(self.at, RUN, self.round, self.head, self.worked, time))

    def close(self) -> None:
        if self.closing is None:
            self.closing = (self.now, self.worked + 1)
            self.events.append(PotClosed(self.at, RUN, self.round + 1, self.worked + 1, self.now))

    def refund(self) -> None:
        amount = self.funded - self.refunded - (self.settled[-1].total if self.settled else 0)
        if self.closing is not None and amount:
            self.refunded += amount
            self.events.append(Refunded(self.at, RUN, OWNER, amount))

    def kill(self, epoch: int) -> None:
        if 0 < epoch <= len(self.settled):
            del self.settled[epoch - 1 :]
            self.kills += 1
            self.events.append(EpochKilled(self.at, RUN, epoch, epoch - 1, self.kills))

    def settle(self, due: Due) -> None:
        """As ``RewardsDistributor.settle``."""
        epoch, last = due.epoch, self.settled[-1] if self.settled else None
        total, since = (
            (0, self.marks[self.after]) if last is None else (last.total, self.marks[last.last_round])
        )
        assert (epoch.run, epoch.epoch, epoch.kills) == (RUN, len(self.settled) + 1, self.kills)
        assert epoch.previous_root == (ZERO_HASH if last is None else last.root)
        assert epoch.root != ZERO_HASH
        assert epoch.head == keccak(b"head" + epoch.last_round.to_bytes(8, "big"))
        assert epoch.last_round > since.round
        until = self.marks[epoch.last_round]
        worked, time = until.worked, until.time
        if self.closing is not None:
            worked, time = min(worked, self.closing[1]), min(time, self.closing[0] + 10)
        paid = max(0, min(worked - since.worked, (time - since.time) // self.terms.min_round_seconds))
        assert total <= epoch.total <= total + paid * self.terms.rate
        assert epoch.total <= self.funded - self.refunded
        settled = EpochSettled(
            self.at,
            RUN,
            epoch.epoch,
            epoch.root,
            epoch.total,
            epoch.last_round,
            epoch.head,
            epoch.data_hash,
            0,
        )
        self.settled.append(settled)
        self.events.append(settled)

    def due(self, before: Earnings, **changes: int) -> Due | None:
        settings = {"epoch_rounds": EVERY, "rounds": self.rounds} | changes
        return next_epoch(self.pot, before, self.work, DOMAIN, RUN, **settings)


def paying(**changes: int) -> Ledger:
    return Ledger(**changes).open().fund(10**9).allow(A, B)  # type: ignore[arg-type]


def land(ledger: Ledger, before: Earnings | None = None) -> Due:
    due = ledger.due(before or Earnings())
    assert due is not None
    ledger.settle(due)
    return due


def test_an_epoch_is_due_at_the_first_mark_with_enough_rounds() -> None:
    ledger = paying()
    for number in range(1, 8):
        ledger.certify({A: 10} if number != 2 else {})
        wanted = is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
        assert wanted == (number in (4, 7))
        assert due_mark(ledger.pot, EVERY, ROUNDS) is None or number > 4
        if wanted or number == 2:
            ledger.mark()
            assert not is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    marks = [marked.mark.round for marked in due_marks(ledger.pot, EVERY, ROUNDS)]
    assert marks == [4, 7]
    due = land(ledger)
    assert (due.epoch.last_round, due.epoch.total, due.earnings.amounts) == (4, 90, {A: 90})
    second = land(ledger, due.earnings)
    assert (second.epoch.epoch, second.epoch.last_round, second.epoch.total) == (2, 7, 180)
    assert second.epoch.previous_root == due.epoch.root
    assert due_mark(ledger.pot, EVERY, ROUNDS) is None


def test_the_last_epoch_of_a_run_may_be_short() -> None:
    ledger = paying(rounds=2)
    ledger.certify({A: 10})
    assert not is_mark_due(ledger.pot, EVERY, 2, ledger.course)
    ledger.certify({A: 10})
    assert is_mark_due(ledger.pot, EVERY, 2, ledger.course)
    ledger.mark()
    land(ledger)
    assert not is_mark_due(ledger.pot, EVERY, 2, ledger.course)


def test_nothing_is_due_at_the_end_where_nothing_was_worked_since() -> None:
    ledger = paying(rounds=4)
    for tokens in ({A: 1}, {A: 1}, {A: 1}):
        ledger.certify(tokens)
    ledger.mark()
    land(ledger)
    ledger.certify({})
    assert not is_mark_due(ledger.pot, EVERY, 4, ledger.course)


def test_a_closed_pot_is_settled_at_once_and_the_round_that_went_on_too() -> None:
    ledger = paying()
    ledger.certify({A: 10})
    ledger.close()
    assert is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    ledger.mark()
    first = land(ledger)
    assert first.epoch.total == 30
    ledger.certify({A: 10})
    assert is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    ledger.mark()
    second = land(ledger, first.earnings)
    assert second.epoch.total == 60
    ledger.certify({A: 10})
    assert not is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    ledger.mark()
    assert ledger.due(second.earnings) is None


def test_where_nobody_earns_anything_the_epoch_goes_on() -> None:
    ledger = Ledger().open().allow(A)
    for _ in range(EVERY):
        ledger.certify({A: 10})
    ledger.mark()
    assert ledger.due(Earnings()) is None
    assert not is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    ledger.fund(10**6)
    for _ in range(EVERY):
        ledger.certify({A: 10})
    assert is_mark_due(ledger.pot, EVERY, ROUNDS, ledger.course)
    ledger.mark()
    assert land(ledger).earnings.amounts == {A: 6 * 30}


def test_what_happens_after_the_mark_changes_nothing() -> None:
    ledger = paying()
    for _ in range(EVERY):
        ledger.certify({A: 10, B: 1, C: 5})
    ledger.mark()
    before = ledger.due(Earnings())
    ledger.fund(5)
    ledger.disallow(B)
    ledger.allow(C)
    ledger.certify({C: 5})
    ledger.close()
    assert ledger.due(Earnings()) == before
    ledger.refund()
    assert ledger.due(Earnings()) is None  # there is nothing left to pay it with


def test_rounds_after_the_one_that_went_on_are_not_paid() -> None:
    ledger = paying()
    for _ in range(EVERY - 1):
        ledger.certify({A: 10})
    ledger.close()
    ledger.certify({})  # the one that went on
    ledger.certify({A: 10})
    ledger.mark()
    assert land(ledger).epoch.total == (EVERY - 1) * 30


def test_time_after_the_closing_pays_no_rounds_that_were_too_fast() -> None:
    ledger = paying()
    for _ in range(EVERY):
        ledger.certify({A: 400, B: 400}, seconds=1)
    ledger.close()
    ledger.certify({A: 400, B: 400}, seconds=500)
    ledger.mark()
    assert land(ledger).epoch.total == TERMS.rate


def test_who_comes_and_goes_earns_while_it_may() -> None:
    ledger = Ledger().open().fund(10**9).allow(A)
    ledger.certify({A: 10})
    ledger.disallow(A)  # after round 2
    for _ in range(3):
        ledger.certify({A: 10})
    ledger.allow(A)  # from round 6 on
    ledger.certify({A: 10})
    ledger.certify({A: 10})
    ledger.disallow(A)  # after round 7
    for _ in range(3):
        ledger.certify({A: 10})
    ledger.mark()
    assert land(ledger).epoch.total == 4 * 30


def test_what_went_back_is_counted_as_often_as_it_did() -> None:
    ledger = paying()
    for _ in range(EVERY):
        ledger.certify({A: 10})
    ledger.mark()
    land(ledger)
    ledger.close()
    ledger.refund()
    assert ledger.pot.escrow == ledger.pot.total == EVERY * 30
    ledger.kill(1)
    ledger.refund()
    assert ledger.pot.escrow == 0


def until_due(ledger: Ledger, tokens: dict[MemberId, int], rounds: int) -> None:
    for _ in range(rounds):
        ledger.certify(tokens)
        if is_mark_due(ledger.pot, EVERY, ledger.rounds, ledger.course):
            ledger.mark()


def test_who_may_earn_nothing_needs_no_list() -> None:
    ledger = Ledger().open().fund(10**9)
    ledger.certify({A: 1})
    ledger.allow(A)  # from round 3 on
    assert [ledger.pot.may_pay(number) for number in (1, 2, 3)] == [False, False, True]
    ledger.disallow(A)
    assert not ledger.pot.may_pay(4)


def test_nothing_is_marked_that_could_pay_nothing() -> None:
    ledger = Ledger().open().fund(TERMS.rate - 1).allow(A)
    until_due(ledger, {A: 1}, 2 * EVERY)
    assert list(ledger.marks) == [0]
    ledger.fund(6 * TERMS.rate + 100)
    until_due(ledger, {A: 1}, 1)
    assert list(ledger.marks) == [0, 7]
    assert land(ledger).epoch.total == 7 * 3


def test_an_epoch_reaches_back_no_further_than_lists_are_kept() -> None:
    """Where nobody earned anything for long, who joined meanwhile can still compute the next epoch."""
    ledger = paying()
    until_due(ledger, {C: 1}, LISTS_NEEDED // EVERY * EVERY + 2 * EVERY)
    assert ledger.due(Earnings()) is None
    until_due(ledger, {A: 10}, EVERY)
    due = ledger.due(Earnings())
    assert due is not None
    recent = replace(ledger, work=ledger.work[-LISTS_NEEDED:]).due(Earnings())
    assert recent == due
    ledger.settle(due)
    assert due.earnings.amounts == {A: EVERY * 30}
    assert recompute(ledger.pot, ledger.work[-REACH:], DOMAIN, RUN) == [due]


def test_what_nobody_could_settle_for_so_long_is_given_up() -> None:
    ledger = paying()
    until_due(ledger, {A: 10}, EVERY + REACH - 1)
    first = due_mark(ledger.pot, EVERY, ROUNDS)
    assert first is not None and first.mark.worked == EVERY
    ledger.certify({A: 10})
    ledger.mark()
    second = due_mark(ledger.pot, EVERY, ROUNDS)
    assert second is not None and second.mark.worked == 2 * EVERY
    due = land(replace(ledger, work=ledger.work))
    assert due.epoch.total == 2 * EVERY * 30  # all that it reaches is still paid


def test_what_is_asked_about_may_lie_beyond_all_marks() -> None:
    ledger = paying()
    for _ in range(REACH + 1):
        ledger.certify({A: 10})
    marked = replace(ledger.pot.marks[0], mark=ledger.course)
    assert ledger.pot.begin(0, marked) == marked


def test_a_killed_epoch_is_settled_anew_with_the_same_amounts() -> None:
    ledger = paying()
    dues: list[Due] = []
    for number in range(1, 7):
        ledger.certify({A: number})
        if number % EVERY == 0:
            ledger.mark()
            dues.append(land(ledger, dues[-1].earnings if dues else None))
    ledger.kill(2)
    again = ledger.due(dues[0].earnings)
    assert again is not None
    assert again.epoch == msgspec.structs.replace(dues[1].epoch, kills=1)
    ledger.kill(1)
    first = ledger.due(Earnings())
    assert first is not None
    assert (first.epoch.epoch, first.epoch.kills, first.epoch.root) == (1, 2, dues[0].epoch.root)
    ledger.settle(first)
    assert recompute(ledger.pot, ledger.work, DOMAIN, RUN) == [first]


def test_without_a_list_nothing_is_computed() -> None:
    ledger = paying()
    for _ in range(EVERY):
        ledger.certify({A: 1})
    ledger.mark()
    marked = due_mark(ledger.pot, EVERY, ROUNDS)
    assert marked is not None
    with pytest.raises(MissingList, match="of 3 non-empty rounds from 1 to 3 the lists of 2"):
        compute_epoch(ledger.pot, Earnings(), ledger.work[1:], marked, DOMAIN, RUN)


def test_a_table_must_make_the_root_of_its_epoch() -> None:
    ledger = paying()
    for _ in range(EVERY):
        ledger.certify({A: 1, B: 2})
    ledger.mark()
    due = land(ledger)
    settled, data = ledger.settled[0], due.table.to_bytes()
    assert read_table(settled, data, DOMAIN) == due.earnings
    for other in (replace(settled, run=8), replace(settled, epoch=2), replace(settled, root=ZERO_HASH)):
        with pytest.raises(WrongTable):
            read_table(other, data, DOMAIN)


def test_a_run_without_a_pot_owes_nothing() -> None:
    pot = Pot.fold([Left(Ledger().at, A)])
    assert due_mark(pot, EVERY, ROUNDS) is None
    assert not is_mark_due(pot, EVERY, ROUNDS, HeadMark(5, 5, 0))
    assert recompute(pot, [], DOMAIN, RUN) == []


def test_what_was_claimed_is_kept() -> None:
    at = Ledger().at
    pot = Pot.fold([RewardClaimed(at, RUN, A, 1, OWNER, 5, total, ZERO_HASH) for total in (5, 10)])
    assert pot.claimed == {A: 10}


tokens = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 400), max_size=3)
happenings = st.one_of(
    st.none(),
    st.none(),
    st.tuples(st.just("mark")),
    st.tuples(st.just("fund"), st.integers(1, 9_000)),
    st.tuples(st.just("allow"), st.sampled_from([A, B, C])),
    st.tuples(st.just("disallow"), st.sampled_from([A, B, C])),
    st.tuples(st.just("close")),
    st.tuples(st.just("refund")),
    st.tuples(st.just("kill"), st.integers(1, 3)),
)
steps = st.tuples(tokens, st.integers(1, 25), happenings)
"""A round, how long it took, and what happened after it."""


@given(
    st.lists(steps, min_size=8, max_size=30),
    st.integers(0, 4),
    st.integers(1, 4 * MILLION),
    st.integers(1, 4),
)
def test_whatever_happens_the_contract_takes_what_is_computed(
    history: list[tuple[dict[MemberId, int], int, tuple[Any, ...] | None]], early: int, price: int, every: int
) -> None:
    """And who has only the newest table, and lists since then, computes the same bytes as who saw everything."""
    ledger = Ledger(replace(TERMS, price=price))
    for _ in range(early):
        ledger.certify({A: 1})
    ledger.open().fund(9_000).allow(A, B)
    earned, tables = [Earnings()], dict[int, bytes]()
    for accepted, seconds, happened in history:
        ledger.certify(accepted, seconds)
        if happened is not None:
            getattr(ledger, happened[0])(*happened[1:])
        earned = earned[: len(ledger.settled) + 1]
        if is_mark_due(ledger.pot, every, ROUNDS, ledger.course):
            ledger.mark()
        due = ledger.due(earned[-1], epoch_rounds=every)
        if due is None:
            continue
        since = ledger.settled[-1].last_round if ledger.settled else ledger.after
        table = decode_reward_table(tables[len(ledger.settled)]).earnings if ledger.settled else Earnings()
        recent = [item for item in ledger.work if item.round > since]
        joiner = next_epoch(ledger.pot, table, recent, DOMAIN, RUN, epoch_rounds=every, rounds=ledger.rounds)
        assert joiner is not None
        assert (joiner.epoch, joiner.table.to_bytes()) == (due.epoch, due.table.to_bytes())
        ledger.settle(due)
        assert last_epoch(ledger.pot, earned[-1], ledger.work, DOMAIN, RUN).table == due.table
        earned.append(due.earnings)
        tables[due.epoch.epoch] = due.table.to_bytes()
    found = recompute(ledger.pot, ledger.work, DOMAIN, RUN)
    assert [due.epoch.root for due in found] == [settled.root for settled in ledger.settled]
    assert [due.table.blob.hash for due in found] == [settled.data_hash for settled in ledger.settled]


@given(st.lists(tokens, min_size=1, max_size=24), st.integers(1, 30), st.integers(1, 4 * MILLION))
def test_nothing_is_lost_however_rounds_are_cut_into_epochs(
    work: list[dict[MemberId, int]], every: int, price: int
) -> None:
    """Rounds of the least time or more, and enough money: every cut pays what one epoch over all of it would."""
    totals = []
    for rounds in (every, len(work)):
        ledger = (
            Ledger(replace(TERMS, price=price, max_members=3), len(work)).open().fund(10**9).allow(A, B, C)
        )
        earned = Earnings()
        for item in work:
            ledger.certify(item)
            if is_mark_due(ledger.pot, rounds, len(work), ledger.course):
                ledger.mark()
            while (due := ledger.due(earned, epoch_rounds=rounds)) is not None:
                ledger.settle(due)
                earned = due.earnings
        totals.append(earned.amounts)
    assert totals[0] == totals[1]

"""Step 10: who opens a roll call and when, who checks in, who closes it, and what comes of it."""

import math

import pytest

from distrai.peer.events import (
    Apply,
    CheckIn,
    CloseRollCall,
    Effect,
    LedgerChanged,
    LedgerRewound,
    StateApplied,
    Submit,
    Tick,
    Train,
)
from distrai.peer.roll_call import DOUBLINGS_MAX
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import CheckedIn, Position, RollCalled
from distrai.protocol.messages import Digest
from distrai.protocol.standing import call_roll
from helpers.engine import BEGAN, TIMING, Driven, Table

STALL = 120.0
GRACE = 30.0
RETRY = STALL / 8
"""Between two transactions of the same kind."""


def table(seats: int = 4, **options) -> Table:
    return Table(seats=seats, stall_s=STALL, **options)


def checked_in(peer: Driven, who: int, call: int = 1, round_number: int = 1, block: int = 5) -> list[Effect]:
    at = Position(block, who, keccak(b"%d" % block))
    return peer.tell(LedgerChanged((CheckedIn(at, round_number, peer.table.everybody[who].member, call),)))


def calls(peer: Driven, until: float, *kinds: type) -> list[tuple[float, Effect]]:
    """What the peer sends to the ledger until then if it is woken when it asks to be, and when."""
    found = []
    while peer.now - BEGAN < until:
        wake = min(peer.wakes_at, until)
        assert wake > peer.now - BEGAN
        effects = peer.tick(wake)
        found += [(peer.now - BEGAN, effect) for effect in effects if isinstance(effect, kinds)]
    return found


def talk(peer: Driven, *who: int) -> None:
    """These are heard: each sends a digest."""
    for each in who:
        salt = keccak(b"%d" % len(peer.all))[:16]
        digest = Digest(**peer.table.header(each), salt=salt, known=b"")
        peer.hear(peer.table.sign(each, digest))


# Opening


def test_opens_after_the_stall_time_when_too_few_are_heard() -> None:
    peer = Driven(table())
    assert calls(peer, STALL - 0.01, CheckIn) == []
    assert calls(peer, STALL + 2 * RETRY, CheckIn) == [
        (STALL, CheckIn()),
        (STALL + RETRY, CheckIn()),  # the ledger did not take it, or not yet
        (STALL + 2 * RETRY, CheckIn()),
    ]


@pytest.mark.parametrize(("speakers", "opens_at"), [((1,), STALL), ((1, 2), 2 * STALL)])
def test_opens_after_twice_the_stall_time_while_two_thirds_talk(
    speakers: tuple[int, ...], opens_at: float
) -> None:
    """Someone may talk and never sign. With itself two of four are too few, three are enough."""
    peer, second = Driven(table()), 0
    while not peer.of(CheckIn):
        second += 5
        peer.tick(second)
        talk(peer, *speakers)
    assert second == opens_at


@pytest.mark.parametrize("kind", ["digest", "have"])
def test_who_was_heard_long_ago_is_not_alive(kind: str) -> None:
    peer = Driven(table())
    peer.tick(100)
    if kind == "digest":
        talk(peer, 1, 2)
    else:
        peer.hear(*(peer.table.have(who, []) for who in (1, 2)))
    assert calls(peer, 159.9, CheckIn) == []
    assert calls(peer, 170 + TIMING.hard_s, CheckIn)[0][0] <= 160 + TIMING.hard_s


def test_only_words_of_this_round_show_that_a_seat_is_alive() -> None:
    peer = Driven(table())
    old = [peer.table.have(who, []) for who in (1, 2)]
    peer.land(block=2)
    peer.tick(100)
    peer.hear(*old)
    assert calls(peer, STALL, CheckIn) == [(STALL, CheckIn())]


# Checking in


def test_checks_in_once_per_call() -> None:
    peer = Driven(table())
    peer.tick(50)
    assert CheckIn() in checked_in(peer, 1, call=7)
    assert CheckIn() not in checked_in(peer, 2, call=7)
    peer.tick(50 + RETRY - 0.01)
    assert len(peer.of(CheckIn)) == 1
    peer.tick(50 + RETRY)  # it is not on the ledger
    assert len(peer.of(CheckIn)) == 2
    checked_in(peer, 0, call=7)
    assert calls(peer, 50 + STALL, CheckIn) == []
    assert CheckIn() in checked_in(peer, 1, call=8)
    assert len(peer.of(CheckIn)) == 3


def test_the_next_call_does_not_wait_for_what_was_sent_into_the_one_before() -> None:
    peer = Driven(table())
    for call in (1, 2, 3):
        peer.now += 1
        assert CheckIn() in checked_in(peer, 1, call)


def test_the_one_that_opened_the_call_does_not_check_in_again() -> None:
    peer = Driven(table())
    peer.tick(STALL)
    checked_in(peer, 0)
    assert len(peer.of(CheckIn)) == 1
    assert calls(peer, 2 * STALL, CheckIn, CloseRollCall) == []


def test_does_not_check_in_after_the_window() -> None:
    peer = Driven(table())
    checked_in(peer, 1)
    peer.now = BEGAN + STALL
    sent = len(peer.of(CheckIn))
    peer.tell(Tick())
    assert len(peer.of(CheckIn)) == sent
    members = [who.member for who in peer.table.everybody]
    (closed, *_) = calls(peer, STALL + GRACE, CloseRollCall)
    assert closed == (STALL + GRACE, CloseRollCall((members[0], *members[2:])))  # it was too late itself


def test_a_check_in_of_another_round_changes_nothing() -> None:
    peer = Driven(table())
    for number in (0, 2):
        assert CheckIn() not in checked_in(peer, 1, round_number=number)
    assert peer.engine.round.roll_call.call == 0


# Closing


@pytest.mark.parametrize("who", range(4))
def test_closes_after_window_and_grace_one_seat_after_the_other(who: int) -> None:
    peer = Driven(table(), who=who)
    peer.tick(40)
    present = {who, 2}
    for each in sorted(present):
        checked_in(peer, each)
    absent = tuple(peer.table.everybody[each].member for each in range(4) if each not in present)
    due = 40 + STALL + GRACE + who * TIMING.d0_s
    assert calls(peer, due - 0.01, CloseRollCall) == []
    assert calls(peer, due, CloseRollCall) == [(due, CloseRollCall(absent))]


def test_a_late_check_in_counts_where_the_ledger_took_it() -> None:
    peer = Driven(table())
    checked_in(peer, 0)
    peer.tick(STALL - 1)
    checked_in(peer, 3)
    ((_, closing),) = calls(peer, STALL + GRACE, CloseRollCall)
    assert closing.absent == tuple(peer.table.everybody[each].member for each in (1, 2))


def test_closing_and_opening_the_next_call_alternate() -> None:
    """Nobody can know which of the two the ledger will take: too few may have come."""
    peer = Driven(table(), who=1)
    checked_in(peer, 1)
    closable, turn = STALL + GRACE + TIMING.d0_s, 4 * TIMING.d0_s
    absent = tuple(peer.table.everybody[each].member for each in (0, 2, 3))
    assert calls(peer, closable + 3 * turn, CheckIn, CloseRollCall) == [
        (closable, CloseRollCall(absent)),
        (closable + turn, CheckIn()),
        (closable + 2 * turn, CloseRollCall(absent)),
        (closable + 3 * turn, CheckIn()),
    ]
    peer.tell(Tick())
    began = peer.now - BEGAN
    checked_in(peer, 1, call=2)  # the next call is open: everything anew, and twice as long
    assert calls(peer, began + 2 * STALL + GRACE + TIMING.d0_s, CheckIn, CloseRollCall) == [
        (began + 2 * STALL + GRACE + TIMING.d0_s, CloseRollCall(absent))
    ]


@pytest.mark.parametrize("failed", [1, 2, 5, DOUBLINGS_MAX, DOUBLINGS_MAX + 3])
def test_every_failed_call_of_a_round_doubles_the_window_up_to_a_limit(failed: int) -> None:
    peer = Driven(table())
    for call in range(41, 41 + failed + 1):  # the run's 41st call is the first of this round
        checked_in(peer, 0, call)
    due = STALL * 2 ** min(failed, DOUBLINGS_MAX) + GRACE
    assert calls(peer, due, CloseRollCall)[0][0] == due


def test_the_doublings_begin_anew_in_the_next_round() -> None:
    peer = Driven(table())
    for call in range(1, 5):
        checked_in(peer, 0, call)
    peer.land(block=6)
    began = peer.now - BEGAN
    checked_in(peer, 0, call=5, round_number=2, block=7)
    assert calls(peer, began + STALL + GRACE, CloseRollCall)[0][0] == began + STALL + GRACE


# Who takes part


def test_a_peer_that_must_be_silent_checks_in_and_closes_too() -> None:
    peer = Driven(table(), silent_through=1)
    assert calls(peer, STALL, CheckIn)
    checked_in(peer, 0)
    assert calls(peer, 2 * STALL + GRACE, CloseRollCall)
    assert not peer.persisted


def test_nobody_calls_after_the_last_round_or_without_a_seat() -> None:
    finished = Driven(table(rounds=0))
    guest = Driven(table(guests=1), who=4)
    for peer in (finished, guest):
        checked_in(peer, 1)
        assert calls(peer, 5 * STALL, CheckIn, CloseRollCall) == []


def test_without_a_stall_time_there_is_no_call() -> None:
    peer = Driven(Table())
    assert peer.table.stall_s == math.inf and calls(peer, 10 * STALL, CheckIn) == []


def test_a_call_that_a_reorg_took_back_is_forgotten_and_told_again() -> None:
    peer = Driven(table())
    checked_in(peer, 0, block=5)
    checked_in(peer, 1, block=6)
    peer.tell(LedgerRewound(4))
    peer.tick(50)
    assert CheckIn() not in peer.last
    assert CheckIn() in checked_in(peer, 2, block=5)  # the own one is not on this chain
    checked_in(peer, 0, block=5)
    ((_, closing),) = calls(peer, 50 + STALL + GRACE, CloseRollCall)
    assert closing.absent == tuple(peer.table.everybody[each].member for each in (1, 3))


# What comes of it


def test_a_closed_call_is_a_round_and_training_goes_on() -> None:
    peer = Driven(table())
    before = peer.engine.standing
    peer.train()
    for who in (0, 1, 2):
        checked_in(peer, who)
    absent = (peer.table.everybody[3].member,)
    after = call_roll(before, peer.table.rules.run, absent, peer.engine.roster)
    at = Position(9, 0, keccak(b"9"))
    event = RollCalled(at, 1, after.head, before.head, before.state_root, absent)
    peer.tell(LedgerChanged((event,)))
    (apply,) = peer.of(Apply)
    assert (apply.standing, apply.body, apply.certified, apply.own, apply.at) == (
        after,
        None,
        None,
        False,
        at,
    )
    assert dict(apply.roster) == peer.table.roster
    peer.tell(StateApplied(after.head))
    assert peer.of(Train)[-1].standing == after
    assert not peer.of(Submit) and peer.engine.round.roll_call.call == 0
    peer.table.standing = after
    made = peer.train()
    assert made.signed.message.round == 2 and peer.said("update")[-1].id == made.id
    opened = calls(peer, peer.now - BEGAN + STALL, CheckIn)
    assert opened == [(STALL, CheckIn())]  # the stall counts from this head


def test_a_seat_that_was_dropped_has_nothing_more_to_call() -> None:
    peer = Driven(table())
    before, absent = peer.engine.standing, (peer.table.everybody[0].member,)
    after = call_roll(before, peer.table.rules.run, absent, peer.engine.roster)
    at = Position(9, 0, keccak(b"9"))
    peer.tell(LedgerChanged((RollCalled(at, 1, after.head, before.head, before.state_root, absent),)))
    peer.tell(StateApplied(after.head))
    assert not peer.of(Train)  # no block is its own in this round
    assert calls(peer, 3 * STALL, CheckIn, CloseRollCall) == []
    assert not peer.said("have")

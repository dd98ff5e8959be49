"""Steps 6 and 7: who proposes when, and what a seat signs."""

import msgspec
import pytest

from distrai.peer.book import BODIES_PER_MEMBER
from distrai.peer.events import BlobStored, Evaluate, StateComputed
from distrai.peer.identity import Timing
from distrai.protocol.body import Promotion
from distrai.protocol.canonical import encode_canonical
from helpers.engine import BEGAN, NEXT_STATE, TIMING, Driven, Table, reveal

SETTLED = TIMING.settle_s
"""Seconds from two thirds of the Haves, here at 0, to attempt 0."""
ATTEMPT_1 = SETTLED + TIMING.attempt_s(0)


def slow_path(who: int, table: Table | None = None, silent: int = 3):
    """A peer that heard three of four Haves at 0, holds all updates, and has opened them."""
    table = table or Table()
    peer = Driven(table, who)
    updates = [table.update(other) for other in range(table.seats)]
    peer.get(*(made for other, made in enumerate(updates) if other != who))
    peer.train()
    speakers = [other for other in range(table.seats) if other not in (who, silent)]
    peer.hear(*(table.have(other, updates) for other in speakers))
    reveal(peer, updates)
    peer.open_all()
    assert len(peer.said("have")) == 1
    return peer, table, updates


def compute(peer: Driven, state=NEXT_STATE) -> None:
    """Answer every Evaluate so far."""
    for effect in peer.of(Evaluate):
        peer.tell(StateComputed(effect.standing.head, effect.certified.updates_root, state))


def test_the_seat_whose_turn_it_is_proposes_once_when_settled() -> None:
    table = Table()
    peer, _, updates = slow_path(table.proposer_at(0))
    peer.tick(SETTLED - 0.01)
    assert not peer.of(Evaluate)
    peer.tick(SETTLED)
    assert not peer.said("proposal")  # the state is being computed
    compute(peer)
    (proposal,) = peer.said("proposal")
    assert proposal.message.attempt == 0
    assert proposal.message.updates == tuple(made.id for made in updates)
    assert proposal.message.body == encode_canonical(table.body(updates))
    assert len(proposal.message.haves) == 3 and len(proposal.message.keys) == 4
    assert any(record.raw == proposal.raw for record in peer.persisted)
    assert len(peer.said("signature")) == 1
    peer.tick(ATTEMPT_1 - 0.01)
    assert len(peer.said("proposal")) == 1


@pytest.mark.parametrize("attempt", range(6))
def test_proposers_rotate(attempt: int) -> None:
    table = Table()
    start = SETTLED + TIMING.attempt_start(attempt)
    for who in range(3):
        peer, _, _ = slow_path(who)
        peer.tick(start)
        compute(peer)
        peer.tick(start + 0.1)
        assert bool(peer.said("proposal")) == (who == table.proposer_at(attempt))


def test_an_attempt_begins_at_the_very_time_that_was_asked_for() -> None:
    peer, _, _ = slow_path(2)
    peer.now = BEGAN + SETTLED
    seen = {}
    while len(seen) < 8:
        peer.tick(peer.wakes_at)
        seen.setdefault(peer.engine.round.attempt(peer.now), peer.now - BEGAN)
    assert list(seen) == list(range(8))
    for attempt, at in seen.items():
        assert at == pytest.approx(SETTLED + TIMING.attempt_start(attempt), abs=1e-6)


@pytest.mark.parametrize("uptime", [0.1, 1234.567, 98765.4321, 1e6 + 1 / 3])
def test_rounding_does_not_put_an_attempt_off(uptime: float) -> None:
    for d0_s in (0.1, 0.3, 1.7, 3.0):
        timing = Timing(d0_s, 10.0, 20.0)
        settled = uptime + timing.settle_s
        for attempt in range(20):
            woken = settled + timing.attempt_start(attempt)
            assert timing.attempt_at(woken - settled)[0] == attempt


def test_signs_the_proposal_of_another_when_settled() -> None:
    peer, table, updates = slow_path(0)
    peer.hear(table.proposal(1, 0, updates))
    assert not peer.of(Evaluate)
    peer.tick(SETTLED)
    compute(peer)
    (signature,) = peer.said("signature")
    assert signature.message.body_id == table.body(updates).id
    record = next(record for record in peer.persisted if record.raw == signature.raw)
    assert record.listed == table.listed(updates)
    compute(peer)
    assert len(peer.said("signature")) == 1


def test_signs_a_proposal_of_an_attempt_that_is_not_on_yet() -> None:
    peer, table, updates = slow_path(0)
    peer.hear(table.proposal(2, 1, updates))
    peer.tick(SETTLED)
    compute(peer)
    assert len(peer.said("signature")) == 1


def test_does_not_sign_what_it_has_not_opened() -> None:
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in range(4)]
    peer.get(*updates[1:])
    peer.train()
    peer.hear(*(table.have(who, updates) for who in (1, 2, 3)))
    reveal(peer, updates[:-1])
    peer.open_all()
    peer.hear(table.proposal(1, 0, updates))
    peer.tick(SETTLED)
    assert not peer.of(Evaluate) and not peer.said("signature")
    reveal(peer, updates[-1:])
    peer.open_all()
    compute(peer)
    assert len(peer.said("signature")) == 1


def test_does_not_sign_what_fewer_than_two_thirds_hold() -> None:
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in range(4)]
    peer.get(*updates[2:])
    peer.train()
    peer.hear(updates[1].signed, table.have(1, updates), table.have(2, updates))
    peer.tick(TIMING.cut_s)
    assert updates[1].id not in peer.said("have")[0].message.updates
    peer.tell(BlobStored(updates[1].blob))
    reveal(peer, updates)
    peer.open_all()
    peer.hear(table.proposal(1, 0, updates))
    peer.tick(TIMING.cut_s + SETTLED)
    assert not peer.of(Evaluate)
    peer.hear(table.proposal(2, 1, [updates[0], *updates[2:]]))
    compute(peer)
    assert len(peer.said("signature")) == 1


def test_does_not_sign_a_list_without_something_required_for_long() -> None:
    peer, table, updates = slow_path(0)
    peer.hear(table.proposal(1, 0, updates[:-1]))
    for at in (SETTLED, ATTEMPT_1, ATTEMPT_1 + TIMING.attempt_s(1)):
        peer.tick(at)
    assert not peer.of(Evaluate) and not peer.said("signature")


def late_key():
    """Like ``slow_path``, but the last update's key is not known yet."""
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in range(4)]
    peer.get(*updates[1:])
    peer.train()
    peer.hear(table.have(1, updates), table.have(2, updates))
    reveal(peer, updates[:-1])
    peer.open_all()
    return peer, table, updates


@pytest.mark.parametrize(("opened_before", "signs"), [(TIMING.d0_s + 0.1, False), (TIMING.d0_s - 0.1, True)])
def test_what_became_required_just_before_the_attempt_may_be_missing(
    opened_before: float, signs: bool
) -> None:
    """Required since before max(receipt, start of attempt) - D_0, with D_0 = 3 s, and attempt 0 from 7.5 s on."""
    peer, table, updates = late_key()
    peer.now = BEGAN + SETTLED - opened_before
    reveal(peer, updates[-1:])
    peer.open_all()
    peer.hear(table.proposal(1, 0, updates[:-1]))
    peer.tick(SETTLED)
    compute(peer)
    assert bool(peer.said("signature")) == signs


@pytest.mark.parametrize(("waited", "signs"), [(TIMING.d0_s + 0.1, False), (TIMING.d0_s - 0.1, True)])
def test_a_late_receipt_counts_and_no_attempt_beyond_the_own(waited: float, signs: bool) -> None:
    """In the own attempt 0 a proposal for attempt 9 is judged by D_0 before its receipt, not by the longer D_9."""
    peer, table, updates = late_key()
    peer.now = BEGAN + SETTLED + 1
    reveal(peer, updates[-1:])
    peer.open_all()
    peer.now += waited
    peer.hear(table.proposal(2, 9, updates[:-1]))
    compute(peer)
    assert bool(peer.said("signature")) == signs


@pytest.mark.parametrize(("attempt", "signs"), [(2, True), (1, False)])
def test_in_a_later_attempt_more_may_be_missing(attempt: int, signs: bool) -> None:
    """Required 5 s before receipt, in the own attempt 2: less than D_2 = 6.75 s, and more than D_1 = 4.5 s."""
    peer, table, updates = late_key()
    start = SETTLED + TIMING.attempt_start(2)
    peer.now = BEGAN + start - 5
    reveal(peer, updates[-1:])
    peer.open_all()
    peer.tick(start)
    peer.hear(table.proposal((attempt + 1) % 4, attempt, updates[:-1]))
    compute(peer)
    assert bool(peer.said("signature")) == signs


def test_a_required_update_of_a_have_that_was_sent_twice_is_not_required() -> None:
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in range(4)]
    peer.get(*updates[1:])
    peer.train()
    peer.hear(table.have(1, updates), table.have(2, updates), table.have(2, updates[:1]))
    peer.hear(table.have(3, updates[:-1]))
    reveal(peer, updates)
    peer.open_all()
    book = peer.engine.round.book
    last = updates[-1].id
    assert book.named_by(last) == 3 and last in book.allowed() and last not in book.required()
    peer.hear(table.proposal(1, 0, updates[:-1]))
    peer.tick(SETTLED)
    compute(peer)
    assert len(peer.said("signature")) == 1


WRONG = {
    "WrongStateRoot": lambda table, updates: {"state_root": bytes(32)},
    "WrongUpdatesRoot": lambda table, updates: {"updates_root": table.listed(updates[:1]).updates_root},
    "WrongTrainersRoot": lambda table, updates: {"trainers_root": bytes(32)},
    "WrongMembershipChange": lambda table, updates: {"drops": (table.everybody[0].member,)},
    "WrongRound": lambda table, updates: {"round": 2},
    "WrongHead": lambda table, updates: {"previous_head": bytes(32)},
    "UnsortedList": lambda table, updates: {"drops": (table.everybody[1].member, table.everybody[0].member)},
}


@pytest.mark.parametrize("rule", [*WRONG, "promotion", "NotCanonical", "MalformedMessage"])
def test_a_false_body_is_refused_by_name_and_never_signed(rule: str) -> None:
    peer, table, updates = slow_path(0)
    body = table.body(updates)
    raw = encode_canonical(body)
    if rule in WRONG:
        raw = encode_canonical(msgspec.structs.replace(body, **WRONG[rule](table, updates)))
    elif rule == "promotion":
        promotion = Promotion(table.everybody[0].member, table.everybody[0].address)
        raw = encode_canonical(msgspec.structs.replace(body, promotions=(promotion,)))
        rule = "WrongMembershipChange"
    elif rule == "NotCanonical":
        raw = b"\x98\xcd\x00\x07" + raw[2:]  # the run, spelt with two bytes more
    else:
        raw = b"nonsense"
    peer.hear(table.again(1, table.proposal(1, 0, updates), body=raw))
    peer.tick(SETTLED)
    compute(peer)
    assert peer.refused == [rule] and not peer.said("signature")
    peer.tick(SETTLED + 1)
    assert peer.refused == [rule]


def test_a_list_out_of_order_is_not_signed() -> None:
    peer, table, updates = slow_path(0)
    good = table.proposal(1, 0, updates)
    peer.hear(table.again(1, good, updates=good.message.updates[::-1]))
    peer.tick(SETTLED)
    assert not peer.of(Evaluate) and not peer.said("signature")


# Empty rounds


def nobody_trained(who: int, min_updates: int = 1):
    """All four seats spoke at 0, and nothing is held by two thirds but one update where two are needed."""
    table = Table(min_updates=min_updates)
    peer = Driven(table, who)
    updates = [table.update(1)] if min_updates > 1 else []
    if updates and who != 1:
        peer.get(*updates)
    elif updates:
        peer.train()
    peer.hear(*(table.have(other, updates) for other in range(4) if other != who))
    reveal(peer, updates)
    peer.open_all()
    return peer, table, updates


@pytest.mark.parametrize("min_updates", [1, 2])
def test_an_empty_round_is_proposed_only_from_attempt_1_on_and_changes_nothing(min_updates: int) -> None:
    table = Table()
    first, _, _ = nobody_trained(table.proposer_at(0), min_updates)
    first.tick(SETTLED)
    assert not first.said("proposal")
    second, _, _ = nobody_trained(table.proposer_at(1), min_updates)
    second.tick(ATTEMPT_1)
    (proposal,) = second.said("proposal")
    assert proposal.message.updates == () and proposal.message.haves == ()
    assert not second.of(Evaluate)
    (signature,) = second.said("signature")
    body = table.body([])
    assert signature.message.body_id == body.id and body.state_root == table.standing.state_root


def test_an_empty_list_is_signed_only_in_an_own_attempt_of_at_least_1() -> None:
    peer, table, _ = nobody_trained(0)
    peer.hear(table.proposal(2, 1, []))
    peer.tick(ATTEMPT_1 - 0.01)
    assert not peer.said("signature")
    peer.tick(ATTEMPT_1)
    assert len(peer.said("signature")) == 1


def test_an_empty_list_that_changes_the_state_is_refused() -> None:
    peer, table, _ = nobody_trained(0)
    peer.hear(table.proposal(2, 1, [], body=table.body([], state_root=NEXT_STATE)))
    peer.tick(ATTEMPT_1)
    assert peer.refused == ["WrongStateRoot"] and not peer.said("signature")


def test_an_empty_list_is_not_signed_where_enough_is_required() -> None:
    peer, table, _ = slow_path(0)
    peer.hear(table.proposal(2, 1, []))
    peer.tick(ATTEMPT_1)
    assert not peer.said("signature")


def test_too_short_a_list_is_not_signed() -> None:
    peer, table, updates = nobody_trained(0, min_updates=2)
    peer.hear(table.proposal(2, 1, updates))
    peer.tick(ATTEMPT_1)
    assert not peer.of(Evaluate) and not peer.said("signature")


# Limits


def test_signs_at_most_as_many_bodies_as_others_keep() -> None:
    peer, table, updates = slow_path(0)
    peer.tick(SETTLED)
    peer.engine.round.required_since = {}
    round_ = peer.engine.round
    for number in range(BODIES_PER_MEMBER + 3):
        body = table.body(updates, state_root=bytes([number]) * 32)
        round_.agreement._sign(body, table.listed(updates), peer.now)
    peer.tick(SETTLED + 0.1)
    assert len(peer.said("signature")) == BODIES_PER_MEMBER


def test_a_third_have_is_taken_when_a_rightful_proposal_relies_on_it() -> None:
    """Else a seat that tells everybody something else would stop the round: no two honest lists would agree."""
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in range(4)]
    peer.get(*updates[1:])
    peer.train()
    peer.hear(table.have(1, updates), table.have(2, updates[:3]))
    first, second, third = table.have(3, updates[:3]), table.have(3, updates[:2]), table.have(3, updates)
    peer.hear(first, second, third)
    assert peer.refused == ["Equivocation"]
    peer.tick(TIMING.cut_s)  # the own Have names all four
    reveal(peer, updates)
    peer.open_all()
    book = peer.engine.round.book
    assert updates[3].id not in book.allowed()
    peer.hear(table.proposal(1, 0, updates, haves=(third.id,)))
    peer.hear(third)
    peer.open_all()
    assert updates[3].id in book.allowed() and third.id in {signed.id for signed in book.objects()}
    peer.tick(TIMING.cut_s + SETTLED)
    compute(peer)
    assert len(peer.said("signature")) == 1
    fourth = table.have(3, updates[1:])
    peer.hear(fourth)
    assert peer.refused == ["Equivocation", "Equivocation"]


def test_a_proposal_names_the_haves_it_relies_on_also_those_of_liars() -> None:
    peer, table, updates = slow_path(Table().proposer_at(0))
    liar = table.have(3, updates[:1])
    peer.hear(table.have(3, updates), liar)
    peer.tick(SETTLED)
    compute(peer)
    (proposal,) = peer.said("proposal")
    assert liar.id in proposal.message.haves and len(proposal.message.haves) == 5

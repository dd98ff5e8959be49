"""Step 9: a new head is exactly what landed, whoever saw it coming."""

import pytest

from distrai.peer.engine import Checkpoint
from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    Evaluate,
    Fetch,
    LedgerChanged,
    ListArrived,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Train,
)
from distrai.protocol.body import Promotion
from distrai.protocol.errors import WrongHead, WrongRound
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Joined, KeyChanged, Left, Position
from distrai.protocol.lists import CertifiedList, Entry, Trainer
from distrai.protocol.primitives import ZERO_HASH
from distrai.simulation.toy import make_identity
from helpers.engine import GENESIS_STATE, NEXT_STATE, TIMING, Driven, Table, everyone_spoke


def signed_list(table: Table):
    """A peer that signed the list of all four updates."""
    peer = Driven(table)
    own = peer.train()
    updates = [own, *(table.update(who) for who in (1, 2, 3))]
    peer.get(*updates[1:])
    everyone_spoke(peer, updates)
    peer.open_all()
    (evaluate,) = peer.of(Evaluate)
    peer.tell(StateComputed(table.standing.head, evaluate.certified.updates_root, NEXT_STATE))
    assert peer.said("signature")
    return peer, updates


def test_the_start_follows_from_the_ledgers_events() -> None:
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    peer.tell(LedgerChanged(table.opening()))
    assert peer.engine.standing == table.standing
    (train,) = peer.of(Train)
    assert train.standing.state_root == GENESIS_STATE


def test_a_start_with_another_head_stops_the_peer() -> None:
    table = Table()
    peer = Driven(table, checkpoint=Checkpoint())
    *joined, started = table.opening()
    wrong = type(started)(started.at, NEXT_STATE, started.seats)
    with pytest.raises(WrongHead):
        peer.tell(LedgerChanged((*joined, wrong)))


def test_a_list_that_was_signed_here_is_applied_at_once() -> None:
    table = Table()
    peer, updates = signed_list(table)
    body = table.body(updates)
    event = table.certified(body)
    effects = peer.tell(LedgerChanged((event,)))
    at = [type(effect) for effect in effects].index(StopTraining)
    apply = effects[at + 1]
    assert isinstance(apply, Apply) and apply.own and apply.at == event.at
    assert apply.before == table.standing and apply.certified == table.listed(updates)
    after = apply.standing
    assert (after.round, after.head, after.state_root) == (1, body.head, NEXT_STATE)
    assert after.cursor == apply.certified.cursor and after.recent[0].members == {
        who.member for who in table.everybody
    }
    assert peer.engine.standing == after
    peer.tell(StateApplied(after.head))
    assert peer.of(Train)[-1].standing == after


def test_a_peer_without_the_list_asks_everybody_again_and_again_and_checks_what_it_gets() -> None:
    table = Table()
    peer = Driven(table)
    updates = [table.update(who) for who in (1, 2, 3)]
    body = table.body(updates)
    peer.tell(LedgerChanged((table.certified(body),)))
    (request,) = peer.said("list-request")
    assert request.message.updates_root == body.updates_root and request.message.round == 1
    assert set(peer.of(Send)[-1].to) == {who.member for who in table.everybody[1:]}
    peer.tick(TIMING.d0_s - 0.01)
    assert len(peer.said("list-request")) == 1
    peer.tick(TIMING.d0_s)
    assert len(peer.said("list-request")) == 2
    peer.tell(ListArrived(table.listed(updates[:2])))
    good = table.listed(updates)
    peer.tell(ListArrived(CertifiedList(good.cursor + 1, good.trainers, good.entries)))
    assert peer.refused == ["WrongUpdatesRoot", "WrongTrainersRoot"] and not peer.of(Apply)
    peer.tell(ListArrived(good))
    assert not peer.of(Apply)  # the ciphertexts are missing
    assert {fetch.blob.hash for fetch in peer.of(Fetch)} == {made.blob for made in updates}
    for made in updates:
        peer.tell(BlobStored(made.blob))
    (apply,) = peer.of(Apply)
    assert not apply.own and apply.certified == good


def test_a_list_whose_updates_are_not_signed_by_their_trainers_is_refused() -> None:
    """Their signatures are in no hash: a list with wrong ones would be offered on, and published."""
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.tell(BlobStored(made.blob))
    body = table.body([made])
    peer.tell(LedgerChanged((table.certified(body),)))
    forged = table.sign(2, made.signed.message)
    good = table.listed([made])
    peer.tell(ListArrived(CertifiedList(good.cursor, good.trainers, (Entry(forged.raw, made.sealed.key),))))
    assert peer.refused == ["BadSignature"] and not peer.of(Apply)
    peer.tell(ListArrived(good))
    assert len(peer.of(Apply)) == 1


def test_ciphertexts_that_cannot_be_had_are_asked_for_again() -> None:
    table = Table()
    peer = Driven(table)
    made = table.update(1)
    peer.tell(LedgerChanged((table.certified(table.body([made])),)))
    peer.tell(ListArrived(table.listed([made])))
    (fetch,) = peer.of(Fetch)
    assert fetch.holders[0] == table.everybody[1].member and len(fetch.holders) == 3
    peer.tell(BlobFailed(made.blob))
    assert len(peer.of(Fetch)) == 1
    peer.tick(TIMING.d0_s)
    assert len(peer.of(Fetch)) == 2


def test_an_empty_round_needs_no_list() -> None:
    table = Table()
    peer = Driven(table)
    peer.tell(LedgerChanged((table.certified(table.body([])),)))
    (apply,) = peer.of(Apply)
    assert apply.standing.state_root == table.standing.state_root and not apply.standing.recent
    assert not peer.said("list-request")


def test_several_rounds_land_in_order_and_events_in_between_wait() -> None:
    table = Table()
    peer = Driven(table)
    first = table.body([table.update(1)])
    guest = make_identity(30)
    joined = Joined(Position(11, 0, ZERO_HASH), guest.member, guest.address, False)
    ahead = Driven(Table())
    ahead.tell(BlobStored(table.update(1).blob))
    ahead.tell(LedgerChanged((table.certified(first),)))
    ahead.tell(ListArrived(table.listed([table.update(1)])))
    ahead.table.standing = ahead.engine.standing
    second = ahead.table.body([])
    peer.tell(LedgerChanged((table.certified(first), joined, table.certified(second, 12))))
    assert not peer.of(Apply) and guest.member not in peer.engine.roster
    peer.tell(BlobStored(table.update(1).blob))
    peer.tell(ListArrived(table.listed([table.update(1)])))
    one, two = peer.of(Apply)
    assert (one.standing.round, two.standing.round) == (1, 2)
    assert guest.member not in {trainer.member for trainer in one.standing.next_trainers}
    assert guest.member in {trainer.member for trainer in two.standing.next_trainers}
    assert guest.member not in two.standing.trainer_members


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (WrongRound, {"round": 2}),
        (WrongHead, {"previous_head": NEXT_STATE}),
    ],
)
def test_a_certificate_that_does_not_follow_stops_the_peer(error, changes) -> None:
    """Only two thirds of liars, or another ledger, can make one."""
    table = Table()
    peer = Driven(table)
    with pytest.raises(error):
        peer.tell(LedgerChanged((table.certified(table.body([], **changes)),)))


def test_what_landed_counts_though_it_does_not_follow_from_the_own_view() -> None:
    """After a reorg those who signed may have seen another order of the joins: their certificate is the round."""
    table = Table(guests=1)
    peer = Driven(table)
    guest, gone = table.everybody[4], table.everybody[3].member
    promoted = Promotion(guest.member, guest.address)
    listed = CertifiedList(table.listed([]).cursor, table.standing.next_trainers[1:], ())
    body = table.body([], trainers_root=listed.trainers_root, promotions=(promoted,), drops=(gone,))
    peer.tell(LedgerChanged((table.certified(body),)))
    assert len(peer.said("list-request")) == 1 and not peer.of(
        Apply
    )  # even of an empty one: who trains is in it
    peer.tell(ListArrived(table.listed([])))
    assert peer.refused == ["WrongTrainersRoot"]
    peer.tell(ListArrived(listed))
    (apply,) = peer.of(Apply)
    after = apply.standing
    assert after.head == body.head and (after.trainers, after.cursor) == (listed.trainers, listed.cursor)
    assert {*after.seat_members} == {who.member for who in table.everybody} - {gone}


def test_a_head_that_does_not_follow_from_its_body_stops_the_peer() -> None:
    table = Table()
    peer = Driven(table)
    event = table.certified(table.body([]))
    with pytest.raises(WrongHead):
        peer.tell(LedgerChanged((type(event)(event.at, event.body, NEXT_STATE),)))


def test_who_leaves_or_changes_its_key_counts_from_the_next_head_on() -> None:
    table = Table()
    peer = Driven(table)
    left, rotated = table.everybody[1], table.everybody[2]
    key = make_identity(40).address
    peer.tell(
        LedgerChanged(
            (
                Left(Position(5, 0, ZERO_HASH), left.member),
                KeyChanged(Position(5, 1, ZERO_HASH), rotated.member, key),
                table.certified(table.body([])),
            )
        )
    )
    after = peer.engine.standing
    assert after.trainers == table.standing.next_trainers
    assert left.member not in {trainer.member for trainer in after.next_trainers}
    # A seat keeps its key until it is promoted with the new one.
    assert Trainer(rotated.member, rotated.address) in after.next_trainers
    table.standing = after
    assert table.body([]).drops == (left.member,)
    peer.tell(LedgerChanged((table.certified(table.body([]), 11),)))
    assert left.member not in peer.engine.standing.seat_members


def test_a_seat_that_missed_four_lists_is_dropped_and_no_longer_speaks() -> None:
    table = Table()
    peer = Driven(table)
    for number in range(4):
        made = [table.update(who) for who in (1, 2, 3)]
        for item in made:
            peer.tell(BlobStored(item.blob))
        body = table.body(made, state_root=keccak(b"%d" % number))
        assert not body.drops
        peer.tell(LedgerChanged((table.certified(body, 10 + number),)))
        peer.tell(ListArrived(table.listed(made)))
        table.standing = peer.engine.standing
    assert table.body([]).drops == (table.everybody[0].member,)
    peer.tell(LedgerChanged((table.certified(table.body([]), 20),)))
    after = peer.engine.standing
    assert table.everybody[0].member not in after.seat_members and len(after.seats) == 3
    assert table.everybody[0].member in after.trainer_members
    peer.tick(TIMING.hard_s)
    assert not [signed for signed in peer.said("have") if signed.message.round == 6]


def test_a_finished_round_forgets_what_it_knew() -> None:
    table = Table()
    peer, updates = signed_list(table)
    peer.tell(LedgerChanged((table.certified(table.body(updates)),)))
    assert not list(peer.engine.round.book.objects()) and not peer.engine.round.own.bodies


def test_only_what_came_in_the_round_is_left_over() -> None:
    """An author may announce any blob as its own, also one that everybody needs."""
    table = Table()
    old, young, listed = table.update(1), table.update(2), table.update(3)
    peer = Driven(table, held=(old.blob,))
    peer.get(old, young, listed)
    peer.tell(LedgerChanged((table.certified(table.body([listed])),)))
    peer.tell(ListArrived(table.listed([listed])))
    (apply,) = peer.of(Apply)
    assert apply.leftovers == (young.sealed.blob,)

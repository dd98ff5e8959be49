"""Promotions and drops: seats change inside a certificate only."""

import pytest

from contracts.support.players import NOBODY, Key, Running, promotion, refused


def promote(running: Running, *members, **changes) -> None:
    pairs = tuple(sorted(promotion(member) for member in members))
    running.certify(running.body(promotions=pairs, **changes))
    kept = [seat for seat in running.seats if seat.id not in {member.id for member in members}]
    running.seats = sorted([*kept, *members])


def drop(running: Running, *members, **changes) -> None:
    running.certify(running.body(drops=tuple(sorted(member.id for member in members)), **changes))
    running.seats = [seat for seat in running.seats if seat not in members]


def test_a_promoted_trainer_is_a_seat(world):
    running, trainer = world.started(3), world.member()
    world.join(running.run, trainer)
    with refused("NotASeatKey", trainer.key.address):
        running.certify(signers=[trainer, running.seats[0]])
    promote(running, trainer)
    assert running.state.seats == 4
    assert world.read("seatOf", running.run, trainer.key.address) == trainer.id
    assert world.read("membership", running.run, trainer.id)[0] == trainer.key.address
    with refused("NotEnoughSignatures", 2, 4):
        running.certify(signers=running.seats[:2])
    running.certify(signers=[trainer, *[seat for seat in running.seats if seat != trainer][:2]])


def test_a_pair_need_not_be_current_nor_joined(world):
    """A head fixes seats and keys whatever lands in between: who rotated or left meanwhile is a seat with that key."""
    running, trainer = world.started(3), world.member()
    rotated = world.rotate(trainer, Key("newer"))
    promote(running, trainer)
    assert world.read("seatOf", running.run, trainer.key.address) == trainer.id
    assert world.read("seatOf", running.run, rotated.key.address) == bytes(32)


def test_a_pair_must_have_been_registered(world):
    running, trainer, other = world.started(3), world.member(), world.member()
    for key in (Key("unknown"), other.key):
        with refused("NeverRegistered", trainer.id, key.address):
            running.certify(running.body(promotions=(promotion(trainer, key),)))
    nobody = promotion(trainer).__class__(bytes(32), NOBODY)
    with refused("UnsortedMembers", bytes(32), bytes(32)):
        running.certify(running.body(promotions=(nobody,)))
    with refused("NeverRegistered", trainer.id, NOBODY):
        running.certify(running.body(promotions=(nobody.__class__(trainer.id, NOBODY),)))


def test_a_seat_keeps_its_old_key_until_it_is_promoted(world):
    running = world.started(3)
    old, second, third = running.seats
    new = world.rotate(old, Key("new"))
    with refused("NotASeatKey", new.key.address):
        running.certify(signers=[new, second, third])
    running.certify(signers=[old, second, third])
    promote(running, new)
    assert running.state.seats == 3
    with refused("NotASeatKey", old.key.address):
        running.certify(signers=[old, second, third])
    running.certify(signers=[new, second, third])
    assert world.read("membership", running.run, old.id)[0] == new.key.address
    assert world.read("seatOf", running.run, old.key.address) == bytes(32)


def test_promoting_a_seat_with_the_key_that_it_has_changes_nothing(world):
    running = world.started(3)
    promote(running, running.seats[0])
    assert running.state.seats == 3
    running.certify(signers=running.seats)


def test_dropped_seats_sign_no_more(world):
    running = world.started(4, min_seats=2)
    dropped = running.seats[1]
    drop(running, dropped)
    assert running.state.seats == 3
    assert world.read("seatOf", running.run, dropped.key.address) == bytes(32)
    with refused("NotASeatKey", dropped.key.address):
        running.certify(signers=[dropped, running.seats[0]])
    running.certify(signers=running.seats[:2])


def test_a_dropped_member_still_trains_and_can_be_promoted_again(world):
    running = world.started(4)
    dropped = running.seats[1]
    drop(running, dropped)
    assert world.read("membership", running.run, dropped.id)[1] == 1
    promote(running, dropped)
    assert running.state.seats == 4


def test_only_seats_are_dropped_and_once(world):
    running, stranger = world.started(4), world.member()
    first, second, *_ = running.seats
    with refused("NotASeat", running.run, stranger.id):
        running.certify(running.body(drops=(stranger.id,)))
    with refused("UnsortedMembers", first.id, first.id):
        running.certify(running.body(drops=(first.id, first.id)))
    with refused("UnsortedMembers", second.id, first.id):
        running.certify(running.body(drops=(second.id, first.id)))
    drop(running, first)
    with refused("NotASeat", running.run, first.id):
        running.certify(running.body(drops=(first.id,)))


def test_promotions_are_sorted_and_once(world):
    running = world.started(3)
    first, second = world.members(2)
    with refused("UnsortedMembers", second.id, first.id):
        running.certify(running.body(promotions=(promotion(second), promotion(first))))
    with refused("UnsortedMembers", first.id, first.id):
        running.certify(running.body(promotions=(promotion(first), promotion(first))))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_nobody_is_promoted_and_dropped_at_once(world, position):
    running = world.started(4)
    both = running.seats[position]
    others = [seat.id for seat in running.seats[:3]]
    with refused("PromotedAndDropped", both.id):
        running.certify(running.body(promotions=(promotion(both),), drops=tuple(others)))


def test_seats_never_fall_below_the_least(world):
    running = world.started(4, min_seats=3)
    first, second, *_ = running.seats
    with refused("TooFewSeats", 2, 3):
        drop(running, first, second)
    drop(running, first)
    assert running.state.seats == 3
    newcomer = world.member()
    drop(running, second, promotions=(promotion(newcomer),))
    assert running.state.seats == 3


def test_seats_never_exceed_the_most(world):
    running = world.started(3, max_seats=4)
    first, second = world.members(2)
    with refused("TooManySeats", 5, 4):
        promote(running, first, second)
    promote(running, first)
    with refused("TooManySeats", 5, 4):
        promote(running, second)
    rotated = world.rotate(first, Key("rotated"))
    promote(running, rotated)
    assert running.state.seats == 4


def test_at_most_32_promotions_and_32_drops(world):
    running = world.started(33, min_seats=1, max_seats=64)
    newcomers = world.members(33)
    with refused("TooManyChanges", 33, 0):
        promote(running, *newcomers)
    with refused("TooManyChanges", 0, 33):
        drop(running, *running.seats)
    leaving = running.seats[:32]
    pairs = tuple(promotion(member) for member in newcomers[:32])
    running.certify(running.body(promotions=pairs, drops=tuple(seat.id for seat in leaving)))
    running.seats = sorted([running.seats[32], *newcomers[:32]])
    assert running.state.seats == 33
    running.certify(signers=running.seats)


def test_a_refused_change_changes_nothing(world):
    running, trainer = world.started(3), world.member()
    with refused("NeverRegistered"):
        running.certify(
            running.body(
                drops=(running.seats[0].id,),
                promotions=tuple(sorted([promotion(trainer), promotion(world.member(), Key("unknown"))])),
            )
        )
    assert (running.state.seats, running.state.round) == (3, 0)
    assert world.read("seatOf", running.run, trainer.key.address) == bytes(32)
    running.certify(signers=running.seats)


def test_an_empty_round_changes_seats_as_well(world):
    running, trainer = world.started(3), world.member()
    running.certify(running.empty(promotions=(promotion(trainer),), drops=(running.seats[0].id,)))
    assert running.state.seats == 3

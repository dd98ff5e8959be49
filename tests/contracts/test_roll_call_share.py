"""How many seats a roll call needs: seats cannot be whittled down, and epochs count non-empty rounds."""

import pytest

from contracts.support.players import GRACE, STALL, promotion, refused


def test_more_than_32_may_be_dropped(world):
    running = world.stalled(64, roll_call=(1, 4))
    there, absent = running.seats[::4], [seat for at, seat in enumerate(running.seats) if at % 4]
    for seat in there:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    running.close(absent)
    assert running.state.seats == 16
    running.certify(signers=there)


@pytest.mark.parametrize(("seats", "share", "needed"), [
    (4, (1, 2), 2), (5, (1, 2), 3), (3, (2, 3), 2), (4, (2, 3), 3), (7, (1, 64), 1), (3, (1, 1), 3), (1, (1, 2), 1),
])  # fmt: skip
def test_a_share_of_the_seats_is_needed_rounded_up(world, seats, share, needed):
    running = world.stalled(seats, roll_call=share)
    assert world.read("rollCall", running.run)[1] == needed
    for seat in running.seats[: needed - 1]:
        running.check_in(seat)
    if needed > 1:
        point = world.evm.snapshot()
        running.wait(STALL + GRACE)
        with refused("TooFewCheckedIn", needed - 1, needed):
            running.close(running.seats[needed - 1 :])
        world.evm.revert(point)
    running.check_in(running.seats[needed - 1])
    running.wait(STALL + GRACE)
    running.close(running.seats[needed:])
    assert running.state.seats == needed


def test_roll_calls_cannot_whittle_the_seats_down(world):
    """Half of those at the epoch's start, whatever is left of them."""
    running = world.stalled(8)
    for seat in running.seats[:4]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    running.close(running.seats[4:])
    running.wait(STALL)
    for seat in running.seats[:3]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    with refused("TooFewCheckedIn", 3, 4):
        running.close([running.seats[3]])


def test_drops_in_the_epoch_do_not_lower_what_is_needed(world):
    running = world.started(6)
    gone = running.seats[4:]
    running.certify(running.body(drops=tuple(seat.id for seat in gone)))
    assert (running.state.seats, running.state.epoch_seats) == (4, 6)
    assert world.read("rollCall", running.run)[1] == 3


def test_seats_that_came_in_the_epoch_raise_what_is_needed(world):
    running = world.started(2)
    pairs = tuple(promotion(member) for member in world.members(4))
    running.certify(running.body(promotions=pairs))
    assert (running.state.seats, running.state.epoch_seats) == (6, 2)
    assert world.read("rollCall", running.run)[1] == 3


def test_epochs_count_non_empty_rounds(world):
    running = world.started(3, epoch_rounds=3)
    dropped, *kept = running.seats
    running.certify(running.body(drops=(dropped.id,)))
    running.seats = kept
    for _ in range(4):
        running.certify(running.empty())
    running.certify()
    assert running.state.epoch_seats == 3
    running.certify()
    assert (running.state.epoch_seats, running.state.progress[4]) == (2, 3)
    for left in (2, 1, 3):
        running.certify()
        assert running.state.progress[4] == left


def test_an_epoch_begins_with_the_seats_after_the_round(world):
    running = world.started(3, epoch_rounds=1)
    running.certify(running.body(drops=(running.seats[2].id,)))
    assert running.state.epoch_seats == 2


def test_roll_calls_do_not_count_as_rounds_of_an_epoch(world):
    running = world.stalled(2, epoch_rounds=1)
    running.check_in(running.seats[0])
    running.wait(STALL + GRACE)
    running.close([running.seats[1]])
    assert running.state.epoch_seats == 2


def test_a_roll_call_may_go_below_min_seats(world):
    """Then certificates drop nobody, until there are enough seats again."""
    running = world.stalled(4, min_seats=4)
    for seat in running.seats[:3]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    running.close(running.seats[3:])
    running.seats = running.seats[:3]
    with refused("TooFewSeats", 2, 4):
        running.certify(running.body(drops=(running.seats[0].id,)))
    running.certify()

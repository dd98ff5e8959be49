"""Roll calls: a run goes on without those that vanished, and seats cannot be whittled down."""

import pytest

from contracts.support.players import GRACE, NOBODY, STALL, Key, refused
from distrai.protocol.body import roll_call_head

STRANGER = Key("stranger").address


def close_of(running):
    return running.world.read("rollCall", running.run)[2]


def test_a_stalled_run_goes_on_with_those_that_are_there(world):
    running = world.stalled(5)
    there, absent = running.seats[:3], running.seats[3:]
    before = running.state
    for seat in there:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    outcome = running.close(absent)
    drops, state = tuple(seat.id for seat in absent), running.state
    head = roll_call_head(before.head, 1, before.state_root, drops)
    assert outcome.log.name == "RollCalled"
    assert outcome.log.arguments == {
        "run": running.run,
        "round": 1,
        "head": head,
        "previousHead": before.head,
        "stateRoot": before.state_root,
        "drops": drops,
    }
    assert (state.head, state.state_root, state.round) == (head, before.state_root, 1)
    assert state.progress == (1, world.evm.now, 3, 5, 8, 2)
    assert state.beacon != before.beacon
    with refused("NotASeatKey", absent[0].key.address):
        running.certify(signers=[*there, absent[0]])
    running.certify(signers=there[:2])
    assert running.state.round == 2


def test_all_may_be_there(world):
    """Someone talked and never signed: the round ends, and nobody loses a seat."""
    running = world.stalled(3)
    for seat in running.seats:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    assert running.close([]).log.arguments["drops"] == ()
    assert (running.state.seats, running.state.round) == (3, 1)


def test_a_call_opens_when_the_run_has_stalled(world):
    running = world.started(3)
    opens = running.state.progress[1] + STALL
    running.wait(STALL - 1)
    with refused("NotStalled", opens):
        running.check_in(running.seats[0])
    running.wait(1)
    outcome = running.check_in(running.seats[0])
    assert outcome.log.name == "CheckedIn"
    assert outcome.log.arguments == {
        "run": running.run,
        "member": running.seats[0].id,
        "round": 1,
        "call": 1,
        "closesAt": world.evm.now + STALL,
        "closableAt": world.evm.now + STALL + GRACE,
    }
    assert world.read("rollCall", running.run) == (
        (1, 1, world.evm.now + STALL, 0, 1), 2, world.evm.now + STALL + GRACE
    )  # fmt: skip


def test_every_head_restarts_the_clock(world):
    running = world.started(1)
    running.wait(STALL)
    running.certify(running.empty())
    with refused("NotStalled", world.evm.now + STALL):
        running.check_in(running.seats[0])


def test_only_seats_check_in_and_once(world):
    running, trainer = world.stalled(3), world.member()
    world.join(running.run, trainer)
    for sender in (STRANGER, trainer.key.address, trainer.controller, running.seats[0].controller):
        with refused("NotASeatSender", running.run, sender):
            world.send(sender, "checkIn", running.run)
    running.check_in(running.seats[0])
    with refused("AlreadyCheckedIn", running.run, running.seats[0].id):
        running.check_in(running.seats[0])
    running.check_in(running.seats[1])


def test_an_open_run_has_no_roll_call(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    world.evm.now += 10 * STALL
    with refused("RunNotStarted", run):
        world.send(member.key.address, "checkIn", run)
    with refused("NoRollCall", run):
        world.send(NOBODY, "closeRollCall", run, [])


def test_a_seat_with_a_new_key_checks_in_with_the_old_one(world):
    running = world.stalled(3)
    rotated = world.rotate(running.seats[0], Key("new"))
    with refused("NotASeatSender", running.run, rotated.key.address):
        running.check_in(rotated)
    running.check_in(running.seats[0])


def test_the_window_closes_and_the_grace_lets_certificates_land(world):
    running = world.stalled(4)
    for seat in running.seats[:2]:
        running.check_in(seat)
    closable = close_of(running)
    running.wait(STALL - 1)
    running.check_in(running.seats[2])
    running.wait(1)
    for second in (0, GRACE - 1):
        world.evm.now = closable - GRACE + second
        with refused("WindowClosed", closable):
            running.check_in(running.seats[3])
        with refused("NotClosable", closable):
            running.close([running.seats[3]])
    world.evm.now = closable
    with refused("RollCallComplete", 3):
        running.check_in(running.seats[3])
    running.close([running.seats[3]])


@pytest.mark.parametrize("after", [0, STALL, STALL + GRACE - 1, STALL + GRACE])
def test_a_certificate_cancels_the_call(world, after):
    running = world.stalled(3)
    for seat in running.seats[:2]:
        running.check_in(seat)
    running.wait(after)
    running.certify()
    running.wait(STALL + GRACE)
    with refused("NoRollCall", running.run):
        running.close([running.seats[2]])
    again = running.check_in(running.seats[0])
    assert again.log.arguments["call"] == 2
    assert again.log.arguments["round"] == 2
    assert world.read("rollCall", running.run)[0][4] == 1


def test_windows_double_after_failed_calls_at_most_eight_times(world):
    running = world.stalled(4)
    lengths = []
    for _ in range(11):
        outcome = running.check_in(running.seats[0])
        lengths.append(outcome.log.arguments["closesAt"] - world.evm.now)
        world.evm.now = outcome.log.arguments["closableAt"]
        with refused("TooFewCheckedIn", 1, 2):
            running.close(running.seats[1:])
    assert lengths == [STALL * 2 ** min(failed, 8) for failed in range(11)]


def test_a_failed_call_does_not_count_for_the_next(world):
    running = world.stalled(4)
    running.check_in(running.seats[0])
    running.wait(STALL + GRACE)
    running.check_in(running.seats[1])
    running.wait(2 * STALL + GRACE)
    with refused("TooFewCheckedIn", 1, 2):
        running.close([seat for seat in running.seats if seat != running.seats[1]])


def test_after_a_head_windows_are_short_again(world):
    running = world.stalled(4)
    running.check_in(running.seats[0])
    running.wait(STALL + GRACE)
    running.check_in(running.seats[0])
    running.certify()
    running.wait(STALL)
    outcome = running.check_in(running.seats[0])
    assert outcome.log.arguments["closesAt"] == world.evm.now + STALL


def test_the_drops_are_exactly_the_absent(world):
    running, stranger = world.stalled(5), world.member()
    for seat in running.seats[:3]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    here, first, second = running.seats[0], running.seats[3], running.seats[4]
    for given in ([], [first], [here, first, second]):
        with refused("DropsDiffer", len(given), 2):
            running.close(given)
    with refused("SeatCheckedIn", here.id):
        running.close([here, first])
    with refused("NotASeat", running.run, stranger.id):
        running.close([stranger, min(first, second, key=lambda m: (m.id < stranger.id, m.id))])
    for pair in ([second.id, first.id], [first.id, first.id]):
        with refused("UnsortedMembers", *pair):
            world.send(NOBODY, "closeRollCall", running.run, pair)
    running.close([first, second])


def test_a_call_closes_once(world):
    running = world.stalled(3)
    with refused("NoRollCall", running.run):
        running.close([])
    for seat in running.seats[:2]:
        running.check_in(seat)
    running.wait(STALL + GRACE)
    running.close(running.seats[2:])
    with refused("NoRollCall", running.run):
        running.close([])


def test_a_seat_that_left_may_still_be_there(world):
    """It attests until it is dropped, so it counts in a roll call as well."""
    running = world.stalled(2, roll_call=(1, 1))
    leaver, other = running.seats
    world.send(leaver.controller, "leaveRun", running.run, leaver.id)
    running.check_in(leaver)
    running.check_in(other)
    running.wait(STALL + GRACE)
    running.close([])
    assert running.state.seats == 2


def test_runs_do_not_share_roll_calls(world):
    first, second = world.stalled(2), world.started(2)
    first.check_in(first.seats[0])
    with refused("NoRollCall", second.run):
        second.close([])
    with refused("NotASeatSender", second.run, first.seats[0].key.address):
        second.check_in(first.seats[0])


@pytest.mark.parametrize(("stall", "grace"), [(1, 1), (4, 1), (5, 2), (601, 151)])
def test_the_grace_is_a_quarter_of_the_stall_rounded_up(world, stall, grace):
    running = world.started(1, stall_seconds=stall)
    running.wait(stall)
    said = running.check_in(running.seats[0]).log.arguments
    assert (said["closesAt"] - world.evm.now, said["closableAt"] - said["closesAt"]) == (stall, grace)

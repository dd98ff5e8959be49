"""Opening a run: what is needed, and what a child may say about its parent."""

import pytest

from contracts.support.players import Key, Limits, Running, refused

STRANGER = Key("stranger").address
NO_PARENT = (0, 0, bytes(32))


def test_a_run_is_what_was_opened(world):
    limits = Limits(
        min_seats=2, max_seats=5, stall_seconds=77, roll_call=(1, 3), epoch_rounds=9, open_admission=True
    )
    assert world.read("runCount") == 0
    run = world.open(limits)
    state = Running(world, run, []).state
    assert (run, world.read("runCount")) == (1, 1)
    assert (state.owner, state.recipe_hash, state.state_root) == (world.owner.address, b"\1" * 32, b"\2" * 32)
    assert state.limits == limits.encoded()
    assert state.parent == NO_PARENT
    assert state.progress == (0, 0, 0, 0, 0, 1)
    assert state.beacon == bytes(32)
    assert world.open() == 2


def test_a_run_that_does_not_exist_is_refused(world):
    member = world.member()
    with refused("UnknownRun", 5):
        world.read("getRun", 5)
    with refused("UnknownRun", 5):
        world.join(5, member)
    with refused("UnknownRun", 5):
        world.start(5, [])
    with refused("UnknownRun", 0):
        world.read("rollCall", 0)


@pytest.mark.parametrize("origin", [(bytes(32), b"\2" * 32), (b"\1" * 32, bytes(32))])
def test_a_run_needs_recipe_and_state(world, origin):
    with refused("MissingHash"):
        world.send(STRANGER, "open", (*origin, b"\3" * 32, b"\4" * 32, NO_PARENT), Limits().encoded())


@pytest.mark.parametrize(
    ("error", "arguments", "changes"),
    [
        ("BadSeatLimits", (0, 4), {"min_seats": 0, "max_seats": 4}),
        ("BadSeatLimits", (5, 4), {"min_seats": 5, "max_seats": 4}),
        ("BadSeatLimits", (1, 65), {"max_seats": 65}),
        ("BadStallSeconds", (0,), {"stall_seconds": 0}),
        ("BadStallSeconds", (30 * 86400 + 1,), {"stall_seconds": 30 * 86400 + 1}),
        ("BadRollCallShare", (0, 2), {"roll_call": (0, 2)}),
        ("BadRollCallShare", (3, 2), {"roll_call": (3, 2)}),
        ("BadRollCallShare", (0, 0), {"roll_call": (0, 0)}),
        ("BadEpochRounds", (), {"epoch_rounds": 0}),
    ],
)
def test_limits_must_make_sense(world, error, arguments, changes):
    with refused(error, *arguments):
        world.open(**changes)


def test_limits_at_their_bounds(world):
    world.open(min_seats=64, max_seats=64, stall_seconds=30 * 86400, roll_call=(1, 1), epoch_rounds=2**32 - 1)
    world.open(min_seats=1, max_seats=1, stall_seconds=1, roll_call=(1, 65535), epoch_rounds=1)


def test_a_child_names_a_round_that_its_parent_reached(world):
    parent = world.started(1)
    parent.certify()
    first, head = parent.state.head, b"\x77" * 32
    parent.certify()
    last = parent.state.head
    child = world.open(parent=(parent.run, 2, last))
    assert Running(world, child, []).state.parent == (parent.run, 2, last)
    world.open(parent=(parent.run, 1, first))
    with refused("WrongParentHead", head, last):
        world.open(parent=(parent.run, 2, head))
    with refused("ParentRoundAhead", 3, 2):
        world.open(parent=(parent.run, 3, head))


def test_a_parent_exists_and_has_started(world):
    run = world.open()
    for parent in [(9, 0, bytes(32)), (run, 0, bytes(32)), (0, 1, bytes(32)), (0, 0, b"\1" * 32)]:
        with refused("BadParent", parent[0]):
            world.open(parent=parent)

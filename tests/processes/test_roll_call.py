"""Half of the peers are killed at once: too few are left for a certificate. A roll call, and training goes on.

Those who come back train without a seat, and are promoted again once they are in four of the last eight lists. Then a
fifth peer joins that dies on the way, twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from distrai.ledger.interface import RunState
from distrai.protocol.ledger_events import Certified, CheckedIn, Joined, LedgerEvent, RollCalled
from distrai.runs.folder import RunFolder, make_home
from helpers.local_runs import Death, Drive, check_consistent, ledger_history, logged, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

LEFT, LOST = ["peer-0", "peer-1"], ["peer-2", "peer-3"]
STALL_S = 8
"""Longer than a busy machine takes for a round: one call is meant, and only that one comes."""
DIES_AT = ("peer-1", "checked-in")
"""Of those who are left one dies on top of it, having just told the ledger that it is alive."""
NEWCOMER = "peer-4"
DIES_JOINING_AT = ("registered", "joining")
LISTS = 4
"""Lists that a trainer must be in to be promoted."""


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    drive: Drive
    lost_after: int
    """The newest round when half of the peers were killed."""
    history: list[LedgerEvent]
    state: RunState

    @property
    def members(self) -> dict[str, bytes]:
        told = self.drive.observer.of("started")[0]["members"]
        return {name: bytes.fromhex(member) for name, member in told.items()}

    @property
    def called(self) -> RollCalled:
        (called,) = (event for event in self.history if isinstance(event, RollCalled))
        return called


async def mass_loss(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, path = new_folder("roll-call-texts"), new_folder("roll-call")
    recipe = tiny_recipe(
        texts,
        rounds={"count": 1000, "d0_s": 0.2, "cut_s": 2.0, "hard_s": 4.0, "stall_seconds": STALL_S},
        membership={"peers": 4, "min_seats": 2, "admission": "open"},
    )
    deaths = [Death(*DIES_AT, path / "armed")]
    deaths += [Death(NEWCOMER, point, path / f"armed-{point}") for point in DIES_JOINING_AT]
    folder = RunFolder(path)
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts, deaths) as drive:
            observer = drive.observer
            await drive.until(lambda: observer.newest_round() >= 2, "some rounds")
            calls = observer.of  # told by who applies the empty round
            for name in LOST:
                drive.held_for[name] = lambda: any(event["roll_call"] for event in calls("applied", "peer-0"))
            drive.deaths[0].armed.touch()
            await drive.kill(*LOST)
            lost_after = observer.newest_round()
            await drive.until(lambda: seats_now(drive) == 2, "a roll call")
            await drive.until(lambda: seats_now(drive) == 4, "new seats for those who are back")
            last = observer.newest_round()
            await drive.until(
                lambda: all(drive.is_certified(name, last) for name in LEFT + LOST), "a certificate with all"
            )
            await join_dying(drive)
            assert not await drive.stop()
            state, history = await ledger_history(folder)  # a round may land until then
    return Record(folder, drive, lost_after, history, state)


async def join_dying(drive: Drive) -> None:
    """A peer that nobody starts again but this."""
    folder = drive.folder
    home = folder.path / "peers" / NEWCOMER
    make_home(home)
    arguments = [
        "distrai.peer",
        "--home",
        str(home),
        "--link",
        folder.read().link,
        "--device",
        "cpu",
        "--snapshot",
    ]
    for number, point in enumerate((*DIES_JOINING_AT, None), start=1):
        if point is not None:
            (folder.path / f"armed-{point}").touch()
        child = await drive._start(NEWCOMER, arguments, folder.path / f"{NEWCOMER}.log", drive.run._on_event)
        if point is not None:
            await drive.until(lambda n=number: len(drive.deaths_of(NEWCOMER)) == n, f"its end when {point}")
    await drive.until(lambda: drive.is_certified(NEWCOMER, 0), "a certificate with the newcomer")
    await child.stop()


def seats_now(drive: Drive) -> int:
    """Seats as of the newest round that the archive has applied."""
    told = drive.observer.of("applied", "peer-0")
    return int(told[-1]["seats"]) if told else 0


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(mass_loss(nursery, new_folder))


def test_those_who_are_left_check_in_and_end_the_round_without_the_others(record: Record) -> None:
    called = record.called
    assert set(called.drops) == {record.members[name] for name in LOST}
    checked_in = [event for event in record.history if isinstance(event, CheckedIn) and event.at < called.at]
    assert {event.member for event in checked_in} == {record.members[name] for name in LEFT}
    assert {event.round for event in checked_in} == {called.round}
    assert record.drive.observer.of("applied", "peer-1")
    assert f"failpoint: {DIES_AT[1]}" in logged(record.folder, DIES_AT[0])


def test_the_empty_round_leaves_the_state_and_training_goes_on_from_it(record: Record) -> None:
    called = record.called
    certified = {event.body.round: event for event in record.history if isinstance(event, Certified)}
    assert sorted([*certified, called.round]) == list(range(1, record.state.round + 1))
    assert called.round > record.lost_after
    assert called.state_root == certified[called.round - 1].body.state_root
    after = certified[called.round + 1].body
    assert after.previous_head == called.head
    assert after.state_root != called.state_root


def test_all_report_the_ledgers_heads_and_state_roots(record: Record) -> None:
    states, called = record.drive.observer.states(), record.called
    expected = {event.body.round: event for event in record.history if isinstance(event, Certified)}
    for number, told in states.items():
        head, root = (
            (called.head, called.state_root)
            if number == called.round
            else (expected[number].head, expected[number].body.state_root)
        )
        assert set(told.values()) == {("0x" + head.hex(), "0x" + root.hex())}
    check_consistent(record.drive.observer, record.folder, LEFT + LOST)


def test_a_newcomer_that_dies_on_its_way_is_one_member_in_the_end(record: Record) -> None:
    assert record.drive.deaths_of(NEWCOMER) == [-9, -9, 0]
    words = logged(record.folder, NEWCOMER).splitlines()
    assert [f"failpoint: {point}" for point in DIES_JOINING_AT] == [
        line for line in words if "failpoint" in line
    ]
    members = {event["member"] for event in record.drive.observer.of("member", NEWCOMER)}
    joined = [event for event in record.history if isinstance(event, Joined)]
    assert [event.member.hex() for event in joined[4:]] == list(members)


def test_who_comes_back_is_promoted_after_four_lists(record: Record) -> None:
    """Of those since the roll call: what was before it does not count."""
    listed = {
        event["round"]: {bytes.fromhex(member) for member in event["members"]}
        for event in record.drive.observer.of("applied", "peer-0")
    }
    for name in LOST:
        member = record.members[name]
        (seated,) = (
            event.body.round
            for event in record.history
            if isinstance(event, Certified) and any(each.member == member for each in event.body.promotions)
        )
        before = [n for n in listed if record.called.round < n < seated and member in listed[n]]
        assert len(before) >= LISTS
        assert max(before) == seated - 1, "it was in the last list"

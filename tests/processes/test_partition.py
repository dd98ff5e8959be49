"""Links between real peers are cut and heal: between halves, one-way, around one peer. And one peer stands still.

Nobody is told of it: connections stay open and carry nothing.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from distrai.peer.courier import SEND_DEADLINE_S
from distrai.protocol.ledger_events import Certified, LedgerEvent
from distrai.runs.folder import RunFolder
from helpers.links import Links
from helpers.local_runs import Drive, check_consistent, ledger_history, round_bound_s, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(4)]
OUTSIDE = "peer-3"
INSIDE = [name for name in PEERS if name != OUTSIDE]
DIVIDED_S = 5.0
"""How long the halves are divided: longer than all deadlines of a round."""
TIMES = {"count": 1000, "d0_s": 0.2, "cut_s": 1.0, "hard_s": 2.0, "stall_seconds": 400}


@dataclass
class Record:
    """What came of the run: the ledger's round when something had begun, and the newest when it ended."""

    folder: RunFolder
    drive: Drive
    bound_s: float
    """Within how long a round must close."""
    during: dict[str, tuple[int, int]] = field(default_factory=dict)
    healed_in_s: dict[str, float] = field(default_factory=dict)
    """From the end of a fault to the next round."""
    history: list[LedgerEvent] = field(default_factory=list)


async def partitions(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, fronts = new_folder("partition-texts"), new_folder("fronts")
    recipe = tiny_recipe(texts, rounds=TIMES, membership={"peers": 4, "min_seats": 4})
    folder, links = RunFolder(new_folder("partition")), Links(PEERS, fronts)
    drive = Drive(folder, nursery, recipe, texts, environment=links.environment)
    record = Record(folder, drive, round_bound_s(recipe))
    with nursery.attached():
        async with links, drive:
            await drive.until(lambda: drive.observer.newest_round() >= 2, "some rounds")
            await divided(record, links)
            await around(record, links, "unheard", [(name, OUTSIDE) for name in INSIDE])
            await around(record, links, "mute", [(OUTSIDE, name) for name in INSIDE])
            await between_two(record, links)
            await standing_still(record)
            state, record.history = await ledger_history(folder)
            await drive.applied_by_all(PEERS, state.round)
            assert not await drive.stop()
    return record


async def divided(record: Record, links: Links) -> None:
    """Two and two: neither has two thirds."""
    await links.divide(PEERS[:2], PEERS[2:])
    first = await round_now(record)
    await asyncio.sleep(DIVIDED_S)
    record.during["divided"] = first, record.drive.observer.newest_round()
    await links.set_cut()
    await everybody_again(record, "divided")


async def around(record: Record, links: Links, what: str, cut: list[tuple[str, str]]) -> None:
    """The others go on without the one that these links lead to, or from.

    Its update of the round that is on may have passed before, and theirs that it needs for the next: not for the third.
    """
    await links.set_cut(*cut)
    first = await round_now(record)
    await goes_on(record, first + 3)
    record.during[what] = first, record.drive.observer.newest_round()
    await links.set_cut()
    await everybody_again(record, what)


async def between_two(record: Record, links: Links) -> None:
    """Two that cannot reach each other still hear of each other: from the rest."""
    await links.divide(PEERS[:1], PEERS[1:2])
    first = await round_now(record)
    await record.drive.until(
        lambda: all(record.drive.is_certified(name, first + 1) for name in PEERS),
        "certificates of two that are apart",
    )
    record.during["two"] = first, record.drive.observer.newest_round()
    await links.set_cut()


async def standing_still(record: Record) -> None:
    """The kernel takes what is sent to it, and nobody reads it."""
    drive = record.drive
    os.kill(drive.pids[OUTSIDE], signal.SIGSTOP)
    first = await round_now(record)
    await goes_on(record, first + 3)
    record.during["still"] = first, drive.observer.newest_round()
    os.kill(drive.pids[OUTSIDE], signal.SIGCONT)
    await everybody_again(record, "still")


async def round_now(record: Record) -> int:
    """The ledger's round: what the peers told may be older, when this process does not come to read it."""
    state, _ = await ledger_history(record.folder)
    return state.round


async def goes_on(record: Record, until: int) -> None:
    await record.drive.until(
        lambda: all(record.drive.has_applied(name, until) for name in INSIDE), f"round {until} of three"
    )


async def everybody_again(record: Record, what: str) -> None:
    """See the next round, and everybody's update in a certificate of a round that began after this."""
    loop, last = asyncio.get_running_loop(), record.drive.observer.newest_round()
    healed_at = loop.time()
    await record.drive.until(lambda: record.drive.observer.newest_round() > last, f"a round after {what}")
    record.healed_in_s[what] = loop.time() - healed_at
    await record.drive.until(
        lambda: all(record.drive.is_certified(name, last) for name in PEERS),
        f"certificates of all after {what}",
    )


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(partitions(nursery, new_folder))


def listed(record: Record, name: str) -> set[int]:
    """The rounds whose lists a peer is in."""
    member = record.drive.observer.of("started")[0]["members"][name]
    return {event["round"] for event in record.drive.observer.of("applied") if member in event["members"]}


def test_neither_half_goes_on_alone_and_together_they_do(record: Record) -> None:
    first, last = record.during["divided"]
    assert last - first <= 1, "only what was signed already"


def test_the_next_round_closes_within_its_bound(record: Record) -> None:
    """What a cut link carried when it was cut arrives late, or is given up by its sender."""
    assert set(record.healed_in_s) == {"divided", "unheard", "mute", "still"}
    for what, seconds in record.healed_in_s.items():
        assert seconds <= record.bound_s + SEND_DEADLINE_S, what


@pytest.mark.parametrize("what", ["unheard", "mute", "still"])
def test_three_go_on_without_one(record: Record, what: str) -> None:
    first, last = record.during[what]
    missed = set(range(first + 1, last + 1)) - listed(record, OUTSIDE)
    assert last - first >= 3
    assert missed, "it cannot have been in all of them"


def test_two_that_are_apart_are_both_in_the_lists(record: Record) -> None:
    first, last = record.during["two"]
    for name in PEERS[:2]:
        assert listed(record, name) & set(range(first + 2, last + 1))


def test_all_report_the_ledgers_heads_and_state_roots(record: Record) -> None:
    states = record.drive.observer.states()
    certified = [event for event in record.history if isinstance(event, Certified)]
    assert [event.body.round for event in certified] == list(range(1, len(certified) + 1))
    for event in certified:
        expected = ("0x" + event.head.hex(), "0x" + event.body.state_root.hex())
        assert states[event.body.round] == dict.fromkeys(PEERS, expected)
    check_consistent(record.drive.observer, record.folder, PEERS)

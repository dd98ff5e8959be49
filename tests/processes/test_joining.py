"""A fifth peer joins a run of four that is under way, is in its certificates, becomes a seat, and leaves in order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import NodeKey, load_key
from distrai.protocol.ledger_events import Certified, Joined, LedgerEvent
from distrai.runs.folder import RunFolder
from distrai.runs.joining import Joining, JoinOptions, choose_join
from distrai.runs.verify import verify
from helpers.local_runs import Drive, Observer, ledger_history, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(4)]
JOINER = "joiner"
SILENT = 20
SNAPSHOT_ROUND = 4
ROUNDS_TO_TRAIN = 3
"""Who joins before head r, thus after head r - 1, trains in round r + 2."""
LATE_MAX = 1
"""Rounds that a joiner may come too late for. Nobody waits for a trainer without a seat: on a machine that does much
else its first seal may take longer than the others take for a round."""


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    observer: Observer
    member: str
    away: range
    """Rounds between its leaving and its return."""
    silent: set[str]
    history: list[LedgerEvent]

    @property
    def joined_after(self) -> int:
        """The newest round when the joiner joined, in the order of the ledger."""
        joined = next(e for e in self.history if isinstance(e, Joined) and e.member.hex() == self.member)
        before = (e for e in self.history if isinstance(e, Certified) and e.at < joined.at)
        return max(event.body.round for event in before)


async def owner_of(folder: RunFolder) -> tuple[LedgerClient, NodeKey]:
    link, owner = folder.link(), load_key(folder.owner_key)
    return await LedgerClient.connect(link.rpc, link.registry, link.chain_id, owner), owner


async def join_silently(folder: RunFolder, count: int) -> set[str]:
    """Members that are on the ledger and nowhere else."""
    client, owner = await owner_of(folder)
    run, members = folder.link().run, set()
    for _ in range(count):
        key = NodeKey.generate()
        member = await client.register(key, owner.address, owner.address)
        await client.join(run, member, key, client.invitation(owner, run, member))
        members.add(member.hex())
    await client.close()
    return members


@asynccontextmanager
async def joined(drive: Drive, *, leave: bool) -> AsyncIterator[Joining]:
    """A peer that joins by the command that users type."""

    def report(event: dict[str, Any]) -> None:
        drive.observer.report({**event, "from": JOINER})

    target = choose_join(str(drive.folder.path), None)
    joining = Joining(target, JoinOptions(device="cpu", leave=leave), report, drive.nursery.start)
    session = asyncio.create_task(joining.run())
    try:
        yield joining
    finally:
        joining.over.set()
        await session


async def drive_it(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, path = new_folder("join-texts"), new_folder("join")
    recipe = tiny_recipe(
        texts,
        algorithm={"preset": "prime", "inner_steps": 60},
        rounds={"count": 1000, "d0_s": 1.5, "cut_s": 60.0, "hard_s": 120.0, "stall_seconds": 400},
        membership={"peers": 4, "min_seats": 4},
    )
    folder = RunFolder(path)
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts) as drive:
            observer = drive.observer
            await drive.until(lambda: observer.newest_round() >= SNAPSHOT_ROUND + 1, "a snapshot")

            async with joined(drive, leave=True) as joining:
                await drive.until(lambda: drive.is_certified(JOINER, 0), "a certificate with the joiner")
                member = observer.of("member", JOINER)[0]["member"]
                silent = await join_silently(folder, SILENT)
                await drive.until(
                    lambda: any(member in event["promotions"] for event in observer.of("applied")),
                    "a seat for the joiner",
                )
                assert joining.peer is not None
                os.kill(joining.peer.process.pid, signal.SIGTERM)
                await drive.until(lambda: observer.of("exited", JOINER), "the joiner's end")
            left = observer.newest_round()
            await drive.applied_by_all(PEERS, left + 3)
            back = observer.newest_round()
            async with joined(drive, leave=False):
                await drive.until(lambda: drive.is_certified(JOINER, back), "the joiner's return")
            await drive.until(lambda: len(observer.of("exited", JOINER)) == 2, "the joiner's end")
            await drive.applied_by_all(PEERS)
            _, history = await ledger_history(folder)
            assert not await drive.stop()
    return Record(folder, observer, member, range(left + 1, back + 1), silent, history)


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(drive_it(nursery, new_folder))


def test_it_is_in_a_certificate_as_soon_as_the_ledger_has_it_among_the_trainers(record: Record) -> None:
    """It joins while it catches up from the snapshot: by the time that this takes effect it has caught up."""
    (snapshot,) = record.observer.of("snapshot", JOINER)
    assert snapshot["round"] > 0
    first = min(event["round"] for event in record.observer.of("applied", JOINER) if event["own"])
    assert 0 <= first - (record.joined_after + ROUNDS_TO_TRAIN) <= LATE_MAX


def test_it_has_the_state_roots_of_all_others(record: Record) -> None:
    states = record.observer.states()
    own = [number for number, told in states.items() if JOINER in told]
    assert len(own) > 5
    for number in own:
        assert len(states[number]) == len(PEERS) + 1
        assert len(set(states[number].values())) == 1


def test_its_seat_is_given_and_taken_as_all_others_say(record: Record) -> None:
    for kind in ("promotions", "drops"):
        told = {event["round"]: event[kind] for event in record.observer.of("applied", "peer-0")}
        for name in [*PEERS, JOINER]:
            for event in record.observer.of("applied", name):
                assert event[kind] == told.get(event["round"], [])
        assert [members for members in told.values() if members] == [[record.member]]


def test_a_signal_makes_it_leave_and_the_run_goes_on(record: Record) -> None:
    assert [event["code"] for event in record.observer.of("exited", JOINER)] == [0, 0]
    assert len(record.observer.of("leaving", JOINER)) == len(record.observer.of("left", JOINER)) == 1
    assert not record.observer.of("not-dropped", JOINER)
    for event in record.observer.of("applied", *PEERS):
        if event["round"] in record.away:
            assert record.member not in event["members"]
            assert event["members"]


def test_it_comes_back_where_it_stopped(record: Record) -> None:
    """From its own home: no second snapshot, every round applied once, the same member."""
    assert len(record.observer.of("snapshot", JOINER)) == 1
    assert {event["member"] for event in record.observer.of("member", JOINER)} == {record.member}
    rounds = [event["round"] for event in record.observer.of("applied", JOINER)]
    assert rounds == list(range(rounds[0], rounds[-1] + 1)) and set(record.away) < set(rounds)


def test_the_published_bytes_are_the_run(record: Record) -> None:
    verdict = verify(record.folder, None, lambda *_: None)
    assert verdict.ok, verdict.to_json()


def test_twenty_silent_joiners_change_nothing(record: Record) -> None:
    assert len(record.silent) == SILENT
    for event in record.observer.of("applied"):
        assert not event["roll_call"] and event["members"]
        assert not record.silent & {*event["members"], *event["promotions"], *event["drops"]}
        assert event["seats"] in (len(PEERS), len(PEERS) + 1)


def test_nobody_saw_anything_against_the_rules(record: Record) -> None:
    assert not record.observer.of("refused") and not record.observer.of("equivocation")

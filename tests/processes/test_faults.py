"""Four real peers and a ledger in one run, while one after the other is killed, and all at once: what must hold.

The run goes once; each test looks at another side of it.
"""

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from distrai.ledger.interface import RunState
from distrai.protocol.ledger_events import Certified, LedgerEvent
from distrai.runs.folder import RunFolder
from helpers.local_runs import (
    Death,
    Drive,
    Observer,
    check_consistent,
    ledger_history,
    logged,
    other_users,
    own_messages,
    round_bound_s,
    tiny_recipe,
)
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(4)]
DEATHS = [
    ("peer-1", "trained"),
    ("peer-2", "persisted-update"),
    ("peer-1", "sent-have"),
    ("peer-2", "sent-signature"),
    ("peer-1", "landed"),
    ("peer-0", "applying"),
]
"""Who dies at which point, in this order; peer-0 is the archive."""
OUTAGE_S = 60.0 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 10.0
DAMAGED = "peer-3"
"""Killed at no special point, and its event log damaged while it is down."""


History = tuple[RunState, list[LedgerEvent]]


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    observer: Observer
    deaths: list[Death]
    users: tuple[int, ...]
    before: History
    """What the ledger said when it was killed, when it was back, and at the end."""
    back: History
    away_s: float
    """How long it was away."""
    bound_s: float
    """Within how long a round must close."""
    history: list[LedgerEvent]
    state: RunState

    @property
    def certified(self) -> list[Certified]:
        return [event for event in self.history if isinstance(event, Certified)]


def damage(log: Path) -> None:
    """Change one byte of an own message."""
    database = sqlite3.connect(log)
    with database:
        (seq, data) = database.execute(
            "SELECT seq, data FROM log WHERE kind = 'own' ORDER BY seq LIMIT 1"
        ).fetchone()
        changed = bytes([data[0] ^ 1]) + data[1:]
        database.execute("UPDATE log SET data = ? WHERE seq = ?", (changed, seq))
    database.close()


async def faults(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, path = new_folder("texts"), new_folder("faults")
    recipe = tiny_recipe(
        texts,
        rounds={"count": 1000, "cut_s": 1.0, "hard_s": 10.0, "stall_seconds": 400},
        membership={"peers": 4, "min_seats": 4},  # nobody loses a seat: absence is what is tried here
    )
    folder, users = RunFolder(path), other_users(4)
    deaths = [Death(name, point, path / f"armed-{at}") for at, (name, point) in enumerate(DEATHS)]
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts, deaths, users) as drive:
            await drive.until(
                lambda: all(drive.is_certified(name, 0) for name in PEERS), "a first certificate"
            )
            for death in deaths:
                await die(drive, death)
            await cut_power(drive)
            before, back, away_s = await restart_ledger(drive)
            await damage_log(drive)
            last = drive.observer.newest_round()
            await drive.until(
                lambda: all(drive.has_applied(name, last) for name in PEERS), "the last round for all"
            )
            assert not await drive.stop()
            state, history = await ledger_history(folder)  # a round may land until then
    return Record(
        folder, drive.observer, deaths, users, before, back, away_s, round_bound_s(recipe), history, state
    )


async def die(drive: Drive, death: Death) -> None:
    """Have a peer die and come back once the others have done a round without it.

    Of the round after the last that it told it may have announced an update, and have applied it: of the next not.
    """
    count = len(drive.deaths_of(death.name))
    drive.held[death.name] = sys.maxsize
    death.armed.touch()
    await drive.until(
        lambda: len(drive.deaths_of(death.name)) > count, f"the end of {death.name} when {death.point}"
    )
    drive.hold_until_after(death.name, drive.last_told(death.name) + 1)
    await drive.until(lambda: death.back_after is not None, f"the return of {death.name}")
    back_after = death.back_after or 0
    await drive.until(
        lambda: drive.is_certified(death.name, back_after),
        f"a certificate with {death.name} after {death.point}",
    )


async def cut_power(drive: Drive) -> None:
    """Kill all peers at once: what they go on from is on their disks alone."""
    last = drive.observer.newest_round()
    await drive.kill(*PEERS)
    await drive.until(
        lambda: all(drive.is_certified(name, last + 1) for name in PEERS), "certificates after a power cut"
    )


async def restart_ledger(drive: Drive) -> tuple[History, History, float]:
    """Kill the ledger, keep it away, and have rounds on the one that follows: what it said before and after."""
    before = await ledger_history(drive.folder)
    drive.pauses["ledger"] = OUTAGE_S
    gone_at = time.monotonic()
    os.kill(drive.pids["ledger"], signal.SIGKILL)
    await drive.until(lambda: drive.deaths_of("ledger"), "the end of the ledger")
    await drive.until(lambda: len(drive.observer.of("ready", "ledger")) == 2, "the ledger's return")
    away_s = time.monotonic() - gone_at
    back = await ledger_history(drive.folder)
    after = max(back[0].round, drive.observer.newest_round())
    await drive.until(
        lambda: all(drive.is_certified(name, after + 1) for name in PEERS), "certificates on the new ledger"
    )
    return before, back, away_s


async def damage_log(drive: Drive) -> None:
    """Kill a peer, damage its log, and have it take part again."""
    drive.held[DAMAGED] = drive.observer.newest_round()
    drive.before_start = lambda name: damage(drive.folder.path / "peers" / name / "peer.sqlite")
    os.kill(drive.pids[DAMAGED], signal.SIGKILL)
    await drive.until(lambda: drive.observer.of("silent", DAMAGED), "the silence after the damage")
    through = drive.observer.of("silent", DAMAGED)[0]["through"]
    await drive.until(lambda: drive.is_certified(DAMAGED, through), "a certificate after the silence")


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(faults(nursery, new_folder))


def test_a_killed_peer_died_where_it_should_and_came_back_into_a_certificate(record: Record) -> None:
    for name in PEERS:
        words = [line for line in logged(record.folder, name).splitlines() if line.startswith("failpoint")]
        assert words == [f"failpoint: {death.point}" for death in record.deaths if death.name == name]
    for death in record.deaths:
        assert death.back_after is not None
        again = [event["round"] for event in record.observer.of("applied", death.name) if event["own"]]
        assert any(number > death.back_after for number in again)


def test_the_others_go_on(record: Record) -> None:
    """While a peer was away, rounds were certified without it: it did not come back before."""
    members = record.observer.of("started")[0]["members"]
    lists = {event["round"]: event["members"] for event in record.observer.of("applied")}
    for name in {name for name, _ in DEATHS}:
        assert any(bytes.fromhex(members[name]).hex() not in listed for listed in lists.values())


def test_no_certified_round_is_lost_and_all_report_the_ledgers_state_root(record: Record) -> None:
    certified = {event.body.round: event for event in record.certified}
    states = record.observer.states()  # nobody ever told two states of one round
    last = record.observer.newest_round(without="")
    assert last > 10
    for number in range(1, last + 1):
        expected = ("0x" + certified[number].head.hex(), "0x" + certified[number].body.state_root.hex())
        assert set(states[number].values()) == {expected}
    for name in PEERS:
        rounds = [event["round"] for event in record.observer.of("applied", name)]
        if name == DAMAGED:
            assert rounds.count(1) == 2  # it began again from genesis
            rounds = rounds[rounds.index(1, 1) :]
        assert rounds == sorted(
            rounds
        )  # a round may be told by nobody if its peer died just then, but never twice
        assert len(rounds) == len(set(rounds))
        untold = set(range(1, last + 1)) - set(rounds)
        assert len(untold) <= 1 + sum(death.name == name for death in record.deaths)


def test_every_round_closes_within_its_bound(record: Record) -> None:
    """Whoever was just killed. While the ledger was away no round could close."""
    landed: dict[int, float] = {}
    for event in record.observer.of("applied"):
        landed[event["round"]] = min(event["t"], landed.get(event["round"], event["t"]))
    times = [landed[number] for number in sorted(landed)]
    took = sorted(later - earlier for earlier, later in pairwise(times))
    assert took[-2] <= record.bound_s
    assert took[-1] <= record.bound_s + record.away_s


def test_nobody_equivocated_or_was_refused(record: Record) -> None:
    check_consistent(record.observer, record.folder, PEERS)


def test_a_ledger_that_was_killed_and_away_loses_no_certified_round(record: Record) -> None:
    (state_before, before), (_, back) = record.before, record.back
    assert record.away_s >= OUTAGE_S
    assert state_before.round > 0
    assert back[: len(before)] == before
    assert record.history[: len(back)] == back
    assert len({event["url"] for event in record.observer.of("ready", "ledger")}) == 1
    assert record.state.round > state_before.round
    assert record.state.head == record.certified[-1].head


def test_after_damage_to_its_log_a_peer_is_silent_until_the_next_head(record: Record) -> None:
    (noticed,) = record.observer.of("damaged-log", DAMAGED)
    assert Path(noticed["kept"]).exists()
    through = record.observer.of("silent", DAMAGED)[0]["through"]
    rounds = [message.round for message in own_messages(record.folder, DAMAGED)]
    assert rounds
    assert min(rounds) > through
    assert any(event["own"] and event["round"] > through for event in record.observer.of("applied", DAMAGED))


def test_homes_are_for_their_owners_alone(record: Record) -> None:
    """Where the system lets peers have users of their own they had; else every foreign access was refused."""
    homes = [record.folder.path / "peers" / name for name in PEERS]
    assert all(home.stat().st_mode & 0o077 == 0 for home in homes)
    assert not any("foreign home" in logged(record.folder, name) for name in PEERS)
    if record.users:
        assert [home.stat().st_uid for home in homes] == list(record.users)
        assert all(path.stat().st_uid == home.stat().st_uid for home in homes for path in home.rglob("*"))

"""What the event log of a peer tells about a run. Read only: the peer may be at work."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from distrai.peer.journal import (
    EVALUATED,
    RUNNING,
    SPENT,
    TRAFFIC,
    TRAINED,
    Evaluated,
    Running,
    Spent,
    Traffic,
    Trained,
)
from distrai.peer.log import LogEntry
from distrai.peer.records import APPLIED, decode_checkpoint
from distrai.protocol.primitives import Hash, MemberId

REFUSED, EQUIVOCATION = "refused", "equivocation"
_KINDS = (RUNNING, TRAINED, TRAFFIC, EVALUATED, SPENT, APPLIED, REFUSED, EQUIVOCATION)


class UnreadableLog(ValueError):
    """A file that should be an event log is none."""


@dataclass(frozen=True)
class AppliedRound:
    """A certificate that this peer applied, when, and where that led."""

    at: float
    head: Hash
    state_root: Hash
    members: frozenset[MemberId]
    """Whose updates were in it; nobody's in an empty round."""


@dataclass
class PeerLog:
    """One peer's account, by round. ``sessions`` are first and last entry of each of its processes."""

    name: str
    member: MemberId | None = None
    sessions: list[tuple[float, float]] = field(default_factory=list)
    trained: dict[int, Trained] = field(default_factory=dict)
    applied: dict[int, AppliedRound] = field(default_factory=dict)
    evaluated: dict[int, Evaluated] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=dict)
    spent: dict[int, Spent] = field(default_factory=dict)
    """CPU seconds until each round was applied, of the process that applied it."""
    refused: Counter[str] = field(default_factory=Counter)
    """How many messages broke each rule, by its name."""

    def bytes(self, direction: str) -> int:
        """All bytes at the socket, ``up`` or ``down``."""
        return sum(self.traffic.get(direction, {}).values())

    @property
    def rounds(self) -> int:
        """The last round that it applied."""
        return max(self.applied, default=0)

    def take(self, entry: LogEntry) -> None:
        """Go on with the next entry."""
        if entry.kind == RUNNING:
            running = msgspec.json.decode(entry.data, type=Running)
            self.member = MemberId(bytes.fromhex(running.member))
            self.sessions.append((entry.at, entry.at))
        elif self.sessions:
            self.sessions[-1] = (self.sessions[-1][0], entry.at)
        match entry.kind:
            case "trained":
                self.trained[entry.round] = msgspec.json.decode(entry.data, type=Trained)
            case "evaluated":
                self.evaluated[entry.round] = msgspec.json.decode(entry.data, type=Evaluated)
            case "traffic":
                self.traffic = msgspec.json.decode(entry.data, type=Traffic)
            case "spent":
                self.spent[entry.round] = msgspec.json.decode(entry.data, type=Spent)
            case "applied":
                self.applied[entry.round] = _applied(entry)
            case "refused" | "equivocation":
                facts: dict[str, Any] = msgspec.json.decode(entry.data)
                self.refused[str(facts.get("rule", entry.kind))] += 1


def read_log(home: Path) -> PeerLog:
    """The account of the peer with this home; an empty one if it has not begun. Raises UnreadableLog."""
    told = PeerLog(home.name)
    path = home / "peer.sqlite"
    if path.exists():
        try:
            for entry in _entries(path):
                told.take(entry)
        except (sqlite3.DatabaseError, msgspec.MsgspecError, ValueError) as error:
            raise UnreadableLog(f"{path} cannot be read as an event log: {error}") from error
    return told


def _entries(path: Path) -> Iterator[LogEntry]:
    marks = ", ".join("?" * len(_KINDS))
    query = f"SELECT seq, kind, round, head, at, data FROM log WHERE kind IN ({marks}) ORDER BY seq"  # noqa: S608
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for row in database.execute(query, _KINDS):
            yield LogEntry(*row)


def _applied(entry: LogEntry) -> AppliedRound:
    standing = decode_checkpoint(entry.data).standing
    assert standing is not None, "a checkpoint has a standing"
    last = standing.recent[-1] if standing.recent else None
    members = last.members if last is not None and last.round == standing.round else frozenset()
    return AppliedRound(entry.at, standing.head, standing.state_root, members)

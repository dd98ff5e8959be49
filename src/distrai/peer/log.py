"""The peer's event log: one append-only, hash-chained table in SQLite, from which everything else can be told.

Recovery, the views of a run and the replay of a failure all read this one log. An entry's hash covers the entry before,
so an entry that was changed, or lost from the middle, is noticed when the log is opened.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from distrai.protocol.primitives import Hash

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, round INTEGER NOT NULL, head BLOB NOT NULL, at REAL NOT NULL,
    data BLOB NOT NULL, hash BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS log_by_head ON log (kind, head);
CREATE INDEX IF NOT EXISTS log_by_round ON log (kind, round);
"""


class DamagedLog(ValueError):
    """The event log does not hash to what it says: it was changed, or the disk lost a part of it."""


@dataclass(frozen=True)
class LogEntry:
    """One thing that this peer did or saw. ``at`` is this machine's clock: for people, never for a rule."""

    seq: int
    kind: str
    round: int
    head: bytes
    at: float
    data: bytes


def _link(previous: bytes, entry: LogEntry) -> bytes:
    parts = [entry.kind.encode(), entry.head, entry.data, repr((entry.seq, entry.round, entry.at)).encode()]
    framed = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return blake3(previous + framed).digest()


class EventLog:
    """The log of one peer; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open or make the log at ``path``. Raises DamagedLog."""
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            self._seq, self._last = self._verify()
        except DamagedLog:
            self._db.close()
            raise
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DamagedLog(f"{path} cannot be read as an event log: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _verify(self) -> tuple[int, bytes]:
        """Check the chain from the first entry on; returns the last number and hash."""
        previous, seq = bytes(32), 0
        for row in self._db.execute("SELECT seq, kind, round, head, at, data, hash FROM log ORDER BY seq"):
            entry = LogEntry(*row[:6])
            previous, seq = _link(previous, entry), seq + 1
            if entry.seq != seq or previous != row[6]:
                raise DamagedLog(f"entry {seq} of {self.path} does not follow from the entries before it")
        return seq, previous

    def append(self, kind: str, round_number: int, head: Hash, data: bytes) -> None:
        """Append an entry; it is on disk when this returns."""
        with self._lock:
            entry = LogEntry(self._seq + 1, kind, round_number, head, time.time(), data)
            digest = _link(self._last, entry)
            values = (entry.seq, kind, round_number, head, entry.at, data, digest)
            self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            self._seq, self._last = entry.seq, digest

    def entries(self, kind: str, head: Hash | None = None) -> Iterator[LogEntry]:
        """The entries of a kind, the oldest first; of one head where given."""
        query, values = "SELECT seq, kind, round, head, at, data FROM log WHERE kind = ?", [kind]
        if head is not None:
            query, values = query + " AND head = ?", [kind, head]  # type: ignore[list-item]
        with self._lock:
            rows = self._db.execute(query + " ORDER BY seq", values).fetchall()
        return (LogEntry(*row) for row in rows)

    def last(self, kind: str) -> LogEntry | None:
        """The newest entry of a kind."""
        query = "SELECT seq, kind, round, head, at, data FROM log WHERE kind = ? ORDER BY seq DESC LIMIT 1"
        with self._lock:
            row = self._db.execute(query, (kind,)).fetchone()
        return None if row is None else LogEntry(*row)


def open_log(path: Path) -> tuple[EventLog, Path | None]:
    """Open or make the log at ``path``. A damaged one is kept beside it, at the path returned, and a new one begun."""
    try:
        return EventLog(path), None
    except DamagedLog:
        aside = _free_path(path)
        path.replace(aside)  # first: SQLite ignores what belongs to a database that is not there
        for suffix in ("-wal", "-shm"):
            rest = path.with_name(path.name + suffix)
            if rest.exists():
                rest.replace(aside.with_name(aside.name + suffix))
        return EventLog(path), aside


def _free_path(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside

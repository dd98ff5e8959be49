"""The SQLite file of an index: logs as they were given, the last block hashes, and how far it reaches.

Logs are kept undecoded, so that what is made of them can change without reading the chain anew. The file is a cache:
one that is damaged or of another version is made anew.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distrai.ledger.log_source import Block
from distrai.ledger.money_logs import RawLog
from distrai.protocol.ledger_events import Position
from distrai.protocol.primitives import HASH_SIZE, Address, Hash

SCHEMA_VERSION = 1
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, parent BLOB NOT NULL, time INTEGER NOT NULL);
CREATE TABLE times (number INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE TABLE logs (
  block INTEGER NOT NULL, log_index INTEGER NOT NULL, block_hash BLOB NOT NULL, address BLOB NOT NULL,
  topics BLOB NOT NULL, data BLOB NOT NULL, txn BLOB NOT NULL, kind TEXT NOT NULL, run INTEGER, record INTEGER,
  PRIMARY KEY (block, log_index)
) WITHOUT ROWID;
CREATE INDEX logs_of_run ON logs (run, block, log_index);
CREATE INDEX logs_of_record ON logs (record, kind);
"""


class WrongIndex(ValueError):
    """The index file is of other contracts: choose another file, or remove this one."""


@dataclass(frozen=True)
class Row:
    """A log with what it is filed under, and its block's time."""

    log: RawLog
    kind: str
    run: int | None
    record: int | None
    time: int


@dataclass(frozen=True)
class Reach:
    """How far an index reads: every block before ``next_block``; the node's newest block was ``tip`` when last asked.

    ``version`` changes whenever anything does.
    """

    next_block: int
    tip: int
    version: int


class IndexStore:
    """The file. Several processes may use it at once."""

    def __init__(self, path: Path, contracts: str, first_block: int) -> None:
        self._path, self._contracts, self._first = path, contracts, first_block
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked, read-only, full: nothing that making it anew would mend
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = self._open()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        with _transaction(database):
            ((version,),) = database.execute("PRAGMA user_version")
            if version != SCHEMA_VERSION:
                found = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
                for (table,) in found:
                    database.execute(f"DROP TABLE {table}")
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                start = {"contracts": self._contracts, "next": self._first, "tip": -1, "version": 0}
                database.executemany("INSERT INTO meta VALUES (?, ?)", list(start.items()))
        known = database.execute("SELECT value FROM meta WHERE key = 'contracts'").fetchone()
        if known is None or known[0] != self._contracts:
            raise WrongIndex(
                f"{self._path} is an index of other contracts: choose another file, or remove it"
            )

    # Reading

    @property
    def reach(self) -> Reach:
        """How far it reads."""
        return self._reach()

    def trail(self) -> list[Block]:
        """The last blocks that were read, oldest first."""
        rows = self._db.execute("SELECT number, hash, parent, time FROM blocks ORDER BY number")
        return [Block(number, Hash(one), Hash(before), time) for number, one, before, time in rows]

    def time_of(self, block: int) -> int | None:
        """The time of a block, if it is one of the last or there is an event in it."""
        both = "SELECT time FROM times WHERE number = ?1 UNION SELECT time FROM blocks WHERE number = ?1"
        found = self._db.execute(both, (block,)).fetchone()
        return None if found is None else int(found[0])

    def rows(self, kinds: Sequence[str] | None, run: int | None, first: int, last: int) -> list[Row]:
        """Logs of these blocks in order; with ``run`` only those about it, and key changes, which are about all."""
        query = (
            "SELECT block, log_index, block_hash, address, topics, data, txn, kind, run, record, times.time "
            "FROM logs JOIN times ON times.number = block WHERE block BETWEEN ? AND ?"
        )
        values: list[object] = [first, last]
        if run is not None:
            query += " AND (run = ? OR kind = 'KeyChanged')"
            values.append(run)
        if kinds is not None:
            query += f" AND kind IN ({', '.join('?' * len(kinds))})"
            values += kinds
        return [_row(found) for found in self._db.execute(query + " ORDER BY block, log_index", values)]

    def run_of_record(self, record: int) -> int | None:
        """The run that a training record is of."""
        query = "SELECT run FROM logs WHERE record = ? AND kind = 'RecordOpened'"
        found = self._db.execute(query, (record,)).fetchone()
        return None if found is None else found[0]

    # Writing

    def extend(self, before: Reach, rows: Iterable[Row], trail: Sequence[Block], tip: int, keep: int) -> bool:
        """Add the logs of the blocks up to the last of ``trail``, of which ``keep`` are kept; all of it or nothing.

        False: another process changed the file since ``before``.
        """
        with _transaction(self._db):
            if self._reach() != before:
                return False
            for row in rows:
                self._put(row)
            self._db.executemany(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)",
                [(block.number, block.hash, block.parent, block.time) for block in trail],
            )
            self._db.execute("DELETE FROM blocks WHERE number <= ?", (trail[-1].number - keep,))
            self._set(trail[-1].number + 1, tip, before.version + 1)
        return True

    def set_tip(self, before: Reach, tip: int) -> bool:
        """The node's newest block is this one. False as for ``extend``."""
        with _transaction(self._db):
            if self._reach() != before:
                return False
            self._set(before.next_block, tip, before.version + 1)
        return True

    def back_to(self, before: Reach, block: int | None) -> bool:
        """Forget everything after ``block``; None: everything. False as for ``extend``."""
        last = self._first - 1 if block is None else block
        with _transaction(self._db):
            if self._reach() != before:
                return False
            self._db.execute("DELETE FROM logs WHERE block > ?", (last,))
            self._db.execute("DELETE FROM times WHERE number > ?", (last,))
            self._db.execute("DELETE FROM blocks WHERE number > ?", (last,))
            self._set(last + 1, min(before.tip, last), before.version + 1)
        return True

    def _put(self, row: Row) -> None:
        log, at = row.log, row.log.at
        run = self.run_of_record(row.record) if row.run is None and row.record is not None else row.run
        self._db.execute("INSERT OR REPLACE INTO times VALUES (?, ?)", (at.block_number, row.time))
        values = (at.block_number, at.log_index, at.block_hash, log.address, b"".join(log.topics), log.data)
        self._db.execute(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, log.transaction, row.kind, run, row.record),
        )

    def _reach(self) -> Reach:
        found = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        return Reach(int(found["next"]), int(found["tip"]), int(found["version"]))

    def _set(self, next_block: int, tip: int, version: int) -> None:
        values = [(str(next_block), "next"), (str(tip), "tip"), (str(version), "version")]
        self._db.executemany("UPDATE meta SET value = ? WHERE key = ?", values)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _row(found: tuple[object, ...]) -> Row:
    block, index, block_hash, address, topics, data, transaction, kind, run, record, time = found
    assert isinstance(block, int) and isinstance(index, int) and isinstance(topics, bytes)
    assert isinstance(block_hash, bytes) and isinstance(address, bytes) and isinstance(data, bytes)
    assert isinstance(transaction, bytes) and isinstance(kind, str) and isinstance(time, int)
    assert run is None or isinstance(run, int)
    assert record is None or isinstance(record, int)
    cuts = range(0, len(topics), HASH_SIZE)
    words = tuple(topics[cut : cut + HASH_SIZE] for cut in cuts)
    at = Position(block, index, Hash(block_hash))
    log = RawLog(at, Address(address), words, data, Hash(transaction), time)
    return Row(log, kind, run, record, time)

"""The chain on disk: one SQLite file, one commit per block.

A block, its transaction, its logs and the nodes of its state are written in one SQLite transaction (WAL, synchronous
FULL), so a mined block survives ``kill -9`` and power loss whole, and an unfinished one leaves no trace.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distrai.ledger.embedded.records import BlockRecord, LogFilter, LogRecord, TooManyLogs, TransactionRecord
from distrai.protocol.primitives import Address, Hash

LOGS_MAX = 10_000
"""Log entries in one answer."""
_TOPICS_MAX = 4
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nodes (key BLOB PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, header BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (
  block_number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, raw BLOB NOT NULL, sender BLOB NOT NULL,
  succeeded INTEGER NOT NULL, gas_used INTEGER NOT NULL, contract BLOB);
CREATE TABLE IF NOT EXISTS logs (
  block_number INTEGER NOT NULL, log_index INTEGER NOT NULL, address BLOB NOT NULL,
  topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL,
  PRIMARY KEY (block_number, log_index)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS logs_by_address ON logs (address, block_number);
"""
_LOG_COLUMNS = (
    "logs.block_number, log_index, blocks.hash, transactions.hash, address, topic0, topic1, topic2, topic3"
)
_LOG_TABLES = (
    "logs JOIN blocks ON blocks.number = logs.block_number"
    " JOIN transactions ON transactions.block_number = logs.block_number"
)
_TRANSACTION_COLUMNS = (
    "transactions.hash, block_number, blocks.hash, raw, sender, succeeded, gas_used, contract"
    " FROM transactions JOIN blocks ON blocks.number = block_number"
)


class ChainStore:
    """Rows in, rows out; knows SQL and no EVM."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; what was committed is there already."""
        self._db.close()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Everything written inside lands together or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have ended it already
                self._db.execute("ROLLBACK")
            raise

    def meta(self, key: str) -> str | None:
        """A fact about the folder, such as its chain id."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Record a fact about the folder."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def node(self, key: bytes) -> bytes | None:
        """A node of the state trie, or a contract's code, by its hash."""
        row = self._db.execute("SELECT value FROM nodes WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put_node(self, key: bytes, value: bytes) -> None:
        """Keep a node; it is never changed, because its key is its hash."""
        self._db.execute("INSERT OR IGNORE INTO nodes VALUES (?, ?)", (key, value))

    def put_block(self, block: BlockRecord) -> None:
        """Append a block."""
        self._db.execute("INSERT INTO blocks VALUES (?, ?, ?)", (block.number, block.hash, block.header))

    def put_transaction(self, record: TransactionRecord, logs: Sequence[LogRecord]) -> None:
        """Append the transaction of a block with its log entries."""
        row = (record.block_number, record.hash, record.raw, record.sender, record.succeeded, record.gas_used)
        self._db.execute("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, record.contract))
        self._db.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_log_row, logs))

    def last_block(self) -> BlockRecord | None:
        """The newest block."""
        return self._one_block("ORDER BY number DESC LIMIT 1")

    def block(self, number: int) -> BlockRecord | None:
        """A block by number."""
        return self._one_block("WHERE number = ?", number)

    def block_by_hash(self, block_hash: bytes) -> BlockRecord | None:
        """A block by hash."""
        return self._one_block("WHERE hash = ?", block_hash)

    def block_hashes_before(self, number: int, limit: int) -> Iterator[Hash]:
        """Hashes of the blocks below ``number``, newest first."""
        query = "SELECT hash FROM blocks WHERE number < ? ORDER BY number DESC LIMIT ?"
        for (block_hash,) in self._db.execute(query, (number, limit)):
            yield Hash(block_hash)

    def transaction(self, transaction_hash: bytes) -> TransactionRecord | None:
        """A transaction by hash."""
        return self._one_transaction("transactions.hash = ?", transaction_hash)

    def transaction_of(self, block_number: int) -> TransactionRecord | None:
        """The transaction of a block (the first block has none)."""
        return self._one_transaction("block_number = ?", block_number)

    def logs(self, wanted: LogFilter) -> list[LogRecord]:
        """Matching log entries in order. Raises TooManyLogs beyond ``LOGS_MAX``."""
        clauses, values = ["logs.block_number BETWEEN ? AND ?"], [wanted.first, wanted.last]
        arguments: list[int | bytes] = [*values]
        columns = ("address", *(f"topic{place}" for place in range(_TOPICS_MAX)))
        for column, options in zip(columns, (wanted.addresses, *wanted.topics), strict=False):
            if options:
                clauses.append(f"{column} IN ({', '.join('?' * len(options))})")
                arguments.extend(options)
        # Only our own column names and question marks are put into the text.
        query = f"SELECT {_LOG_COLUMNS}, data FROM {_LOG_TABLES} WHERE {' AND '.join(clauses)}"  # noqa: S608
        rows = self._db.execute(f"{query} ORDER BY 1, 2 LIMIT {LOGS_MAX + 1}", arguments).fetchall()
        if len(rows) > LOGS_MAX:
            raise TooManyLogs(f"more than {LOGS_MAX} logs match: ask for fewer blocks at a time")
        return [_log_record(row) for row in rows]

    def _one_block(self, where: str, *arguments: int | bytes) -> BlockRecord | None:
        row = self._db.execute(f"SELECT number, hash, header FROM blocks {where}", arguments).fetchone()  # noqa: S608
        return None if row is None else BlockRecord(row[0], Hash(row[1]), row[2])

    def _one_transaction(self, where: str, argument: int | bytes) -> TransactionRecord | None:
        row = self._db.execute(f"SELECT {_TRANSACTION_COLUMNS} WHERE {where}", (argument,)).fetchone()
        if row is None:
            return None
        contract = None if row[7] is None else Address(row[7])
        return TransactionRecord(
            Hash(row[0]), row[1], Hash(row[2]), row[3], Address(row[4]), bool(row[5]), row[6], contract
        )


def _log_row(log: LogRecord) -> tuple[int | bytes | None, ...]:
    topics = [*log.topics, *[None] * (_TOPICS_MAX - len(log.topics))]
    return (log.block_number, log.log_index, log.address, *topics, log.data)


def _log_record(row: Sequence[object]) -> LogRecord:
    number, index, block_hash, transaction_hash, address, *topics, data = row
    assert isinstance(number, int)
    assert isinstance(index, int)
    kept = tuple(topic for topic in topics if isinstance(topic, bytes))
    assert isinstance(block_hash, bytes)
    assert isinstance(transaction_hash, bytes)
    assert isinstance(address, bytes)
    assert isinstance(data, bytes)
    return LogRecord(number, index, Hash(block_hash), Hash(transaction_hash), Address(address), kept, data)

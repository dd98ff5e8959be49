"""What each non-empty round accepted from whom, kept for longer than the lists: an epoch is long, lists are pruned."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from distrai.peer.public import PublicFolder
from distrai.protocol.body import Body
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import WorkedRound, accepted_tokens

_SCHEMA = """
CREATE TABLE IF NOT EXISTS work (root BLOB PRIMARY KEY, round INTEGER NOT NULL, tokens BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS work_by_round ON work (round);
"""
ROUNDS_KEPT = 1 << 16
"""Far more than an epoch reaches back."""


class WorkBook:
    """Accepted tokens by the updates root of their list: a reorg puts another root into a round, and spoils nothing."""

    def __init__(self, path: Path) -> None:
        """Open or make the book at ``path``; any thread may use it."""
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def take(self, round_number: int, certified: CertifiedList) -> None:
        """Keep what a list accepted; an empty one accepts nothing."""
        if not certified.entries:
            return
        tokens = msgspec.msgpack.encode(accepted_tokens(certified))
        with self._lock:
            self._db.execute(
                "INSERT OR REPLACE INTO work VALUES (?, ?, ?)", (certified.updates_root, round_number, tokens)
            )
            self._db.execute("DELETE FROM work WHERE round < ?", (round_number - ROUNDS_KEPT,))

    def take_all(self, public: PublicFolder) -> None:
        """Keep what the lists that are there accepted: those of before this book was opened."""
        for number in public.list_rounds():
            try:
                self.take(number, public.read_list(number))
            except FileNotFoundError:
                continue  # pruned just now

    def tokens(self, root: Hash) -> Mapping[MemberId, int] | None:
        """What the list with this root accepted; None if it was never here."""
        with self._lock:
            row = self._db.execute("SELECT tokens FROM work WHERE root = ?", (root,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=dict[MemberId, int])

    def rounds(
        self, bodies: Iterable[Body], may_pay: Callable[[int], bool]
    ) -> tuple[list[WorkedRound], list[Body]]:
        """What was accepted in the non-empty rounds that these bodies ended; and those that are not known here.

        Where nobody may earn nothing need be known.
        """
        known, missing = list[WorkedRound](), list[Body]()
        for body in bodies:
            if body.is_empty:
                continue
            tokens = self.tokens(body.updates_root)
            if tokens is None and not may_pay(body.round):
                tokens = {}
            if tokens is None:
                missing.append(body)
            else:
                known.append(WorkedRound(body.round, tokens))
        return known, missing

"""Taking blocks back from an embedded chain, as a reorganisation does: while no process has its folder open."""

import sqlite3
from contextlib import closing
from pathlib import Path

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.keys import NodeKey
from distrai.ledger.transactions import Transaction
from distrai.protocol.primitives import Address

_GAS = 50_000


def newest_block(folder: Path) -> int:
    """The number of the last block of the chain in ``folder``."""
    with closing(sqlite3.connect(folder / "chain.sqlite")) as database:
        (newest,) = database.execute("SELECT max(number) FROM blocks").fetchone()
    return int(newest)


def reorganise(folder: Path, cut: int, mined: int) -> None:
    """Take the last ``cut`` blocks of the chain in ``folder`` away, and mine ``mined`` others that concern no run.

    The nodes of all states stay on disk: they are found by their hash.
    """
    newest = newest_block(folder)
    assert newest > cut, "the first block stays"
    with closing(sqlite3.connect(folder / "chain.sqlite")) as database, database:
        for table, column in (
            ("blocks", "number"),
            ("transactions", "block_number"),
            ("logs", "block_number"),
        ):
            database.execute(f"DELETE FROM {table} WHERE {column} > ?", (newest - cut,))
    chain, key = EmbeddedChain.open(folder), NodeKey.generate()
    for nonce in range(mined):
        raw, _ = Transaction(chain.chain_id, nonce, _GAS, Address(key.address), b"").sign(key)
        chain.send_raw_transaction(raw)
    chain.close()

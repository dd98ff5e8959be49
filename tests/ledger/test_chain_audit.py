"""Changed bytes of a chain's file are found, whichever they are."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from distrai.ledger.embedded.audit import audit
from helpers.money_chain import MoneyChain


@pytest.fixture
async def chain(money: MoneyChain, tmp_path: Path) -> Path:
    """The folder of a chain on which something happened."""
    run = await money.run(seats=2)
    await run.work(2)
    await run.pots.fund(run.number, 1_000)
    await run.settle({run.members[0]: 100})
    return tmp_path / "served"


@pytest.mark.parametrize("served", ["embedded"], indirect=True)
async def test_changed_bytes_are_named_by_their_block(chain: Path, tmp_path: Path) -> None:
    assert audit(chain) == []
    raw = "CAST(substr(raw, 1, 90) || x'00' || substr(raw, 92) AS BLOB)"
    header = "CAST(substr(header, 1, 40) || x'00' || substr(header, 42) AS BLOB)"
    changes = [
        (f"UPDATE transactions SET raw = {raw} WHERE block_number = 5", "block 5"),
        ("UPDATE transactions SET succeeded = 0 WHERE block_number = 6", "block 6: outcome"),
        ("UPDATE transactions SET gas_used = gas_used + 1 WHERE block_number = 7", "block 7: outcome"),
        (
            "UPDATE transactions SET sender = zeroblob(20) WHERE block_number = 8",
            "block 8: its transaction is not",
        ),
        ("DELETE FROM transactions WHERE block_number = 9", "block 9: its transaction is missing"),
        (
            "DELETE FROM logs WHERE block_number = (SELECT MAX(block_number) FROM logs)",
            "outcome, gas or logs",
        ),
        (f"UPDATE blocks SET header = {header} WHERE number = 4", "block 4"),
        ("DELETE FROM blocks WHERE number = 3", "block 3 is missing"),
    ]
    for number, (change, said) in enumerate(changes):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(chain, copy)
        with closing(sqlite3.connect(copy / "chain.sqlite", isolation_level=None)) as database:
            assert database.execute(change).rowcount >= 1
        found = audit(copy)
        assert found, change
        assert said in found[0], change

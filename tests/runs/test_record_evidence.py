"""What a record's hashes name, where it lies beside the ledger."""

from pathlib import Path

from distrai.network.store import BlobStore
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.money_events import RecordClosed, RecordOpened
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.runs.ledger_checks.records import check_evidence

AT = Position(1, 0, ZERO_HASH)


def closed(number: int, run: int, manifest: Hash, table: Hash) -> list[LedgerEvent]:
    opened = RecordOpened(AT, number, Address(bytes(20)), run, ZERO_HASH, b"", 0, ZERO_HASH)
    return [opened, RecordClosed(AT, number, 1, ZERO_HASH, manifest, table, 1, 1, 1, False)]


def test_a_damaged_table_is_named_and_one_that_is_elsewhere_is_not(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    manifest, table = store.put(b"the model's files"), store.put(b"who trained how long")
    events = [*closed(1, 7, manifest.hash, table.hash), *closed(2, 8, Hash(b"x" * 32), ZERO_HASH)]
    assert check_evidence(events, 7, store) == check_evidence(events, 8, store) == []
    (path,) = [
        each
        for each in tmp_path.rglob("*")
        if each.is_file() and each.read_bytes() == b"who trained how long"
    ]
    path.chmod(0o600)
    path.write_bytes(b"who trained how lonG")
    (problem,) = check_evidence(events, 7, BlobStore(tmp_path))
    assert problem.startswith("record 1: the table of its peers is damaged")
    assert check_evidence(events, 8, BlobStore(tmp_path)) == []

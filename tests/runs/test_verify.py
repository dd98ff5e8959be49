"""``verify`` finds its anchor, and names what is wrong or missing, whatever it is."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from distrai.protocol.primitives import Hash
from distrai.runs.archive import Archive
from distrai.runs.folder import NoRun, RunFolder
from distrai.runs.verify import BadHead, Verdict, verify
from distrai.training.data.manifest import parse_manifest
from helpers.run_folders import FakeRun

Says = Callable[[FakeRun], None]


def verdict(run: FakeRun, head: str | None = None) -> Verdict:
    return verify(run.folder, head, lambda number, updates: None)


def test_a_run_is_what_its_ledger_says(finished: FakeRun, ledger_says: Says) -> None:
    ledger_says(finished)
    assert verdict(finished).to_json() == {
        "ok": True,
        "state_root": "0x" + finished.standing.state_root.hex(),
        "head": "0x" + finished.standing.head.hex(),
        "rounds": 4,
        "updates": 11,
    }


def test_a_head_may_be_given_instead_of_a_ledger(fake_run: FakeRun) -> None:
    assert verdict(fake_run, "0x" + fake_run.standing.head.hex()).ok
    told = verdict(fake_run, "0x" + "00" * 32).to_json()
    assert (told["ok"], told["culprit"]) == (False, "certificate of round 5")


@pytest.mark.parametrize("head", ["", "0x12", "zz" * 32, "0x" + "00" * 33])
def test_what_is_no_head_is_refused(finished: FakeRun, head: str) -> None:
    with pytest.raises(BadHead, match="64 hexadecimal digits"):
        verdict(finished, head)


def test_another_head_on_the_ledger_is_named(fake_run: FakeRun, ledger_says: Says) -> None:
    ledger_says(replace(fake_run, standing=replace(fake_run.standing, head=Hash(bytes(32)))))
    assert verdict(fake_run).to_json()["culprit"] == "certificate of round 4"


def test_a_missing_ledger_is_named(fake_run: FakeRun) -> None:
    told = verdict(fake_run).to_json()
    assert (told["ok"], told["culprit"], told["rule"]) == (False, "ledger", "NoLedger")
    assert "--head" in told["why"]


def test_a_damaged_ledger_is_named(fake_run: FakeRun) -> None:
    fake_run.folder.ledger.mkdir()
    (fake_run.folder.ledger / "chain.sqlite").write_bytes(b"no database" * 100)
    told = verdict(fake_run).to_json()
    assert (told["ok"], told["culprit"]) == (False, "ledger")
    assert "cannot be read" in told["why"]


def test_a_damaged_run_json_is_named(fake_run: FakeRun) -> None:
    (fake_run.folder.path / "run.json").write_text("{")
    assert verdict(fake_run).to_json()["culprit"] == "run.json"


def test_no_run_at_all_is_the_users_mistake(fake_run: FakeRun) -> None:
    with pytest.raises(NoRun):
        verify(RunFolder(fake_run.folder.path / "peers"), None, lambda number, updates: None)


@pytest.mark.parametrize(
    ("what", "culprit"),
    [("shard", "data shard 0 of train"), ("tokenizer", "tokenizer"), ("manifest", "corpus manifest")],
)
def test_data_that_is_missing_is_named(fake_run: FakeRun, what: str, culprit: str) -> None:
    archive = Archive(fake_run.folder.archive)
    resolved = archive.recipe(archive.genesis().genesis.recipe_hash)
    manifest = parse_manifest(archive.blob(resolved.corpus.hash, "manifest"))
    names = {
        "shard": manifest.shards("train")[0].blob.hash,
        "tokenizer": resolved.tokenizer_hash,
        "manifest": resolved.corpus.hash,
    }
    for path in archive.blobs.path.glob(f"??/{names[what].hex()}*"):
        path.unlink()
    told = verdict(fake_run, "0x" + fake_run.standing.head.hex()).to_json()
    assert (told["ok"], told["culprit"]) == (False, culprit)


def test_an_archive_without_blobs_is_named(fake_run: FakeRun) -> None:
    shutil.rmtree(fake_run.folder.archive / "blobs")
    assert verdict(fake_run, "0x" + fake_run.standing.head.hex()).to_json()["culprit"] == "recipe"

"""What a record says of jobs that fail, that are given up, that wait for their push, and that are published."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.models.publishing import Publishing
from distrai.jobs.models.store import ModelStore
from distrai.jobs.records.claims import BadClaim, Claims
from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.recording import NotClosed, Recording
from distrai.jobs.records.shown import record_on_ledger
from distrai.jobs.records.told import stage_text
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder
from distrai.ledger.errors import LedgerUnreachable
from distrai.runs.records import Wanted, records_of
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NOT_OURS, REPO
from helpers.job_scripts import LOOK_S, TRAINS, new_job

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings(NOT_OURS)]
FAILS = "if job.attempt() == 1: raise SystemExit(1)\n"
ZERO = "0x" + "00" * 32


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DISTRAI_MODELS", raising=False)


def recorded(job: JobFolder, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run it with a record; what is told at the end, and the record as the ledger has it."""
    JobRun(job, lambda event: None, look_s=LOOK_S, witness=Recording(OwnLedger(), **options)).run()
    state = job.read()
    assert state.record is not None
    return state.record, record_on_ledger(state)["stages"]


def listed() -> list[str]:
    """How `distrai records list` calls the stages of all records."""
    return [stage_text(record) for record in records_of("", "", None, Wanted())["records"]]


def names(stages: list[dict[str, Any]]) -> list[str]:
    return [step["stage"] for step in stages]


def test_a_failed_job_says_so_and_the_next_attempt_goes_on_with_the_same_record(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", FAILS + TRAINS)
    told, stages = recorded(job)
    assert not told["closed"]
    assert names(stages) == ["requested", "started", "trained"] and stages[-1]["hash"] is None
    assert listed() == ["unfinished"]
    told, stages = recorded(job)
    assert told["closed"] and told["number"] == 1 and listed() == ["closed"]
    assert names(stages) == ["requested", "started", "trained", "saved", "closed"]
    assert stages[-1]["hash"] == stages[-2]["hash"] == told["manifest"] != ZERO
    blocks = [step["block"] for step in stages]
    assert blocks == sorted(set(blocks)), "each stage in a block of its own"


def test_a_job_that_is_given_up_closes_with_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(tmp_path / "job", "raise SystemExit(1)")
    with pytest.raises(NotClosed, match="no training record"):
        Recording(OwnLedger()).closed(job, job.read(), lambda event: None)
    recorded(job)
    for verb in (["verify", str(job.path)], ["generate", str(job.path), "Once"]):
        assert main(["models", *verb]) == 2
        assert "(failed) has made no model" in capsys.readouterr().err
    assert main(["jobs", "close", str(job.path)]) == 0
    assert "it names no model" in capsys.readouterr().out
    state = job.read()
    assert state.record is not None and state.record["closed"] and state.record["manifest"] == ZERO
    shown = record_on_ledger(state)
    assert shown["ledger"]["stage"] == "closed" and shown["claims"]["manifest"] is None
    assert listed() == ["closed, no model"]
    assert main(["jobs", "close", str(job.path)]) == 0, "once more changes nothing"


def test_a_ledger_that_does_not_answer_does_not_hide_why_a_job_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise LedgerUnreachable("http://user:secret@127.0.0.1 does not answer")

    job, events = new_job(tmp_path / "job", "raise SystemExit(7)"), list[dict[str, Any]]()
    witness = Recording(OwnLedger())
    started = Recording.started

    def then_silent(self: Recording, *arguments: Any) -> None:
        started(self, *arguments)
        monkeypatch.setattr(Recording, "_reached", fail)

    monkeypatch.setattr(Recording, "started", then_silent)
    result = JobRun(job, events.append, look_s=LOOK_S, witness=witness).run()
    assert result.status == "failed" and "exit code 7" in result.why
    said = [event["text"] for event in events if event.get("level") == "warning"]
    assert any("LedgerUnreachable" in text for text in said) and "secret" not in str(events)


def test_a_record_that_is_kept_open_is_told_of_the_push_and_closed(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(tmp_path / "job", TRAINS)
    told, stages = recorded(job, keep_open=True)
    assert not told["closed"] and names(stages)[-1] == "saved"
    assert main(["models", "verify", str(job.path)]) == 0
    said = capsys.readouterr().out
    assert "all is well" in said and "not closed yet" in said
    monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
    assert main(["models", "push", str(job.path), REPO]) == 0
    said = capsys.readouterr().out
    assert "training record: published" in said and "training record: closed" in said
    state = job.read()
    assert state.record is not None and state.record["closed"]
    *_, published, closed = record_on_ledger(state)["stages"]
    saved = ModelStore.at().find(state.job_id)
    assert (published["stage"], closed["hash"]) == ("published", "0x" + saved.manifest.hash)
    commit = hub.repos["model", REPO].head
    assert published["hash"] == "0x" + _sha256(f"{hub.url}/{REPO}@{commit}")
    assert main(["models", "verify", state.job_id]) == 0
    assert main(["models", "push", state.job_id, "alice/again"]) == 0
    assert "was closed before" in capsys.readouterr().out


def test_publishing_with_the_job_and_what_is_wrong_is_said_before_anything_runs(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["jobs", "run", "--command", "true", "--out", str(tmp_path / "new"), "--publish", REPO]
    for token, words in (
        (None, "no token"),
        ("hf_wrong", "does not know the token"),
        ("reads", "may only read"),
    ):
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", hub.token("bob", "read") if token == "reads" else token)
        assert main(options) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "new").exists()
    monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
    assert main([*options[:-1], "not a name"]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err
    job = new_job(tmp_path / "job", TRAINS)
    told, stages = recorded(job, publishing=Publishing(REPO))
    assert told["closed"] and names(stages)[-2:] == ["published", "closed"]
    assert hub.repos["model", REPO].private


def test_claims_are_what_is_said_and_else_what_is_found(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass")
    claims = Claims.read("8 x H100", "prime intellect", "2.105")
    recorded(job, claims=claims)
    shown = record_on_ledger(job.read())["claims"]
    assert (shown["gpu"], shown["provider"], shown["price_per_hour_usd"]) == (
        "8 x H100",
        "prime intellect",
        "2.105",
    )
    plain = Claims.read()
    assert (plain.provider, plain.price_per_hour) == ("local", 0) and plain.machine().name
    for wrong in (("x" * 65, "", ""), ("", "\n", ""), ("", "", "cheap"), ("", "", "-1"), ("", "", "inf")):
        with pytest.raises(BadClaim):
            Claims.read(*wrong)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

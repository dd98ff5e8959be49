"""``distrai records list|show`` on the user's own chain of jobs, on another folder, and what is wrong in words."""

import json
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.records.claims import Claims
from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.recording import Recording
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder
from helpers.job_scripts import LOOK_S, TRAINS, new_job

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobFolder]:
    """A user's folder of data, with the record of one job on their own chain."""
    base = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(base))
        patch.delenv("DISTRAI_MODELS", raising=False)
        job = new_job(base / "job", TRAINS, {"learning_rate": 2e-4})
        claims = Claims("L4", "somewhere\x1b[31m", 700_000)
        witness = Recording(OwnLedger(), theme="poems", claims=claims)
        JobRun(job, lambda event: None, look_s=LOOK_S, witness=witness).run()
    return base, job


@pytest.fixture
def verb(
    made: tuple[Path, JobFolder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.setenv("XDG_DATA_HOME", str(made[0]))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["records", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_records_of_ones_own_jobs_need_no_more_words(verb: Any, made: tuple[Path, JobFolder]) -> None:
    for arguments in ((), ("list",), ("list", OwnLedger().folder)):
        code, out, _ = verb(*arguments)
        assert (
            code == 0
            and "1 training record" in out
            and "poems" in out
            and "* is what the sender claims" in out
        )
    code, out, _ = verb("list", "--theme", "prose", "--json")
    assert code == 0 and json.loads(out)["records"] == []


def test_a_record_is_shown_with_all_that_it_has(verb: Any, made: tuple[Path, JobFolder]) -> None:
    _, job = made
    state = job.read()
    assert state.record is not None
    code, out, _ = verb("show", 1, "--json")
    told = json.loads(out)
    claims = told["claims"]
    assert code == 0 and told["ledger"]["sender"].lower() == state.record["sender"]
    assert told["ledger"]["requested_at"] == told["stages"][0]["at"]
    assert (claims["gpu"], claims["price_per_hour_usd"], claims["theme"]) == ("L4", "0.70", "poems")
    assert claims["training_seconds"] == round(state.seconds) and claims["model"] == "not told (toy)"
    assert json.loads(claims["parameters"])["learning_rate"] == 2e-4
    assert claims["source"] == told["stages"][0]["hash"] == "0x" + state.script_hash
    assert [step["stage"] for step in told["stages"]] == [
        "requested",
        "started",
        "trained",
        "saved",
        "closed",
    ]
    assert all(step["hash"] and step["block"] > 0 and step["transaction"] for step in told["stages"])
    assert told["stages"][0]["transaction"] == state.record["transaction"]
    for what in (state.job_id, job.path):
        assert json.loads(verb("show", what, "--json")[1]) == told
    code, text, _ = verb("show", 1)
    before, _, after = text.partition("claimed by the sender, and checked by nobody:")
    for name in ("requested at", "sender", "closed at"):
        assert f"{name}:" in before
    for name in (
        "gpu",
        "provider",
        "price",
        "model",
        "parameters",
        "parameter count",
        "theme",
        "time training",
    ):
        assert f"    {name}: " in after
    assert "0.70 US dollars for a GPU and hour" in after and "block " in after and "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "7"), "there is no training record 7"),
        (("show", "no-such-job"), "no training record and no job"),
        (("show", "1", "--rpc", "http://127.0.0.1:1"), "give both, or neither"),
        (("show", "1", "/"), "holds no run"),
        (("list", "--deployment", "x.json"), "give both, or neither"),
    ],
)
def test_a_mistake_is_one_sentence(verb: Any, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = verb(*arguments)
    assert code == 2 and words in err and len(err.strip().splitlines()) == 1


def test_without_a_chain_it_is_said_what_makes_one(
    verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code, _, err = verb()
    assert code == 2 and "the first job makes it" in err and not (tmp_path / "distrai").exists()

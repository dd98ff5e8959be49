"""``distrai eval``: what is meant by a name, and how good a run or a job's model is."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.data.dividing import prepare
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.scoring import score_model
from distrai.jobs.models.store import ModelStore
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.store import JobFolder, Limits
from distrai.runs.evaluating import Asked, NothingToEvaluate, evaluate, evaluation_text, find_subject
from distrai.runs.opened import OpenedRun
from helpers.run_folders import FakeRun
from helpers.toy_models import chats, make_toy_model, write_jsonl

NAME = "0x" + "ab" * 20 + "/toy"


def quiet(event: dict[str, Any]) -> None: ...


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DISTRAI_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return make_toy_model(tmp_path / "toy", hidden=64, layers=1)


def done_job(folder: Path, base: Path) -> JobFolder:
    """A job that made a model, and has its data."""
    job = create(Wanted.of_command("true", folder.parent, Limits(), []), folder)
    make_toy_model(job.out / "model", hidden=64, layers=1, seed=5)
    prepare(str(write_jsonl(folder / "chats.jsonl", chats(20))), job.path / "data", held_out=0.3)
    job.params.write_text(json.dumps({"model": str(base)}))
    job.write(job.read().with_(status="done", model="model"))
    return job


def test_a_run_is_judged_on_what_nobody_trained_on(finished: FakeRun) -> None:
    told = evaluate(Asked(str(finished.folder.path), limit=20), quiet)
    opened = OpenedRun.open(finished.folder, "cpu")
    opened.load(opened.archive.initial_state(opened.resolved))
    assert told["before"] == asdict(opened.measure(20))
    assert opened.load_newest() == told["round"] == 4
    assert told["after"] == asdict(opened.measure(20)) != told["before"]
    text = evaluation_text(told)
    assert f"{told['before']['loss']:.4f} -> {told['after']['loss']:.4f}" in text and "after round 4" in text


def test_a_run_is_judged_on_other_data_by_its_exported_model(
    fake_run: FakeRun, ledger_says: Callable[[FakeRun], None], tmp_path: Path
) -> None:
    ledger_says(fake_run)
    (tmp_path / "more.txt").write_text("def main():\n    return 1\n\nimport os\n")
    told = evaluate(Asked(str(fake_run.folder.path), data="more.txt", context=30), quiet)
    assert (told["what"], told["before"], told["after"]["examples"]) == ("run", None, 2)
    assert 0 < told["after"]["loss"] < 10 and not fake_run.folder.model.exists(), "nothing is left in the run"


def test_a_job_is_judged_as_it_began_and_as_it_is(toy: Path, tmp_path: Path) -> None:
    job = done_job(tmp_path / "job", toy)
    told = evaluate(Asked("job"), quiet)
    held_out = str(job.path / "data")
    assert told["before"] == asdict(score_model(str(toy), held_out))
    template = job.out / "model" / "chat_template.jinja"
    written = template.read_text()
    template.write_text("{{ '# ' }}" + written)
    both = asdict(score_model(str(toy), held_out, tokenizer_of=str(job.out / "model")))
    assert evaluate(Asked("job"), quiet)["before"] == both != told["before"], "both are told the same text"
    template.write_text(written)
    assert told["after"] == asdict(score_model(str(job.out / "model"), held_out)) != told["before"]
    assert told["after"]["examples"] == json.loads((job.path / "data" / "data.json").read_text())["held_out"]
    assert " -> " in evaluation_text(told)
    elsewhere = evaluate(Asked(job.read().job_id, data="job/chats.jsonl", limit=3), quiet)
    assert (elsewhere["what"], elsewhere["before"], elsewhere["after"]["examples"]) == ("job", None, 3)


def test_names_mean_what_is_there(toy: Path, tmp_path: Path, finished: FakeRun) -> None:
    done_job(tmp_path / "job", toy)
    save_model(ModelStore.at(""), toy, NAME, Origin(kind="sft"), {})
    found = {
        what: find_subject(what).kind
        for what in (str(finished.folder.path), "job", "toy", NAME, "owner/name")
    }
    assert list(found.values()) == ["run", "job", "folder", "model", "hub"]
    (tmp_path / "toy").rename(tmp_path / "other")
    assert find_subject("toy").name == NAME, "the store is asked where there is no such folder"
    told = evaluate(Asked(NAME, data="job/chats.jsonl", limit=2), quiet)
    assert (told["what"], told["after"]["examples"]) == ("model", 2)
    for nothing in ("", "nothing", "./owner/name", "/nowhere", "a/b/c"):
        with pytest.raises(NothingToEvaluate):
            find_subject(nothing)
    with pytest.raises(NothingToEvaluate, match="--data FILE"):
        evaluate(Asked("other"), quiet)

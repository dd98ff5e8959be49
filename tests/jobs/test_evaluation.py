"""Models judged before and after a training, by a script in a job of its own; the real harness runs in CI."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.evaluation import (
    CannotEvaluate,
    Evaluating,
    Evaluation,
    Tasks,
    evaluate_template,
    figures,
    keep_asked,
    report_of,
)
from distrai.jobs.forms.library import Template
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder, JobState, Limits
from helpers.job_scripts import new_job
from helpers.template_runs import Toys, smoke_run
from helpers.toy_models import write_jsonl

LIMITS = Limits(sandbox=False, timeout_s=60)
JUDGE = """
# /// script
# dependencies = []
# [tool.distrai.parameters]
# model = {type = "path"}
# tasks = {type = "str"}
# task_folder = {type = "path", default = ""}
# limit = {type = "int", default = 0}
# few_shot = {type = "int", default = -1}
# batch = {type = "int", default = 8}
# chat = {type = "bool", default = false}
# ///
import json, pathlib
import distrai_job as job
p = job.params()
if p["tasks"] == "broken":
    raise SystemExit("there is no task 'broken'")
size = len((pathlib.Path(p["model"]) / "weights").read_bytes())
found = {name: {"acc": size / 10, "acc_stderr": 0.5} for name in p["tasks"].split(",")}
(job.out() / "results.json").write_text(json.dumps({"asked": list(found), "tasks": found, "limit": p["limit"]}))
job.artifact("results.json", kind="report")
""".lstrip().encode()
TRAIN = """
(job.out() / "model").mkdir(exist_ok=True)
(job.out() / "model" / "weights").write_text("7654321")
job.metric(loss=0.5)
job.artifact("model", kind="model")
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights").write_text("123")
    return tmp_path / "base"


class Keeper:
    """Who keeps the record: it must see all that was measured."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.seen: dict[str, float | None] = {}

    def opened(
        self, job: JobFolder, state: JobState, tell: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        self.told.append(
            f"opened after {sorted(path.name for path in (job.path / 'evaluations').glob('*.json'))}"
        )
        return {"number": 1, "chain_id": 5}

    def started(self, job: JobFolder, state: JobState, tell: Callable[[dict[str, Any]], None]) -> None:
        self.told.append("started")

    def finished(self, job: JobFolder, state: JobState, tell: Callable[[dict[str, Any]], None]) -> JobState:
        self.told.append("finished")
        self.seen = state.metrics
        return state


def job_of(tmp_path: Path, base: Path) -> JobFolder:
    job = new_job(tmp_path / "job", TRAIN, {"data": ""}, LIMITS)
    job.params.write_text(json.dumps({"model": str(base)}))
    return job


def judge(names: str) -> Evaluation:
    return Evaluation(Tasks(names).check(), Template("judge", JUDGE), limits=LIMITS)


def test_a_model_is_judged_before_and_after_its_training(tmp_path: Path, base: Path) -> None:
    keeper, events, job = Keeper(), [], job_of(tmp_path, base)
    result = JobRun(job, events.append, witness=Evaluating(judge("a,b"), keeper), look_s=0.01).run()
    figures_of = {"a_acc_before": 0.3, "b_acc_before": 0.3, "a_acc_after": 0.7, "b_acc_after": 0.7}
    assert result.status == "done" and result.metrics == {"loss": 0.5, **figures_of}
    assert keeper.seen == result.metrics and keeper.told == [
        "opened after ['before.json']",
        "started",
        "finished",
    ]
    assert [item["path"] for item in result.artifacts] == [
        "distrai-evaluation/after.json",
        "distrai-evaluation/before.json",
        "model/weights",
    ]
    assert all(len(item["sha256"]) == 64 for item in result.artifacts)
    told = json.loads(report_of(job))
    assert told["before"]["tasks"]["a"]["acc"] == 0.3 and told["after"]["tasks"]["b"]["acc"] == 0.7
    assert [event["when"] for event in events if event["event"] == "evaluation"] == ["before", "after"]
    before = len(events)
    again = JobRun(job, events.append, witness=Evaluating(judge("a,b"), keeper), look_s=0.01).run()
    assert again.metrics == result.metrics and len(events) == before, "nothing is measured twice"


def test_a_script_cannot_say_what_the_harness_said(tmp_path: Path, base: Path) -> None:
    """Nor lead what is kept of it to a file of the user's, or a file of the user's into the model."""
    secret = tmp_path / "secret.json"
    secret.write_text('{"asked": [], "key": "do not tell"}')
    trick = f"""
for name in ("distrai-evaluation", "evaluation", "evaluations"):
    (job.out() / name).symlink_to({str(tmp_path)!r})
job.metric(a_acc_after=9.0, a_acc_before=9.0)
"""
    job = new_job(tmp_path / "job", trick + TRAIN, {"data": ""}, LIMITS)
    job.params.write_text(json.dumps({"model": str(base)}))
    result = JobRun(job, lambda event: None, witness=Evaluating(judge("a")), look_s=0.01).run()
    assert (result.metrics["a_acc_before"], result.metrics["a_acc_after"]) == (0.3, 0.7)
    assert "do not tell" not in report_of(job).decode() and "do not tell" in secret.read_text()
    assert not (tmp_path / "after.json").exists() and not (job.out / "distrai-evaluation").is_symlink()
    leak = f"""
(job.out() / "evaluation").mkdir()
(job.out() / "evaluation" / "after.json").symlink_to({str(secret)!r})
"""
    alone = new_job(tmp_path / "alone", leak + TRAIN, {"data": ""}, LIMITS)
    assert JobRun(alone, lambda event: None, look_s=0.01).run().status == "done" and report_of(alone) == b""


def test_what_is_wrong_with_a_task_is_known_before_the_script_starts(tmp_path: Path, base: Path) -> None:
    keeper, job = Keeper(), job_of(tmp_path, base)
    with pytest.raises(CannotEvaluate, match="there is no task 'broken'"):
        JobRun(job, lambda event: None, witness=Evaluating(judge("broken"), keeper), look_s=0.01).run()
    state = job.read()
    assert (state.status, keeper.told) == ("failed", []) and "broken" in state.why
    assert not (job.out / "model").exists() and report_of(job) == b""


def test_a_model_that_cannot_be_judged_is_still_done(tmp_path: Path, base: Path) -> None:
    keeper, events, job = Keeper(), [], job_of(tmp_path, base)
    job.params.write_text("{}")  # a new model has no base to judge before
    result = JobRun(job, events.append, witness=Evaluating(judge("broken"), keeper), look_s=0.01).run()
    assert (result.status, result.metrics, keeper.told[-1]) == ("done", {"loss": 0.5}, "finished")
    assert any("was not judged" in event.get("text", "") for event in events)


def test_what_was_asked_for_is_remembered(tmp_path: Path, base: Path) -> None:
    job = job_of(tmp_path, base)
    assert keep_asked(job, None) is None
    asked = Tasks("a, b,a", limit=3).check()
    assert asked.names == "a,b"
    assert keep_asked(job, asked) == asked == keep_asked(job, None)
    (job.path / "evaluations" / "asked.json").write_text("[]")
    with pytest.raises(CannotEvaluate, match="--eval"):
        keep_asked(job, None)
    for wrong in (
        Tasks(""),
        Tasks(" , "),
        Tasks("arc_easy,humaneval_64"),
        Tasks("a", folder=str(tmp_path / "none")),
        Tasks(",".join(map(str, range(101)))),
    ):
        with pytest.raises(CannotEvaluate):
            wrong.check()
    for content in ("", "[]", '{"asked": ["a"]}', '{"asked": ["a"], "tasks": {"a": {"acc": "x"}}}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(CannotEvaluate, match="no file of results"):
            figures(tmp_path / "results.json")


def test_the_harness_stays_in_an_environment_of_its_own() -> None:
    header = evaluate_template().header()
    assert any(text.startswith("lm_eval") for text in header.dependencies) and header.constraints
    assert set(Tasks("a").values("m")) <= set(header.parameters)
    constraints = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert "lm_eval" not in constraints and "lm-eval" not in constraints


@pytest.mark.ci
@pytest.mark.processes
def test_the_real_harness_judges_by_a_task_on_disk(
    toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """It is installed from the package index, held to our versions; its tasks and their data are here."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache" / "datasets"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"question": f"Where is Ada {number}?", "choices": [" she", " " + "zq" * 20], "right": 0}
        for number in range(12)
    ]
    data = write_jsonl(folder / "where.jsonl", rows)
    (folder / "where.yaml").write_text(
        f"task: where_is\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_target: "{{right}}"\n'
        'doc_to_choice: "{{choices}}"\nmetric_list:\n  - metric: acc\nmetadata:\n  version: 1.0\n'
    )
    (folder / "mine.yaml").write_text("group: mine\ntask:\n  - where_is\n  - solve\n")
    (folder / "solve.yaml").write_text("include: where.yaml\ntask: solve\nunsafe_code: true\n")
    values = {"model": toys.model, "tasks": "where_is", "task_folder": str(folder), "limit": 8}
    ran = smoke_run("evaluate", tmp_path / "job", values)
    assert ran.result.status == "done", f"{ran.result.why}\n{ran.log[-3000:]}"
    assert ran.metrics == {"where_is_acc": 1.0}, "the short answer is likelier"
    told = json.loads((ran.job.out / "results.json").read_text())
    assert told["samples"] == {"where_is": 8} and told["versions"] == {"where_is": "1.0"}
    assert ran.job.read().environment not in ("", "own")
    for name, why in (
        ("hellaswag", "the data of the task hellaswag cannot be reached"),
        ("where_iz", "did you mean where_is"),
        ("mine", "the task solve of mine runs code that the model writes"),
    ):
        failed = smoke_run("evaluate", tmp_path / name, values | {"tasks": name})
        assert failed.result.status == "failed" and why in failed.result.why and "\n" not in failed.result.why

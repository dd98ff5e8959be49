"""``distrai jobs``: every verb, by its exit code and what it prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.store import Limits
from helpers.job_scripts import script

pytestmark = pytest.mark.processes
VERBS = ("new", "edit", "check", "data", "run", "list", "show", "logs", "stop", "close")
BODY = """
values = job.params()
for step in range(values["steps"]):
    job.metric(loss=1 / (step + 1), step=step + 1, total=values["steps"])
(job.out() / "model").mkdir(exist_ok=True)
(job.out() / "model" / "rate").write_text(str(values["learning_rate"]))
job.artifact("model", kind="model")
print("\\033[2J printed")
"""
HELP = (
    "import sys; from distrai.cli.main import main; code = main(['jobs', 'run', '--help']);"
    "print(sorted({'torch', 'web3', 'transformers', 'packaging', 'psutil', 'distrai.jobs'} & set(sys.modules)), code)"
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """A template of the user's own that may run."""
    (tmp_path / "theirs.py").write_bytes(script(BODY))
    assert main(["jobs", "new", "theirs.py", "toy"]) == 0
    assert main(["jobs", "edit", "toy", "--save"]) == 0
    return "toy"


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The last line, which is one object."""
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_help_imports_nothing_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_a_run_ends_with_one_object(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "job"
    arguments = ["--preset", "smoke", "--set", "learning_rate=2e-4", "--out", str(out), "--json"]
    assert main(["jobs", "run", toy, *arguments, "--no-record"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    result = lines[-1]
    assert [line["step"] for line in lines[:-1] if line["event"] == "metric"] == [1, 2, 3]
    assert {"job_id", "status", "metrics", "artifacts", "record", "model_path"} <= set(result)
    assert (result["status"], result["metrics"]) == ("done", {"loss": 1 / 3})
    assert [item["path"] for item in result["artifacts"]] == ["model/rate"]
    assert (Path(result["model_path"]) / "rate").read_text() == "0.0002"
    assert main(["jobs", "list", "--json"]) == 0
    assert [job["job_id"] for job in told(capsys)["jobs"]] == [result["job_id"]]
    assert main(["jobs", "show", result["job_id"], "--json"]) == 0
    assert told(capsys)["artifacts"] == result["artifacts"]
    assert main(["jobs", "logs", str(out), "--output"]) == 0
    assert capsys.readouterr().out == "�[2J printed\n", "what drives a terminal is not shown"
    assert main(["jobs", "logs", result["job_id"]]) == 0
    assert "step 3/3 loss 0.333333" in capsys.readouterr().out
    assert main(["jobs", "stop", result["job_id"]]) == 0
    assert "is not running" in capsys.readouterr().out


def test_the_form_is_shown_and_values_are_checked(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", toy]) == 0
    text = capsys.readouterr().out
    for part in ("learning_rate", "how fast; at least 0; at most 1", "one of none, nf4", "smoke: steps=3"):
        assert part in text
    assert main(["jobs", "check", toy, "--set", "steps=7", "--json"]) == 0
    found = told(capsys)
    assert (found["values"]["steps"], found["missing"], found["accepted"]) == (7, [], True)
    assert main(["jobs", "list", "--templates"]) == 0
    assert "A toy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "toy", "--set", "learning_rat=1"], "did you mean learning_rate"),
        (["run", "toy", "--set", "learning_rate=2"], "at most 1"),
        (["run", "toy", "--set", "steps"], "NAME=VALUE"),
        (["run", "toy", "--preset", "smok"], "did you mean smoke"),
        (["run", "tox"], "did you mean toy"),
        (["run", "theirs.py", "--accept", "00"], "now has SHA-256"),
        (["run"], "give a template"),
        (["run", "toy", "--command", "true"], "give a template"),
        (["run", "--command", "true", "--preset", "smoke"], "--preset"),
        (["run", "--command", " "], "--command is empty"),
        (["run", "toy", "--env", "NOT_SET_HERE"], "--env NOT_SET_HERE"),
        (["run", "toy", "--out", "full"], "new or empty"),
        (["run", "toy", "--timeout", "-1"], "--timeout"),
        (["run", "toy", "--eval", " , "], "1 to 100 tasks"),
        (["run", "toy", "--eval-limit", "3"], "need --eval"),
        (["run", "toy", "--eval", "a", "--eval-folder", "nowhere"], "no folder nowhere"),
        (["run", "sft-qlora"], "still needs --set model=..., --set data=..."),
        (["run", "sft-qlora", "--set", "model=o/m", "--set", "data="], "parameter data: it is empty"),
        (["run", "sft-qlora", "--set", "model=m", "--set", "data=x.jsonl"], "there is no folder m here"),
        (["run", "--command", "echo hello; exit 3"], "read by no shell"),
        (["run", "--command", "echo $DISTRAI_OUT"], "read by no shell"),
        (["run", "--command", "echo $HOME/x"], "read by no shell"),
        (["run", "--command", "echo '"], "cannot be read"),
        (["run", "sft-qlora", "--set", "model=/nowhere", "--set", "data=x.jsonl"], "there is no /nowhere"),
        (["run", "sft-qlora", "--set", "model=full", "--set", "data=x.jsonl"], "no config.json"),
        (["run", "sft-qlora", "--set", "model=o/m", "--set", "data=x.jsonl"], "there is no x.jsonl"),
        (["check"], "give a template"),
        (["check", "sft-qlora", "--preset", "smok"], "did you mean smoke"),
        (["check", "sft-qlora", "--price", "2"], "--price needs --gpu"),
        (["check", "sft-qlora", "--gpus", "0"], "--gpus"),
        (["check", "sft-qlora", "--parameters", "-1"], "--parameters"),
        (["check", "blank", "--gpu", "H100"], "is not known here"),
        (["data", "x.jsonl"], "there is no x.jsonl"),
        (["data", "full"], "is a folder"),
        (["data", " "], "give a file"),
        (["data", "x.jsonl", "--format", "chta"], "none of chat"),
        (["data", "x.jsonl", "--for", "blank"], "its own business"),
        (["data", "x.jsonl", "--for", "nothing"], "no template"),
        (["data", "x.jsonl", "--context", "9"], "--model"),
        (["data", "x.jsonl", "--limit", "-1"], "not negative"),
        (["data", "x.jsonl", "--format", "text", "--for", "dpo"], "nothing for dpo"),
        (["run", "nothing.py"], "no file"),
        (["new", "toy", "toy"], "already"),
        (["edit", "theirs.py", "--save"], "any editor"),
        (["show", "nothing"], "no template"),
        (["logs", "nothing"], "distrai jobs list"),
        (["stop", "nothing"], "distrai jobs list"),
    ],
)
def test_mistakes_are_one_line_and_2(
    toy: str, tmp_path: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").touch()
    capsys.readouterr()
    assert main(["jobs", *arguments]) == 2
    said = capsys.readouterr()
    assert part in said.err
    assert said.err.startswith("distrai: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "data" / "distrai" / "jobs").exists(), "nothing was begun"


def test_a_failed_job_is_1_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "jobs",
                "run",
                "--command",
                "sh -c 'echo too bad; exit 4'",
                "--out",
                "job",
                "--json",
                "--no-record",
            ]
        )
        == 1
    )
    result = told(capsys)
    assert result["status"] == "failed"
    assert "exit code 4: too bad" in result["why"]
    assert main(["jobs", "show", "job"]) == 0
    assert "too bad" in capsys.readouterr().out


GOOD = '{"messages": [{"role": "user", "content": "a%d"}, {"role": "assistant", "content": "b"}]}\n'


def test_a_bad_line_of_data_is_found_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.jsonl").write_text("".join(GOOD % number for number in range(3)))
    (tmp_path / "bad.jsonl").write_text(GOOD % 1 + '{"messages": 3}\n')
    (tmp_path / "theirs.py").write_bytes(script("pass").replace(b'kind = "toy"', b'kind = "sft"'))
    assert main(["jobs", "run", "theirs.py", "--set", "data=bad.jsonl"]) == 2
    assert "bad.jsonl line 2" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert main(["jobs", "check", "theirs.py", "--set", "data=bad.jsonl"]) == 1
    assert "line 2: " in capsys.readouterr().out
    arguments = ["--set", "data=good.jsonl", "--gpu", "H100_80GB", "--price", "2.5", "--parameters", "7e9"]
    assert main(["jobs", "check", "theirs.py", *arguments]) == 0
    said = capsys.readouterr().out
    assert "3 chat examples" in said and "hours, $" in said and "a guess: " in said


def test_a_check_without_a_model_shows_the_form_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "check", "dpo", "--gpu", "H100_80GB"]) == 1
    said = capsys.readouterr().out
    for part in (
        "learning_rate",
        "still needed: --set model=..., --set data=...",
        "not known: the data",
        "--parameters 7e9",
    ):
        assert part in said
    assert main(["jobs", "check", "dpo", "--gpu", "H100_80GB", "--json"]) == 1
    found = told(capsys)
    assert (found["ok"], found["lacking"]) == (False, ["model", "data"])
    assert found["estimate"]["missing"] and found["form"]["parameters"]["model"]["type"] == "path"


def test_data_is_checked_and_divided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.jsonl").write_text("".join(GOOD % number for number in range(40)))
    assert main(["jobs", "data", "good.jsonl", "--for", "sft-qlora", "--out", "ready", "--json"]) == 0
    found = told(capsys)
    assert (found["train"], found["held_out"], found["folder"]) == (38, 2, str(tmp_path / "ready"))
    assert main(["jobs", "data", "ready"]) == 0
    assert "38 to train on, 2 held out" in capsys.readouterr().out
    (tmp_path / "good.jsonl").write_text((tmp_path / "good.jsonl").read_text() + "{\n")
    assert main(["jobs", "data", "good.jsonl", "--out", "other"]) == 1
    assert "line 41: no JSON" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()
    assert main(["jobs", "data", "ready", "--out", "other"]) == 2
    assert "divided already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nothing"], "is no run, no job, no saved model"),
        ([""], "an empty name is no run"),
        (["model"], "--data FILE"),
        (["model", "--data", "x", "--tasks", "y"], "leave out --data"),
        (["model", "--tasks", ","], "1 to 100 tasks"),
        (["model", "--tasks", "a", "--task-folder", "nowhere"], "no folder nowhere"),
        (["model", "--limit", "-1"], "not negative"),
        (["model", "--data", "x.jsonl"], "there is no x.jsonl"),
        (["job"], "has made no model"),
    ],
)
def test_mistakes_of_eval_are_one_line_and_2(
    tmp_path: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    create(Wanted.of_command("true", tmp_path, Limits(), []), tmp_path / "job")
    data = ["--data", "model"] if arguments == ["job"] else []
    assert main(["eval", *arguments, *data, "--json"]) == 2
    said = capsys.readouterr()
    assert part in said.err and said.err.startswith("distrai: ")
    assert json.loads(said.out.splitlines()[-1])["ok"] is False

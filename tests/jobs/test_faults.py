"""What can go wrong with a job: each is one clear sentence for the user, and nothing is lost."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.models.store import ModelStore
from distrai.jobs.running.store import JobFolder
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NOT_OURS, REPO, save_tiny
from helpers.job_scripts import HEADER, has_ended, script
from helpers.small_disks import on_small_disk
from helpers.toy_models import chats, write_jsonl
from helpers.wheels import make_wheel

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings(NOT_OURS)]
COUNTS = """
import os
kept = job.out() / "checkpoint"
begun = int(kept.read_text()) if kept.exists() else 0
for step in range(begun + 1, 6):
    kept.write_text(str(step))
    job.metric(loss=1 / step, step=step, total=5)
    if step == 3 and job.attempt() == 1:
        FAULT
job.artifact("checkpoint")
"""
ENDED = "the script ended with exit code 1:"
AGAIN = "run it again to go on from its last checkpoint"
NAME_IT = "name the package in `dependencies` of the script's header"
FULL_DISK = """
import os, sys
from pathlib import Path
from distrai.cli.main import main

small, text, accepted = sys.argv[1:]
os.chdir(small)
command = ["jobs", "run", text, "--accept", accepted, "--no-record", "--out", "job", "--json"]
for _ in range(2):
    print("CODE", main(command), flush=True)
    print("KEPT", Path("job/out/checkpoint").read_text(), flush=True)
    Path("job/out/ballast").unlink(missing_ok=True)
"""


@dataclass(frozen=True)
class Said:
    """What a verb told its user."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The object at the end of what it printed."""
        return dict(json.loads(self.out.splitlines()[-1]))

    @property
    def sentence(self) -> str:
        """The one line that says what went wrong."""
        assert "Traceback" not in self.out + self.err
        if not self.err:
            return str(self.result["why"])
        (line,) = self.err.splitlines()
        return line.removeprefix("distrai: ")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``distrai jobs run``, in the folder ``job``."""

    def jobs_run(what: object, *more: str) -> Said:
        code = main(["jobs", "run", str(what), "--out", "job", "--no-record", "--json", *more])
        return Said(code, *capfd.readouterr())

    return jobs_run


def accepted(tmp_path: Path, body: str, header: str = HEADER) -> list[str]:
    """A script that its user looked at."""
    text = script(body, header)
    (tmp_path / "mine.py").write_bytes(text)
    return [str(tmp_path / "mine.py"), "--accept", hashlib.sha256(text).hexdigest()]


def steps_of(folder: Path) -> list[int]:
    return [event["step"] for event in JobFolder(folder).read_events() if event["event"] == "metric"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("learning_rat=1", "learning_rat: this template has none of that name; did you mean learning_rate?"),
        ("learning_rate=2", "learning_rate: 2.0 is too large; give at most 1"),
        ("learning_rate=nan", "learning_rate: NaN is not a finite number"),
        ("epochs=many", 'epochs: "many" is not a finite number'),
        ("batch=2.5", "batch: 2.5 is not a whole number"),
        ("double_quant=perhaps", 'double_quant: "perhaps" is not true or false'),
        ("method=qlor", 'method: "qlor" is no choice; did you mean qlora?'),
    ],
)
def test_a_bad_parameter(run: Callable[..., Said], tmp_path: Path, given: str, sentence: str) -> None:
    said = run("sft-qlora", "--set", "model=m", "--set", "data=d.jsonl", "--set", given)
    assert (said.code, said.sentence) == (2, f"parameter {sentence}")
    assert not (tmp_path / "job").exists(), "nothing was begun"


def test_a_parameter_that_is_missing(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("sft-qlora", "--set", "data=d.jsonl")
    assert said.code == 2
    assert "needs --set model=" in said.sentence
    assert not (tmp_path / "job").exists()


def test_a_bad_line_of_data(run: Callable[..., Said], tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", chats(5))
    lines = data.read_text().splitlines()
    lines[2] = lines[2][:-1]
    lines[3] = lines[3].replace('"assistant"', '"asistant"')
    data.write_text("\n".join(lines) + "\n")
    (tmp_path / "config.json").write_text("{}")
    said = run("sft-qlora", "--set", f"model={tmp_path}", "--set", f"data={data}")
    assert said.code == 2
    assert said.sentence.startswith(f"{data} line 3: no JSON: ")
    assert "line 4: messages[2].role is 'asistant'" in said.sentence
    assert "did you mean assistant?" in said.sentence
    assert not (tmp_path / "job").exists()
    assert data.read_text().splitlines() == lines


def test_a_missing_package(run: Callable[..., Said], tmp_path: Path, packages: Path) -> None:
    header = HEADER.replace("dependencies = []", 'dependencies = ["distraitoymissing"]')
    mine = accepted(tmp_path, COUNTS.replace("FAULT", "import distraitoymissing"), header)
    said = run(*mine)
    assert said.code == 2
    assert said.sentence.startswith("the packages of this script cannot be installed: ")
    assert "distraitoymissing" in said.sentence
    job = JobFolder(tmp_path / "job")
    assert (job.read().status, job.read().why) == ("failed", said.sentence)
    make_wheel(packages, "distraitoymissing", "1.0")
    assert run(*mine).result["status"] == "done"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "os.kill(os.getpid(), 9)",
            f"the script was killed (SIGKILL); the machine may have been short of memory: {AGAIN}",
        ),
        (
            "os.kill(os.getppid(), 9); os.read(os.pipe()[0], 1)",
            "the job was lost with what supervised it (a crash of the machine, or a kill): run it again to go on",
        ),
        ("raise KeyError('loss')", f"{ENDED} KeyError: 'loss'"),
        (
            "job.params()['data'].nothing",
            f"{ENDED} AttributeError: 'str' object has no attribute 'nothing'",
        ),
        (
            "import no_such_package_here",
            f"{ENDED} ModuleNotFoundError: No module named 'no_such_package_here' ({NAME_IT})",
        ),
        (
            "bytearray(64 << 30)",
            f"{ENDED} MemoryError (give more with --memory, or take a smaller model)",
        ),
    ],
)
def test_a_script_that_ends_too_early(
    run: Callable[..., Said], tmp_path: Path, fault: str, sentence: str
) -> None:
    mine = accepted(tmp_path, f"print('printed', flush=True)\n{COUNTS.replace('FAULT', fault)}")
    limits = [
        "--memory",
        "8",
        *(["--no-sandbox"] if "getppid" in fault else []),
    ]  # in one, that is not the supervisor
    first = run(*mine, *limits)
    assert (first.code, first.sentence) == (1, sentence)
    job = JobFolder(tmp_path / "job")
    assert (job.out / "checkpoint").read_text() == "3"
    pid = json.loads((job.attempt(1) / "running.json").read_text())["pid"]
    assert has_ended(int(pid))
    printed = job.log.read_text()
    second = run(*mine, *limits)
    assert (second.code, second.result["status"], second.err) == (0, "done", "")
    assert steps_of(tmp_path / "job") == [1, 2, 3, 4, 5], "it went on where it was"
    assert job.log.read_text().startswith(printed), "what was printed before is still there"
    assert [item["path"] for item in second.result["artifacts"]] == ["checkpoint"]


def test_a_full_disk(tmp_path: Path) -> None:
    fault = """with (job.out() / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)): pass"""
    mine, _, digest = accepted(tmp_path, COUNTS.replace("FAULT", fault))
    done = on_small_disk(FULL_DISK, tmp_path / "small", "1m", mine, digest)
    told = done.stdout.splitlines()
    assert [line for line in told if line.startswith(("CODE", "KEPT"))] == [
        "CODE 1",
        "KEPT 3",
        "CODE 0",
        "KEPT 5",
    ], done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence == (
        f"distrai: the disk of {tmp_path / 'small' / 'job'} is full; nothing is lost: make room, then "
        f"`distrai jobs run {tmp_path / 'small' / 'job'}` goes on"
    )
    assert json.loads(told[-3])["status"] == "done"


def test_a_hostile_script_hurts_nobody(run: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    body = """
    import json, os, sys
    (job.out() / "good").write_text("good")
    job.artifact("good")
    (job.out() / "link").symlink_to("../../secret")
    sys.stdout.buffer.write(bytes(range(256)) * 40 + b"\\n" + b"x" * (5 << 20) + b"\\n\\x1b[2J\\n")
    sys.stdout.buffer.flush()
    for value in ("NaN", "Infinity", "1e999", '"low"', "[1]", "null"):
        print('::distrai {"type": "metric", "values": {"loss": ' + value + "}}")
    print("::distrai " + "[" * 100_000)
    for path in ("link", "../../secret", "/etc/hostname", "a\\0b", "nothing"):
        print("::distrai " + json.dumps({"type": "artifact", "path": path}), flush=True)
    job.metric(loss=float("nan"), rate=0.5)
    """
    said = run(*accepted(tmp_path, body))
    assert said.code == 1
    assert "lies outside of OUT: only what is inside is taken" in said.sentence
    result = said.result
    assert [item["path"] for item in result["artifacts"]] == ["good"]
    assert result["metrics"] == {"loss": None, "rate": 0.5}
    assert all(line.isprintable() for line in said.out.splitlines())
    assert said.out.count("secret") <= 4, "the name, and nothing of what is in it"
    job = JobFolder(tmp_path / "job")
    assert max(map(len, job.events.read_bytes().splitlines())) < 10_000
    assert [event["event"] for event in job.read_events()].count("refused") >= 6


@pytest.mark.parametrize(
    ("make", "repo", "words"),
    [
        (lambda hub: "hf_" + "x" * 34, REPO, "does not know the token"),
        (lambda hub: hub.token("alice", "read"), REPO, "may only read"),
        (lambda hub: hub.token("alice"), "bob/tiny", "check the name"),
        (lambda hub: hub.token("alice"), "alice", "OWNER/NAME"),
    ],
)
def test_a_wrong_token_or_repository(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    make: Callable[[FakeHub], str],
    repo: str,
    words: str,
) -> None:
    monkeypatch.setenv("DISTRAI_MODELS", str(tmp_path / "models"))
    store = ModelStore.at(str(tmp_path / "models"))
    saved = save_tiny(store, tmp_path / "made")
    token = make(hub)
    (tmp_path / "token").write_text(token)
    code = main(["models", "push", "tiny", repo, "--token-file", str(tmp_path / "token")])
    said = Said(code, *capfd.readouterr())
    assert said.code == 2
    assert words in said.sentence
    assert token not in said.out + said.err
    assert store.verify(saved).ok, "the model is still there, and whole"
    assert all(len(repo.commits) == 1 for repo in hub.repos.values()), "nothing was pushed"
    assert os.environ["HF_ENDPOINT"] == hub.url

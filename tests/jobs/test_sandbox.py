"""A script inside bubblewrap: what it may not read or write; and the plain words where there is no bubblewrap.

Where a system forbids namespaces the tests of what is hidden see that this is told, and that no network is refused.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.running import sandbox
from distrai.jobs.running.sandbox import NoSandbox, why_not
from distrai.jobs.running.store import JobFolder, Limits
from helpers.job_scripts import HEADER, has_ended, new_job, run_job, script

pytestmark = pytest.mark.processes
TRIES = """
import json, os, socket
def read(path):
    try:
        return open(path, "rb").read().decode()
    except OSError as error:
        return type(error).__name__
def write(path):
    try:
        open(path, "ab").close()
        return True
    except OSError:
        return False
told = {path: read(path) for path in READ}
told |= {"write " + path: write(path) for path in WRITE}
told["pids"] = sum(name.isdigit() for name in os.listdir("/proc"))
try:
    socket.create_connection(("127.0.0.1", PORT), 5).close()
    told["network"] = True
except OSError:
    told["network"] = False
(job.out() / "told.json").write_text(json.dumps(told))
"""


def tried(job: JobFolder) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    result = run_job(job, events)
    assert result.status == "done", result.why
    said = [event["text"] for event in events if event.get("level") == "warning"]
    return {**json.loads((job.out / "told.json").read_text()), "said": said}


def body(read: list[Path], write: list[Path], port: int = 1) -> str:
    named = {"READ": read, "WRITE": write}
    text = TRIES.replace("PORT", str(port))
    for name, paths in named.items():
        text = text.replace(name, repr([str(path) for path in paths]))
    return text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a key, a token, another job, a wallet elsewhere, and data."""
    home = tmp_path / "home"
    for name, text in (
        (".ssh/id_ed25519", "private"), (".cache/huggingface/token", "hf_secret"), (".netrc", "password"),
        ("notes.txt", "private"), ("data/train.jsonl", "data"), ("config/distrai/wallet.json", "private"),
    ):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return home


def test_a_script_reads_no_keys_and_writes_only_into_its_own_folders(home: Path) -> None:
    secret = [
        home / ".ssh/id_ed25519",
        home / ".cache/huggingface/token",
        home / ".netrc",
        home / "notes.txt",
    ]
    secret += [home / "config/distrai/wallet.json", Path(f"/proc/{os.getpid()}/environ")]
    data, job_path = home / "data" / "train.jsonl", home / "jobs" / "job"
    job_path.parent.mkdir()
    denied = [data, job_path / "job.json", job_path / "script" / "toy.py", Path("/etc/distrai-test")]
    given = {"data": str(data)}
    job = new_job(job_path, body([data, *secret], [*denied, job_path / "out" / "x"]), given)
    told = tried(job)
    assert told[str(data)] == "data" and told[f"write {job_path}/out/x"]
    if why := why_not():
        assert len(told["said"]) == 1 and why in told["said"][0] and "--no-sandbox" in told["said"][0]
        return
    assert told["said"] == []
    assert {told[str(path)] for path in secret} <= {"FileNotFoundError", "PermissionError"}
    assert [told[f"write {path}"] for path in denied] == [False] * len(denied)
    assert told["pids"] <= 3


def test_what_a_template_suggests_opens_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the user has put into a field for paths is shown, and never the home folder in disguise."""
    notes, round_about = home / "notes.txt", f"/proc/self/root{home}"
    header = HEADER.replace(
        'data = {type = "path", default = ""}', f'data = {{type = "path", default = "{notes}"}}'
    )
    header = header.replace("# data =", f'# text = {{type = "str", default = "{notes}"}}\n# data =')
    monkeypatch.setattr("helpers.job_scripts.script", lambda body: script(body, header))
    for given in (
        {},
        {"data": str(notes)},
        {"data": round_about},
        {"data": f"{home}/data/.."},
        {"text": str(notes)},
    ):
        job = new_job(home / f"job{len(str(given))}", body([notes], []), given)
        shown = [
            part for part in sandbox.wrapped(job, job.read(), ["true"], {}) if part.startswith(str(home))
        ]
        assert str(notes) not in shown and round_about not in shown, given
        assert str(home) in shown  # as an empty folder
        assert shown.count(str(home)) == 1


def test_no_sandbox_means_what_it_says(home: Path) -> None:
    secret = home / "notes.txt"
    job = new_job(home / "job", body([secret], [home / "new"]), limits=Limits(sandbox=False))
    told = tried(job)
    assert told[str(secret)] == "private" and told[f"write {home}/new"] and told["said"] == []


def test_a_key_beside_the_data_stays_hidden(home: Path) -> None:
    """Somebody whose data is in the home folder itself, and a program that is started there."""
    job = new_job(home / "job", body([home / ".ssh/id_ed25519", home / "notes.txt"], []))
    state = job.read()
    command = sandbox.wrapped(job, state.with_(script="", base=str(home), command=["true"]), ["true"], {})
    binds = [(command[i + 1], i) for i, part in enumerate(command) if part in ("--ro-bind", "--bind")]
    hides = {command[i + 1]: i for i, part in enumerate(command) if part == "--tmpfs"}
    shown = dict(binds)[str(home)]
    assert hides[str(home)] < shown < hides[str(home / ".ssh")], (
        "first all of it, then what is in it is hidden again"
    )
    assert command[shown] == "--ro-bind"


@pytest.mark.parametrize("network", [True, False])
def test_the_network_is_there_unless_it_is_refused(home: Path, network: bool) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        job = new_job(home / "job", body([], [], server.getsockname()[1]), limits=Limits(network=network))
        if not network and why_not():
            with pytest.raises(NoSandbox, match="--no-network needs bubblewrap"):
                run_job(job)
            return
        assert tried(job)["network"] is network


def test_without_bubblewrap_it_is_said_once_and_the_job_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "which", lambda *_, **__: None)
    why_not.cache_clear()
    try:
        job = new_job(home / "job", "if job.attempt() == 1: raise SystemExit(1)\n" + body([], []))
        events: list[dict[str, Any]] = []
        assert run_job(job, events).status == "failed"
        said = [event["text"] for event in events if event.get("level") == "warning"]
        assert len(said) == 1 and "bubblewrap is not installed" in said[0]
        assert tried(job)["said"] == [], "not again"
        with pytest.raises(NoSandbox, match="install bubblewrap"):
            run_job(new_job(home / "job2", "pass", limits=Limits(network=False)))
    finally:
        why_not.cache_clear()


DEAF = """
import signal, time
def saved(*_):
    (job.out() / "saved").touch()
    raise SystemExit(3)
signal.signal(signal.SIGTERM, saved)
job.status("waiting")
while True:
    time.sleep(1)
"""


def test_a_signal_reaches_the_script_inside_and_how_it_ended_is_told(home: Path) -> None:
    job = new_job(home / "deaf", DEAF, limits=Limits(timeout_s=1.0, grace_s=0.05))
    assert run_job(job).status == "failed"
    assert (job.out / "saved").exists(), "it had time to save"
    assert json.loads((job.attempt(1) / "exit.json").read_text())["code"] == 3
    killed = run_job(new_job(home / "killed", "import os; os.kill(os.getpid(), 9)"))
    assert (killed.status, "SIGKILL" in killed.why) == ("failed", True)
    absent = run_job(new_job(home / "code", "raise SystemExit(7)"))
    assert "exit code 7" in absent.why


def test_a_killed_supervisor_takes_what_is_inside_with_it(home: Path) -> None:
    job = new_job(home / "job", "import time\njob.status('waiting')\ntime.sleep(600)")
    ended: list[int] = []

    def kill(event: dict[str, Any]) -> None:
        if event.get("text") == "waiting":
            ended.append(int(json.loads((job.attempt(1) / "running.json").read_text())["pid"]))
            os.kill(int((job.attempt(1) / "lock").read_text()), signal.SIGKILL)

    from distrai.jobs.running.runner import JobRun

    result = JobRun(job, kill, look_s=0.01).run()
    assert result.status == "failed" and "lost" in result.why
    assert ended and has_ended(ended[0])

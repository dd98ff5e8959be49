"""A job from its start to its end: events, results, refusals, and nothing that leaks."""

import asyncio
import hashlib
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.records.ledgers import OtherLedger, OwnLedger
from distrai.jobs.records.recording import Recording
from distrai.jobs.running.confinement import BadVariable, check_passed, script_environment
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.events import BadEvent, read_event
from distrai.jobs.running.runner import METRICS_MAX, JobRun
from distrai.jobs.running.store import JobFolder, Limits, NoJob, OtherJob, all_jobs, find_job
from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.keys import NodeKey
from distrai.ledger.locks import InUse
from distrai.ledger.rpc import Patience
from helpers.job_scripts import LOOK_S, has_ended, new_job, run_job

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_job_tells_events_and_hashes_what_it_made(tmp_path: Path) -> None:
    body = """
    values = job.params()
    job.status("training")
    for step in range(values["steps"]):
        job.metric({"loss": 1 / (step + 1)}, step=step + 1, total=values["steps"])
    job.metric(rate=values["learning_rate"], loss=float("nan"))
    (job.out() / "model").mkdir()
    (job.out() / "model" / "weights").write_bytes(b"w")
    job.artifact("model", kind="model")
    print("printed")
    print('::distrai {"type": "log", "text": "from standard output"}')
    """
    events: list[dict[str, Any]] = []
    job = new_job(tmp_path / "job", body, {"steps": 2, "learning_rate": 2e-4})
    result = run_job(job, events).to_json()
    assert result["status"] == "done"
    assert result["metrics"] == {"loss": None, "rate": 2e-4}
    assert result["artifacts"] == [{"path": "model/weights", "sha256": hashlib.sha256(b"w").hexdigest()}]
    assert result["model_path"] == str(tmp_path / "job" / "out" / "model")
    assert result["record"] is None
    kinds = [event["event"] for event in events if event.get("level") != "warning"]  # there is no bubblewrap
    assert kinds == ["state", "status", "metric", "metric", "metric", "artifact", "log", "state"]
    assert job.log.read_text() == "printed\n"
    assert list(job.read_events()) == events
    assert find_job(result["job_id"]).read() == job.read()


def test_what_is_kept_of_measures_has_a_bound(tmp_path: Path) -> None:
    body = """
    for part in range(12):
        job.metric({f"m{part}-{number}": part for number in range(100)}, step=part)
    job.metric({"m0-0": 7})
    """
    result = run_job(new_job(tmp_path / "job", body))
    assert result.status == "done"
    assert len(result.metrics) == METRICS_MAX
    assert result.metrics["m0-0"] == 7, "what is known is still brought up to date"


def test_a_job_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "(job.out() / 'runs').open('a').write('x')")
    first = run_job(job)
    assert run_job(job) == first
    assert (job.out / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import no_such_package_here", "dependencies"),
        ("raise OSError(28, 'No space left on device')", "make room"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed (SIGKILL)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed (SIGSEGV)"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_a_script_that_fails_says_why_in_one_sentence(tmp_path: Path, body: str, why: str) -> None:
    job = new_job(tmp_path / "job", body)
    result = run_job(job)
    assert result.status == "failed"
    assert why in result.why
    assert "\n" not in result.why
    assert len(result.why) < 500


def test_what_was_made_before_a_failure_is_kept(tmp_path: Path) -> None:
    body = """
    (job.out() / "checkpoint").write_text("3")
    job.artifact("checkpoint")
    raise SystemExit("too bad")
    """
    result = run_job(new_job(tmp_path / "job", body))
    assert (result.status, [item["path"] for item in result.artifacts]) == ("failed", ["checkpoint"])
    assert "too bad" in result.why


@pytest.mark.parametrize(
    "making",
    [
        "name = '../secret'",
        "name = '/etc/passwd'",
        "name = 'link'; (job.out() / name).symlink_to('/etc/passwd')",
        "name = 'folder'; (job.out() / name).mkdir(); (job.out() / name / 'link').symlink_to('../../../secret')",
        "name = 'loop'; (job.out() / name).symlink_to('loop')",
        "name = 'nothing'",
        "name = '.'",
        "name = 'pipe'; import os; os.mkfifo(job.out() / name)",
        "name = 'a\\0b'",
    ],
)
def test_an_artifact_that_escapes_from_out_is_refused(tmp_path: Path, making: str) -> None:
    (tmp_path / "secret").write_text("secret")
    body = f"""
    (job.out() / "good").write_text("good")
    job.artifact("good")
    {making}
    import json
    print("::distrai " + json.dumps({{"type": "artifact", "path": name}}))
    """
    events: list[dict[str, Any]] = []
    result = run_job(new_job(tmp_path / "job", body), events)
    assert [item["path"] for item in result.artifacts] == ["good"]
    assert result.status == "failed"
    assert "artifact" in result.why
    assert [event["event"] for event in events].count("refused") == 1


def test_keys_and_passwords_do_not_reach_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "not-to-be-seen"
    names = (
        "HF_TOKEN",
        "DISTRAI_PASSWORD",
        "PRIME_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "SSH_AUTH_SOCK",
        "MY_OWN",
    )
    for name in names:
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{secret}@127.0.0.1:1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    body = """
    import json, os
    (job.out() / "seen.json").write_text(json.dumps(dict(os.environ)))
    """
    job = new_job(tmp_path / "job", body)
    assert run_job(job).status == "done"
    seen = json.loads((job.out / "seen.json").read_text())
    assert secret not in json.dumps(seen)
    assert not set(names) & set(seen)
    assert seen["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert seen["HOME"] == str(job.path / "home")
    for path in job.path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_a_variable_is_handed_on_by_name_and_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush-hush")
    body = "import os; (job.out() / 'length').write_text(str(len(os.environ['MY_TOKEN'])))"
    job = new_job(tmp_path / "job", body, passed=["MY_TOKEN"])
    assert run_job(job).status == "done"
    assert (job.out / "length").read_text() == "9"
    for path in job.path.rglob("*"):
        assert not path.is_file() or b"hush-hush" not in path.read_bytes()


@pytest.mark.parametrize("name", ["A=b", "", "DISTRAI_PASSWORD", "NOT_SET_HERE"])
def test_only_variables_that_are_there_are_handed_on(name: str) -> None:
    with pytest.raises(BadVariable, match="--env") as raised:
        check_passed([name], {"DISTRAI_PASSWORD": "secret", "A": "b"})
    assert "A=b" not in str(raised.value)


def test_models_that_were_downloaded_are_found_without_the_token_beside_them(tmp_path: Path) -> None:
    made = script_environment(tmp_path / "home", {}, [], {"HOME": "/people/me", "PATH": "/bin"})
    assert made["HF_HUB_CACHE"] == "/people/me/.cache/huggingface/hub"
    assert made["HOME"] == str(tmp_path / "home")
    assert "HF_HOME" not in made


def test_lines_that_are_no_events_are_refused_and_hurt_nothing(tmp_path: Path) -> None:
    body = """
    import os
    with open(os.environ["DISTRAI_EVENTS"], "a") as file:
        file.write("not JSON\\n{}\\n[]\\n" + "x" * 100_000 + "\\n")
        file.write('{"type": "metric", "values": {"loss": "low"}}\\n{"type": "other"}\\n')
        file.write('{"type": "status", "text": "fine"}\\nhalf a li')
    """
    events: list[dict[str, Any]] = []
    result = run_job(new_job(tmp_path / "job", body), events)
    assert result.status == "done"
    told = [event["event"] for event in events]
    assert told.count("status") == 1
    assert told.count("refused") == 7, "a line that is too long counts as the pieces that are read of it"


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "metric", "values": {"loss": NaN}}',
        b'{"type": "metric", "values": {"": 1}}',
        b'{"type": "metric"}',
        b'{"type": "metric", "values": {}, "step": -1}',
        b'{"type": "artifact", "path": ""}',
        b'{"type": "log", "text": 3}',
        b"[" * 60_000,
        b"\xff",
    ],
)
def test_no_event_is_believed_unread(line: bytes) -> None:
    with pytest.raises(BadEvent):
        read_event(line)


def test_a_command_runs_where_the_user_stands(tmp_path: Path) -> None:
    (tmp_path / "own.sh").write_text(
        'echo hello > "$DISTRAI_OUT/said"\necho \'::distrai {"type":"artifact","path":"said"}\'\n'
    )
    wanted = Wanted.of_command("sh own.sh", tmp_path, Limits(), ())
    job = create(wanted, tmp_path / "job")
    result = run_job(job)
    assert (result.status, [item["path"] for item in result.artifacts]) == ("done", ["said"])
    assert result.job_id.startswith("own-")


def test_a_command_that_is_not_there_is_a_clear_failure(tmp_path: Path) -> None:
    job = create(Wanted.of_command("no-such-program-here", tmp_path, Limits(), ()), tmp_path / "job")
    result = run_job(job)
    assert result.status == "failed"
    assert "no-such-program-here" in result.why


def test_a_job_is_for_its_user_only_and_never_put_on_top_of_something(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass")
    assert stat.S_IMODE(job.path.stat().st_mode) == 0o700
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(OtherJob, match="new or empty"):
        new_job(full, "pass")
    assert list(full.iterdir()) == [full / "thesis.txt"]


def test_the_same_folder_takes_the_same_job_only(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass", {"steps": 3})
    assert new_job(tmp_path / "job", "pass", {"steps": 3}).read().job_id == job.read().job_id
    with pytest.raises(OtherJob, match="other values"):
        new_job(tmp_path / "job", "pass", {"steps": 4})
    with pytest.raises(OtherJob, match="another script"):
        new_job(tmp_path / "job", "print()", {"steps": 3})


def test_a_job_that_is_followed_is_not_written_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(tmp_path / "job", "pass")
    run_job(job)
    before = (job.path / "job.json").read_bytes()
    with job.lock():
        with pytest.raises(InUse):
            new_job(job.path, "pass", limits=Limits(timeout_s=5))
        assert main(["jobs", "run", str(job.path), "--timeout", "5", "--no-record"]) != 0
        assert "is used by another process" in capsys.readouterr().err
    assert (job.path / "job.json").read_bytes() == before


def test_a_script_that_was_changed_behind_our_back_is_not_run(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass")
    (job.script / job.read().script).write_text("import os; os.abort()")
    with pytest.raises(OtherJob, match="changed since"):
        run_job(job)


def test_what_a_script_prints_has_a_bound(tmp_path: Path) -> None:
    body = "for _ in range(2000): print('x' * 99)"
    job = new_job(tmp_path / "job", body, limits=Limits(log_bytes_max=5000))
    assert run_job(job).status == "done"
    assert 4000 < job.log.stat().st_size <= 5100
    assert "the log is full" in job.log.read_text()


def test_memory_has_a_limit_where_one_is_set(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "data = bytearray(2 << 30)", limits=Limits(memory_bytes=1 << 30))
    result = run_job(job)
    assert result.status == "failed"
    assert "--memory" in result.why


@pytest.mark.parametrize("own_session", [False, True])
def test_no_process_of_a_job_outlives_it(tmp_path: Path, own_session: bool) -> None:
    body = f"""
    import subprocess, sys
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleep, start_new_session={own_session}, stdout=-3, stderr=-3)
    (job.out() / "pid").write_text(str(child.pid))
    """
    job = new_job(tmp_path / "job", body, limits=Limits(sandbox=False))  # inside one it has another number
    assert run_job(job).status == "done"
    assert has_ended(int((job.out / "pid").read_text()))


def test_a_damaged_state_is_a_clear_error(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass")
    for content in ("{", "[]", '{"format": 1}', '{"format": 99}'):
        (job.path / "job.json").write_text(content)
        with pytest.raises(NoJob):
            JobRun(job, lambda event: None, look_s=LOOK_S).run()
    with pytest.raises(NoJob, match="distrai jobs list"):
        JobFolder(tmp_path / "nowhere").read()


def test_a_damaged_job_does_not_hide_the_others(tmp_path: Path) -> None:
    jobs = [new_job(tmp_path / name, "pass") for name in ("a", "b", "c")]
    names = [job.read().job_id for job in jobs]
    (jobs[1].path / "job.json").write_text("{")
    shutil.rmtree(jobs[2].path)
    assert [state.job_id for _, state in all_jobs()] == [names[0]]
    with pytest.raises(NoJob, match="distrai jobs list"):
        find_job(names[2])


def test_a_job_is_found_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    jobs = [new_job(tmp_path / name, "pass") for name in ("a", "b")]
    assert find_job(jobs[0].read().job_id) == jobs[0]
    with pytest.raises(NoJob, match="begins 2 jobs"):
        find_job("toy-")
    shutil.rmtree(jobs[1].path)
    assert find_job("toy-") == jobs[0]
    with pytest.raises(NoJob):
        find_job("")


def test_what_keeps_a_job_from_starting_is_kept_as_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN", "x")
    job = new_job(tmp_path / "job", "pass", passed=["MY_OWN"])
    monkeypatch.delenv("MY_OWN")
    with pytest.raises(BadVariable, match="MY_OWN"):
        run_job(job)
    state = job.read()
    assert state.status == "failed"
    assert "MY_OWN" in state.why
    monkeypatch.setenv("MY_OWN", "x")
    assert run_job(job).status == "done"


def test_a_node_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    own = OwnLedger(tmp_path / "chain")

    async def begin() -> NodeKey:
        async with own.connected() as at:
            return at.key

    key = asyncio.run(begin())
    ledger = OtherLedger("http://user:very-secret@127.0.0.1:1", own.deployment, lambda: key)
    job = new_job(tmp_path / "job", "pass")
    run = JobRun(
        job, lambda event: None, look_s=LOOK_S, witness=Recording(ledger, patience=Patience(0.1, 0.1))
    )
    with pytest.raises(LedgerUnreachable):
        run.run()
    assert job.read().status == "failed"
    assert "very-secret" not in (job.path / "job.json").read_text()
    assert run_job(job).status == "done"

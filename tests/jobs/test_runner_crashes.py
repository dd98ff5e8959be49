"""Whatever stops - the script, its supervisor, we ourselves - nothing is lost and the same job goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.files import DiskFull
from distrai.jobs.running.attempt import Attempt
from distrai.jobs.running.reading import events_of, is_running, printed_by, stop
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder, Limits
from distrai.ledger.locks import InUse
from helpers.job_scripts import LOOK_S, has_ended, new_job, run_job

pytestmark = pytest.mark.processes
COUNTS = """
import os, time
counter = job.out() / "checkpoint"
begun = int(counter.read_text()) if counter.exists() else 0
job.status(f"attempt {job.attempt()} from {begun}")
for step in range(begun + 1, 6):
    counter.write_text(str(step))
    job.metric(loss=1 / step, step=step, total=5)
    if step == 3 and job.attempt() == 1:
        CRASH
job.artifact("checkpoint")
"""
WAITS = """
import time
job.status("waiting")
while not job.should_stop():
    time.sleep(0.01)
(job.out() / "saved").write_text("all of it")
job.artifact("saved")
"""
RUN = """
import sys
from pathlib import Path
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder
def say(event):
    print(event["event"], event.get("text", ""), flush=True)
JobRun(JobFolder(Path(sys.argv[1])), say, look_s=0.01).run()
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def steps_of(job: JobFolder) -> list[int]:
    return [event["step"] for event in job.read_events() if event["event"] == "metric"]


def run_elsewhere(job: JobFolder, until: str) -> subprocess.Popen[str]:
    """Run a job in a process of its own, until it has said something."""
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, str(job.path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if until in line:
            return child
    raise AssertionError("it ended too early")


def end(child: subprocess.Popen[str], number: int) -> None:
    child.send_signal(number)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_killed_script_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", COUNTS.replace("CRASH", "os.kill(os.getpid(), 9)"))
    first = run_job(job)
    assert (first.status, job.read().attempt) == ("failed", 1)
    assert "SIGKILL" in first.why
    second = run_job(job)
    assert (second.status, second.why, job.read().attempt) == ("done", "", 2)
    assert steps_of(job) == [1, 2, 3, 4, 5]
    assert second.job_id == first.job_id


def test_a_killed_supervisor_takes_the_script_with_it_and_the_job_goes_on(tmp_path: Path) -> None:
    body = COUNTS.replace("CRASH", "os.kill(os.getppid(), 9); time.sleep(600)")
    job = new_job(tmp_path / "job", body, limits=Limits(sandbox=False))  # inside one it would not see us
    result = run_job(job)
    assert result.status == "failed"
    assert "lost" in result.why
    assert has_ended(int(json.loads((job.attempt(1) / "running.json").read_text())["pid"]))
    assert run_job(job).status == "done"
    assert steps_of(job) == [1, 2, 3, 4, 5]


def test_a_script_goes_on_when_we_are_killed_and_is_found_again(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", WAITS)
    end(run_elsewhere(job, "waiting"), signal.SIGKILL)
    assert is_running(job)
    events: list[dict[str, Any]] = []

    def take(event: dict[str, Any]) -> None:
        events.append(event)
        job.stop_file.touch()

    result = JobRun(job, take, look_s=LOOK_S).run()
    assert (result.status, job.read().attempt) == ("stopped", 1)
    assert events[0] == {**events[0], "event": "state", "status": "following"}
    assert [item["path"] for item in result.artifacts] == ["saved"]
    assert [event["text"] for event in job.read_events() if event["event"] == "status"] == ["waiting"]


def test_what_ended_while_nobody_looked_is_collected(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", WAITS)
    end(run_elsewhere(job, "waiting"), signal.SIGKILL)
    job.stop_file.touch()
    for _ in events_of(job, follow=True):
        pass
    assert not is_running(job)
    result = run_job(job)
    assert (result.status, job.read().attempt) == ("stopped", 1)
    assert [item["path"] for item in result.artifacts] == ["saved"]


def test_what_failed_while_nobody_looked_is_told_and_tried_again(tmp_path: Path) -> None:
    body = """
    import os
    if job.attempt() > 1:
        raise SystemExit(0)
    job.metric(loss=0.5, step=7)
    job.status("waiting")
    with open(job.out() / "go"):
        raise SystemExit("too bad")
    """
    job = new_job(tmp_path / "job", body)
    os.mkfifo(job.out / "go")
    end(run_elsewhere(job, "waiting"), signal.SIGKILL)
    job.write(job.read().with_(metrics={}, step=0))  # as if that had not been kept yet
    (job.out / "go").open("w").close()
    for _ in events_of(job, follow=True):
        pass
    result = run_job(job)
    assert (result.status, result.metrics) == ("done", {"loss": 0.5})
    assert (job.read().attempt, job.read().step) == (2, 7)
    assert [event["why"] for event in job.read_events() if event.get("status") == "failed"] == [
        "the script ended with exit code 1: too bad"
    ]


def test_a_machine_that_crashed_is_one_more_attempt(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", COUNTS.replace("CRASH", "job.status('here'); time.sleep(600)"))
    child = run_elsewhere(job, "here")
    supervisor = int((job.attempt(1) / "lock").read_text())
    end(child, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    with job.events.open("ab") as file:
        file.write(b'{"event": "metr')
    while Attempt(job, 1).is_alive():
        pass
    assert has_ended(int(json.loads((job.attempt(1) / "running.json").read_text())["pid"])), (
        "the script with it"
    )
    result = run_job(job)
    assert (result.status, job.read().attempt) == ("done", 2)
    assert steps_of(job) == [1, 2, 3, 4, 5]


def test_ctrl_c_lets_the_script_save(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", WAITS)
    child = run_elsewhere(job, "waiting")
    end(child, signal.SIGINT)
    assert child.returncode == 0
    assert (job.read().status, (job.out / "saved").read_text()) == ("stopped", "all of it")


def test_a_second_ctrl_c_ends_it(tmp_path: Path) -> None:
    body = "import time\njob.status('deaf')\ntime.sleep(600)\n"
    job = new_job(tmp_path / "job", body)
    child = run_elsewhere(job, "deaf")
    child.send_signal(signal.SIGINT)
    assert child.stdout is not None
    assert any("asked to stop" in line for line in child.stdout)
    end(child, signal.SIGINT)
    assert job.read().status == "stopped"


def test_stop_lets_it_save_and_the_next_run_goes_on(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", WAITS)
    child = run_elsewhere(job, "waiting")
    assert stop(job, at_once=False)
    child.wait()
    end(child, signal.SIGTERM)
    assert job.read().status == "stopped"
    assert not stop(job, at_once=False)
    child = run_elsewhere(job, "waiting")
    assert not job.stop_file.exists()
    assert stop(job, at_once=True)
    end(child, 0)
    assert job.read().attempt == 2


def test_a_deaf_script_is_ended_after_its_grace(tmp_path: Path) -> None:
    job = new_job(
        tmp_path / "job",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\njob.status('deaf')\ntime.sleep(600)\n",
        limits=Limits(grace_s=0.05),
    )

    def take(event: dict[str, Any]) -> None:
        if event.get("text") == "deaf":
            job.stop_file.touch()

    result = JobRun(job, take, look_s=LOOK_S).run()
    assert result.status == "stopped"
    assert "did not save" in result.why


def test_the_time_limit_asks_then_ends(tmp_path: Path) -> None:
    saves = run_job(new_job(tmp_path / "saves", WAITS, limits=Limits(timeout_s=0.3)))
    assert (saves.status, [item["path"] for item in saves.artifacts]) == ("stopped", ["saved"])
    assert "time limit" in saves.why
    deaf = new_job(
        tmp_path / "deaf", "import time\ntime.sleep(600)\n", limits=Limits(timeout_s=0.2, grace_s=0.05)
    )
    result = run_job(deaf)
    assert result.status == "failed"
    assert "--timeout" in result.why


def test_two_runs_of_one_job_do_not_mix(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", WAITS)
    child = run_elsewhere(job, "waiting")
    with pytest.raises(InUse, match="another process"):
        run_job(job)
    end(child, signal.SIGINT)


def test_logs_can_be_followed_from_outside(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "print('printed', flush=True)" + WAITS)
    seen: list[str] = []

    def follow() -> None:
        for event in events_of(job, follow=True):
            seen.append(str(event.get("text") or event["event"]))
            if seen[-1] == "waiting":
                job.stop_file.touch()

    child = run_elsewhere(job, "waiting")
    reader = threading.Thread(target=follow)
    reader.start()
    reader.join()
    end(child, 0)
    assert "waiting" in seen
    assert list(printed_by(job, follow=False)) == ["printed"]


def test_a_full_disk_stops_us_with_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", COUNTS.replace("CRASH", "pass"))
    kept = tmp_path / "kept"

    def take(event: dict[str, Any]) -> None:
        if event.get("step") == 2:
            job.events.rename(kept)
            job.events.symlink_to("/dev/full")

    with pytest.raises(DiskFull, match=r"nothing is lost: make room, then `distrai jobs run .*` goes on"):
        JobRun(job, take, look_s=LOOK_S).run()
    kept.rename(job.events)
    assert run_job(job).status == "done"
    assert steps_of(job) == [1, 2, 3, 4, 5]


def test_a_full_disk_does_not_stop_the_training(tmp_path: Path) -> None:
    body = """
    import os
    os.environ["DISTRAI_EVENTS"] = "/dev/full"
    print("never kept", flush=True)
    job.metric(loss=0.5, step=1)
    """
    job = new_job(tmp_path / "job", body)
    job.log.symlink_to("/dev/full")
    result = run_job(job)
    assert (result.status, result.metrics) == ("done", {"loss": 0.5})


def test_a_crash_while_the_next_attempt_is_prepared_takes_no_old_result_for_a_new_one(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", COUNTS.replace("CRASH", "raise SystemExit(1)"))
    assert run_job(job).status == "failed"
    job.write(job.read().with_(status="preparing"))
    assert run_job(job).status == "done"
    assert job.read().attempt == 2

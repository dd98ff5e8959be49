"""A job's folder says what is run as its user: one that somebody else made is not run; and what a script plants."""

import json
import os
import shutil
from pathlib import Path

import pytest

from distrai.cli.main import main
from distrai.jobs.estimates.counting import count_parameters
from distrai.jobs.records.claims import key_parameters, told_values
from distrai.jobs.running.store import JobFolder, Limits, OtherJob, all_jobs, check_ours
from helpers.job_scripts import new_job, run_job


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """The folder of a job that somebody else has made, with all that is dear to them in it."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path / "theirs"))
        new_job(tmp_path / "theirs" / "job", "pass")
    shutil.copytree(tmp_path / "theirs" / "job", tmp_path / "downloaded")
    return JobFolder(tmp_path / "downloaded")


def test_a_strangers_job_is_not_run(
    foreign: JobFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = foreign.read()
    touched = tmp_path / "touched"
    foreign.write(state.with_(script="", command=["touch", str(touched)], limits=Limits(sandbox=False)))
    for more in ((), ("--json",), ("--accept", state.script_hash)):
        assert main(["jobs", "run", str(foreign.path), "--no-record", *more]) == 2
    said = capsys.readouterr()
    assert "was not made by you on this machine" in said.err and not touched.exists()
    foreign.write(state)
    assert main(["jobs", "run", str(foreign.path), "--no-record"]) == 2
    assert f"distrai jobs run {foreign.script / state.script}" in capsys.readouterr().err


def test_a_job_that_claims_to_be_mine_is_not(foreign: JobFolder, tmp_path: Path) -> None:
    mine = new_job(tmp_path / "mine", "pass")
    check_ours(mine, mine.read())
    with pytest.raises(OtherJob, match="not made by you"):
        check_ours(foreign, foreign.read().with_(job_id=mine.read().job_id))
    for name in ("../x", "", "a/b"):
        with pytest.raises(OtherJob):
            check_ours(foreign, foreign.read().with_(job_id=name))


def test_my_own_job_goes_on_where_i_moved_it(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "pass")
    moved = JobFolder(job.path.rename(tmp_path / "moved"))
    check_ours(moved, moved.read())
    assert [found.path for found, _ in all_jobs()] == [moved.path]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    job, target = new_job(tmp_path / "job", "pass"), tmp_path / "elsewhere"
    job.stop_file.symlink_to(target)
    job.ask_to_stop()
    assert job.stop_file.is_file() and not job.stop_file.is_symlink() and not target.exists()
    job.ask_to_stop()


@pytest.mark.processes
def test_a_planted_link_is_not_followed_by_who_watches(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    body = f"import os, time\nos.symlink({str(target)!r}, job.out() / 'STOP')\ntime.sleep(600)"
    job = new_job(tmp_path / "job", body, limits=Limits(timeout_s=0.5, grace_s=0.05, sandbox=False))
    assert run_job(job).status == "failed"
    assert not target.exists()


def test_secrets_in_a_form_are_told_to_nobody() -> None:
    values = {"api_key": "k", "hub_token": "t", "PASSWORD": "p", "max_tokens": 5, "keys": 3, "folder": "/x"}
    assert told_values(values) == {"max_tokens": 5, "keys": 3}
    assert json.loads(key_parameters("job-1", values)) == {"job": "job-1", "keys": 3, "max_tokens": 5}


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert count_parameters(tmp_path) == 0

"""What is copied beside every script: data, checkpoints and events, without anything but the standard library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distrai.jobs.running import helper as job


@pytest.fixture(autouse=True)
def own_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"data": str(tmp_path / "given"), "steps": 3}))
    monkeypatch.setenv("DISTRAI_PARAMS", str(tmp_path / "params.json"))
    monkeypatch.setenv("DISTRAI_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("DISTRAI_EVENTS", str(tmp_path / "events"))
    monkeypatch.delenv("DISTRAI_DATA", raising=False)


@pytest.mark.parametrize("prepared", [True, False])
def test_rows_are_those_of_the_checked_data_else_of_the_folder_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: bool
) -> None:
    folder = tmp_path / ("data" if prepared else "given")
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        '{"text": "a"}\n{"text": "\u2028"}\n{"text": "c"}\n', encoding="utf-8"
    )
    if prepared:
        monkeypatch.setenv("DISTRAI_DATA", str(folder))
    assert [row["text"] for row in job.rows("train")] == ["a", "\u2028", "c"]
    assert [row["text"] for row in job.rows("train", 2)] == ["a", "\u2028"]
    with pytest.raises(SystemExit, match=r"holds no heldout\.jsonl: `distrai jobs data` prepares data"):
        list(job.rows("heldout"))


def test_the_newest_checkpoint_is_the_newest_whole_one(tmp_path: Path) -> None:
    assert job.newest_checkpoint() is None
    for step, state in ((5, "{}"), (10, "{}"), (9, "{}"), (15, '{"step"'), (20, ""), (25, None)):
        folder = tmp_path / "out" / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert job.newest_checkpoint() == str(tmp_path / "out" / "checkpoints" / "checkpoint-10")
    assert job.newest_checkpoint("others") is None


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    """Also where no job is: then it says what it has to say on standard output."""
    about = "import distrai_job as job; job.metric(loss=float('nan'), step=1); job.status('here')"
    path = tmp_path / "distrai_job.py"
    path.write_bytes(Path(job.__file__).read_bytes())
    bare = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-S", "-c", about], capture_output=True, text=True, env=bare, check=True
    )
    assert done.stdout.splitlines() == [
        '::distrai {"type": "metric", "values": {"loss": null}, "step": 1}',
        '::distrai {"type": "status", "text": "here"}',
    ]

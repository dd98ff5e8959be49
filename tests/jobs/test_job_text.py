"""Jobs in words: what a terminal shows of them, and what it must not."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distrai.jobs.display import JobDisplay
from distrai.jobs.running.session import described
from distrai.jobs.text import event_text, form_text, job_text, jobs_text, result_text, templates_text
from helpers.job_scripts import new_job

EVENTS: list[dict[str, Any]] = [
    {"event": "status", "text": "loading"},
    {"event": "metric", "values": {"loss": 0.5, "bad": None}, "step": 3, "total": 10},
    {"event": "log", "text": "careful \x1b[2J[red]", "level": "warning"},
    {"event": "artifact", "path": "model", "kind": "model"},
    {"event": "refused", "why": "no event"},
    {"event": "record", "stage": "closed", "record": 7},
    {"event": "saved", "location": "/models/x"},
    {"event": "state", "status": "done"},
]
RESULT: dict[str, Any] = {
    "job_id": "toy-1",
    "status": "failed",
    "why": "exit code 3",
    "metrics": {"loss": 0.5},
    "artifacts": [{"path": "model/w", "sha256": "ab"}],
    "record": {"number": 7, "chain_id": 5},
    "model_path": "/models/x",
    "folder": "/jobs/toy-1",
}


def test_a_terminal_shows_the_newest_numbers_and_what_is_worth_keeping() -> None:
    out = io.StringIO()
    with JobDisplay(Console(file=out, force_terminal=True, width=120)) as display:
        for event in EVENTS:
            display.report(event)
    text = out.getvalue()
    for part in ("done", "loss 0.5", "3/10", "careful", "[red]", "training record 7: closed", "/models/x"):
        assert part in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (EVENTS[0], "loading"),
        (EVENTS[1], "step 3/10 loss 0.5, bad not finite"),
        (EVENTS[2], "careful �[2J[red]"),
        (EVENTS[3], "model model"),
        (EVENTS[4], "refused: no event"),
        (EVENTS[5], "training record 7: closed"),
        (EVENTS[7], "done"),
    ],
)
def test_events_are_lines_with_their_time(event: dict[str, Any], text: str) -> None:
    assert event_text({"at": "2026-11-21T10:11:12.345Z", **event}) == f"10:11:12 {text}"


def test_a_result_says_what_came_of_it_and_how_to_go_on() -> None:
    text = result_text(RESULT)
    for part in (
        "toy-1: failed: exit code 3",
        "loss 0.5",
        "training record 7",
        "distrai jobs run /jobs/toy-1",
    ):
        assert part in text
    done = RESULT | {"status": "done", "why": ""}
    assert "go on" not in result_text(done)
    assert "push /jobs/toy-1 OWNER/NAME" in result_text(done)
    assert "OWNER/NAME" not in result_text(done | {"record": RESULT["record"] | {"closed": True}})


def test_tables_and_a_job() -> None:
    told = RESULT | {
        "name": "toy",
        "kind": "toy",
        "created_at": "2026",
        "attempt": 1,
        "step": 3,
        "seconds": 2.0,
    }
    told |= {"script_hash": "abc"}
    assert "toy-1" in jobs_text([told])
    assert "no jobs yet" in jobs_text([])
    assert "model/w  ab" in job_text(told)
    assert "distrai jobs run /jobs/toy-1" in job_text(told)
    assert "distrai jobs run" not in job_text(told | {"status": "done"})
    assert "yours" in templates_text([{"template": "a", "title": "b", "shipped": False}])


def test_what_was_measured_before_and_after_comes_first() -> None:
    metrics = {"eval_runtime": 3.0, "loss": 0.5, "a_before": 0.25, "a_after": 0.75, "b_after": None}
    text = result_text(RESULT | {"status": "done", "why": "", "metrics": metrics})
    assert "  a: 0.25 -> 0.75\n  b: not finite\n" in text and "eval_runtime" not in text
    assert "distrai eval /jobs/toy-1" in text and "distrai models generate /jobs/toy-1" in text
    job = RESULT | {"kind": "toy", "created_at": "2026", "attempt": 1, "step": 3, "metrics": metrics}
    assert "a: 0.25 -> 0.75, b: not finite" in jobs_text([job])


def test_help_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "template": "toy",
        "title": "A toy",
        "kind": "toy",
        "hash": "ab",
        "origin": "",
        "dependencies": [],
    }
    field = {"type": "path", "help": "word " * 40 + "end"}
    form = told | {"parameters": {"data": field}, "presets": {}, "path": ""}
    monkeypatch.setenv("COLUMNS", "1000")
    assert "word end" in form_text(form) and form_text(form).endswith("distrai jobs run toy --set data=...")
    monkeypatch.setenv("COLUMNS", "80")
    lines = form_text(form).splitlines()
    assert all(len(line) <= 80 for line in lines) and " ".join(form_text(form).split()).count("word") == 40
    assert len({line.index("word") for line in lines if "word" in line}) == 1, "in its column"


def test_a_job_whose_follower_is_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    job = new_job(tmp_path / "job", "pass")
    state = job.write(job.read().with_(status="preparing"))
    for owner, watched in ((str(os.getpid()), True), ("4194304999", False), ("", False), ("x", False)):
        (job.path / "job.lock").write_text(owner)
        assert (described(state, job)["status"] == "preparing") is watched
    assert f"distrai jobs run {job.path}" in described(state, job)["status"]

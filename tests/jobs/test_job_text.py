"""Jobs in words: what a terminal shows of them, and what it must not."""

import io
from typing import Any

import pytest
from rich.console import Console

from distrai.jobs.display import JobDisplay
from distrai.jobs.text import event_text, job_text, jobs_text, result_text, templates_text

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
    assert "go on" not in result_text(RESULT | {"status": "done", "why": ""})


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
    assert "yours" in templates_text([{"template": "a", "title": "b", "shipped": False}])

"""What a joiner costs the others: ``python benchmarks/join.py``. Seal-to-certificate before, during and after a join.

Four peers train; after some rounds a fifth joins from a snapshot, by the command that users type. For every round:
from the last inner step of the slowest of the four to the applied certificate. *During* is from the start of the
command to the first certificate that lists the joiner.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import IO, Any

from common import BENCH, report_head, result_path, write_json
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog, read_log
from distrai.runs.timing import Timing
from round_overhead import recipe_text

PEERS = 4
GROWTH_MAX = 1.5
"""Seal-to-certificate may grow to so many times what it was."""
ROUNDS_TO_JOIN_MAX = 3
"""After the snapshot the joiner is in a certificate within so many rounds."""


def events(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The events that a command prints."""
    for line in stream:
        if line.startswith(b"{"):
            yield json.loads(line)


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    """A command of ours whose events can be read."""
    command = [sys.executable, "-m", "distrai.cli", *arguments, "--json"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def waits(logs: list[PeerLog], rounds: int) -> dict[int, tuple[float, float]]:
    """By round: when the first of these peers had applied its certificate, and the seconds since they had trained."""
    landed = Timing(logs, rounds).landed
    found = {}
    for number, at in landed.items():
        done = [log.trained[number].ended for log in logs if number in log.trained]
        if len(done) == len(logs):
            found[number] = (at, at - max(done))
    return found


def session(folder: Path, rounds: int, join_after: int) -> dict[str, Any]:
    """One run with one join, told in numbers."""
    recipe, out = folder / "recipe.toml", folder / "run"
    recipe.write_text(recipe_text(rounds, inner_steps=40))
    run = start("run", str(recipe), "--out", str(out))
    assert run.stdout is not None
    joiner, joined_at = None, 0.0
    for event in events(run.stdout):
        if joiner is None and event["event"] == "applied" and event["round"] >= join_after:
            joined_at, joiner = time.time(), start("join", str(out))
    assert run.wait() == 0 and joiner is not None and joiner.stdout is not None
    snapshot = next((event for event in events(joiner.stdout) if event["event"] == "snapshot"), {})
    joiner.terminate()
    joiner.wait()
    return told(RunFolder(out), joined_at, snapshot, rounds)


def told(run: RunFolder, joined_at: float, snapshot: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The numbers of one session."""
    logs = [read_log(run.peer(number)) for number in range(PEERS)]
    joiner = read_log(run.path / "joined")
    assert joiner.member is not None, "the joiner never began"
    listed = [number for number, applied in logs[0].applied.items() if joiner.member in applied.members]
    found = waits(logs, rounds)
    first_at = found[min(listed)][0]
    parts: dict[str, list[float]] = {"before": [], "during": [], "after": []}
    for number, (at, seconds) in found.items():
        part = "before" if at < joined_at else "during" if at <= first_at else "after"
        if number > 1:  # the first round waits for all to start
            parts[part].append(round(seconds, 4))
    return {
        "seconds": parts,
        "median_s": {part: round(median(values), 4) for part, values in parts.items()},
        "growth_during": round(median(parts["during"]) / median(parts["before"]), 3),
        "growth_after": round(median(parts["after"]) / median(parts["before"]), 3),
        "snapshot_round": snapshot.get("round"),
        "newest_round_with_snapshot": snapshot.get("newest"),
        "first_round_with_joiner": min(listed),
        "rounds_to_join": min(listed) - snapshot["newest"] if "newest" in snapshot else None,
        "join_s": round(first_at - joined_at, 2),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=36)
    parser.add_argument("--join-after", type=int, default=12)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    cells = []
    for number in range(options.sessions):
        cell = BENCH / "join" / f"{options.rounds}-rounds-{number}.json"
        if not cell.exists():
            with tempfile.TemporaryDirectory() as scratch:
                write_json(cell, session(Path(scratch), options.rounds, options.join_after))
        cells.append(json.loads(cell.read_text()))
        print({key: value for key, value in cells[-1].items() if key != "seconds"}, flush=True)
    to = result_path("join") if options.keep else BENCH / "join.json"
    bounds = {"growth": GROWTH_MAX, "rounds_to_join": ROUNDS_TO_JOIN_MAX}
    write_json(to, {**report_head(), "bounds": bounds, "cells": cells})
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

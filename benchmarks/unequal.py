"""What a peer costs and gives that is eight times slower: ``python benchmarks/unequal.py [--rounds N] [--keep]``.

Two peers train on a core each; in two of the three arms a third one takes part that gets an eighth of the time (its
process is stopped and continued many times a second, so that everything it does is slow, not only its training). With
``pace = "fixed"`` everybody takes all steps of a round; with "measured" the slow one takes as many as it has time for.
Tokens are those of updates that were certified, over a steady stretch of rounds.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import psutil

from common import BENCH, destination, report_head, write_json
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog, read_log
from distrai.runs.timing import Timing
from round_overhead import recipe_text

STEPS, SHARE, PERIOD_S = 100, 1 / 8, 0.1
LEFT_OUT = 3
"""Rounds at the beginning that do not count: everybody starts, and pace has to be measured first."""
ARMS: dict[str, tuple[int, list[str]]] = {
    "two alike": (2, []),
    "and a slow one, fixed pace": (3, []),
    "and a slow one, measured pace": (3, ["algorithm.pace=measured"]),
}
"""By name: how many peers, and what is set in the recipe. The last of three is the slow one."""


def throttle(process: psutil.Process, over: Event) -> None:
    """Give a process ``SHARE`` of the time until ``over``."""
    with suppress(psutil.NoSuchProcess):
        while not over.is_set():
            process.send_signal(signal.SIGCONT)
            time.sleep(SHARE * PERIOD_S)
            process.send_signal(signal.SIGSTOP)
            time.sleep((1 - SHARE) * PERIOD_S)
        process.send_signal(signal.SIGCONT)


def process_of(run: "subprocess.Popen[bytes]", home: str) -> psutil.Process:
    """The peer of a run whose home has this name."""
    children = psutil.Process(run.pid).children(recursive=True)
    return next(
        child for child in children if any(part.endswith(f"/peers/{home}") for part in child.cmdline())
    )


def session(folder: Path, peers: int, changes: list[str], rounds: int) -> dict[str, Any]:
    """One run, told in numbers."""
    recipe, out = folder / "recipe.toml", folder / "run"
    recipe.write_text(recipe_text(rounds, inner_steps=STEPS))
    options = [f"--set={change}" for change in changes]
    command = [sys.executable, "-m", "distrai.cli", "run", str(recipe), "--out", str(out), "--json"]
    run = subprocess.Popen(
        [*command, "--peers", str(peers), *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    over, throttling = Event(), None
    for line in run.stdout:
        event = json.loads(line)
        if event["event"] == "applied" and event["round"] == 1 and peers > 2 and throttling is None:
            throttling = Thread(target=throttle, args=(process_of(run, "peer-2"), over))
            throttling.start()
        if event["event"] == "applied" and event["round"] == rounds:
            over.set()
    over.set()
    if throttling is not None:
        throttling.join()
    assert run.wait() == 0
    return told([read_log(RunFolder(out).peer(number)) for number in range(peers)], rounds)


def told(logs: list[PeerLog], rounds: int) -> dict[str, Any]:
    """The numbers of one session."""
    landed = Timing(logs, rounds).landed
    counted = [number for number in landed if number > LEFT_OUT]
    seconds = landed[max(counted)] - landed[LEFT_OUT]
    tokens = [
        sum(
            log.trained[number].tokens
            for number in counted
            if log.member in logs[0].applied[number].members and number in log.trained
        )
        for log in logs
    ]
    return {
        "rounds": len(counted),
        "round_s_median": round(median(landed[number] - landed[number - 1] for number in counted), 3),
        "tokens_per_s": [round(each / seconds) for each in tokens],
        "tokens_per_s_of_the_first_two": round(sum(tokens[:2]) / seconds),
        "tokens_per_s_of_all": round(sum(tokens) / seconds),
        "slow_steps": [each.steps for each in logs[2].trained.values()] if len(logs) > 2 else [],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    arms: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for number in range(options.sessions):  # arm after arm, then again: the machine may be shared
        for at, (name, (peers, changes)) in enumerate(ARMS.items()):
            cell = BENCH / "unequal" / f"{options.rounds}-rounds-{at}-{number}.json"
            if not cell.exists():
                with tempfile.TemporaryDirectory() as scratch:
                    write_json(cell, session(Path(scratch), peers, changes, options.rounds))
            arms[name].append(json.loads(cell.read_text()))
            print(name, arms[name][-1], flush=True)
    alone = [cell["tokens_per_s_of_the_first_two"] for cell in arms["two alike"]]
    rows = [
        {
            "arm": name,
            "cells": cells,
            "first_two_of_alone": [
                round(cell["tokens_per_s_of_the_first_two"] / base, 3)
                for cell, base in zip(cells, alone, strict=True)
            ],
            "all_of_alone": [
                round(cell["tokens_per_s_of_all"] / base, 3) for cell, base in zip(cells, alone, strict=True)
            ],
        }
        for name, cells in arms.items()
    ]
    to = destination("unequal", options.keep)
    settings = {"inner_steps": STEPS, "share_of_the_slow_one": SHARE, "rounds_left_out": LEFT_OUT}
    write_json(to, {**report_head(), **settings, "arms": rows})
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

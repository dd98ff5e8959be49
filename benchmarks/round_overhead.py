"""What a round costs beside training, for 4, 8 and 16 peers on this machine: ``python benchmarks/round_overhead.py``.

Wall seconds are from the last inner step of a round's slowest peer to its applied certificate; CPU seconds are those of
a peer for one round, less what its model took. Both are read from the event logs, of the same runs.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from common import BENCH, ROOT, report_head, result_path, write_json
from distrai.runs.folder import RunFolder
from distrai.runs.logs import read_log
from distrai.runs.timing import Timing

RECIPE = ROOT / "recipes" / "quickstart.toml"
CHANGES = {"inner_steps": 10, "samples_round": 8, "samples_final": 8}
"""The model, codec and rules of the quickstart, with short rounds: what is measured does not depend on their length."""
BOUNDS_S = {4: 1.0, 16: 5.0}
"""Median wall seconds that we mean to stay below, by number of peers, on two cores."""


def recipe_text(rounds: int, **changes: int) -> str:
    """The quickstart with short rounds, and other changes to its numbers."""
    text = RECIPE.read_text()
    for key, value in {**CHANGES, "count": rounds, **changes}.items():
        text, found = re.subn(rf"(?m)^{key} = \d+", f"{key} = {value}", text)
        assert found == 1, key
    return text


def measure(folder: Path, peers: int, rounds: int) -> dict[str, Any]:
    """Train with so many peers; overheads of every round, and of every round of every peer."""
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_text(rounds))
    out = folder / f"peers-{peers}"
    command = [
        sys.executable,
        "-m",
        "distrai.cli",
        "run",
        str(recipe),
        "--out",
        str(out),
        "--peers",
        str(peers),
    ]
    subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, check=True)
    run = RunFolder(out)
    timing = Timing([read_log(run.peer(number)) for number in range(peers)], rounds)
    wall_s, cpu_s = timing.overheads()[1:], timing.cpu_overheads()  # the first round waits for all to start
    return {
        "peers": peers,
        "rounds": rounds,
        "wall_s": [round(item, 4) for item in wall_s],
        "wall_s_median": round(median(wall_s), 4),
        "wall_s_max": round(max(wall_s), 4),
        "cpu_s": [round(item, 4) for item in cpu_s],
        "cpu_s_median": round(median(cpu_s), 4),
        "cpu_s_max": round(max(cpu_s), 4),
    }


def main() -> None:
    """Measure what is missing, and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    cells = []
    for peers in options.peers:
        cell = BENCH / "round_overhead" / f"{peers}-peers-{options.rounds}-rounds.json"
        if not cell.exists():
            with tempfile.TemporaryDirectory() as scratch:
                write_json(cell, measure(Path(scratch), peers, options.rounds))
        cells.append(json.loads(cell.read_text()))
        shown = {key: cells[-1][key] for key in ("peers", "wall_s_median", "wall_s_max", "cpu_s_median")}
        print(shown, flush=True)
    to = result_path("round_overhead") if options.keep else BENCH / "round_overhead.json"
    write_json(to, {**report_head(), "bounds_s": BOUNDS_S, "cells": cells})
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

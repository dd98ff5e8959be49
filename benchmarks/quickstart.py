"""Train the quickstart and keep its numbers, with what it ran on: ``python benchmarks/quickstart.py [--runs 1]``.

Each run is a fresh network of four peers on this machine. What is written is the raw summary of every run, the command,
date and hardware, and the CPU seconds that all processes of a run took together. A finished run is a file; a second
start goes on where the first was stopped.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import BENCH, ROOT, destination, report_head, write_json

RECIPE = ROOT / "recipes" / "quickstart.toml"


def one_run(folder: Path) -> dict[str, Any]:
    """Train once; the summary, with wall and CPU seconds of everything that ran."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "distrai.cli", "run", str(RECIPE), "--out", str(folder), "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    del summary["model_path"]  # of a folder that is gone
    summary["command_wall_s"] = round(time.monotonic() - began, 1)
    summary["command_cpu_s"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    return summary


def cell(number: int) -> dict[str, Any]:
    """The figures of a run, measured now if they are not there yet."""
    path = BENCH / "quickstart" / f"run-{number}.json"
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            write_json(path, one_run(Path(scratch) / "run"))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    head = report_head()
    runs = [cell(number) for number in range(options.runs)]
    to = destination("quickstart", options.keep)
    write_json(to, head | {"recipe": RECIPE.read_text(), "runs": runs})
    for run in runs:
        keys = ("bits_per_byte_end", "round_overhead_s", "compute_utilisation", "wall_s", "command_cpu_s")
        print({key: run[key] for key in keys})
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

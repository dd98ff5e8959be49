"""Train the quickstart and keep its numbers, with what it ran on: ``python benchmarks/quickstart.py [--runs 1]``.

Each run is a fresh network of four peers on this machine. What is written is the raw summary of every run, the command,
date and hardware, and the CPU seconds that all processes of a run took together.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "quickstart.toml"


def hardware() -> dict[str, Any]:
    """What this machine is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


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


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "bench" / "quickstart.json")
    options = parser.parse_args()
    load_before = psutil.getloadavg()
    with tempfile.TemporaryDirectory() as scratch:
        runs = [one_run(Path(scratch) / f"run-{number}") for number in range(options.runs)]
    report = {
        "command": f"python benchmarks/quickstart.py --runs {options.runs}",
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "load_before": load_before,
        "recipe": RECIPE.read_text(),
        "runs": runs,
    }
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps(report, indent=1) + "\n")
    for run in runs:
        keys = ("bits_per_byte_end", "round_overhead_s", "compute_utilisation", "wall_s", "command_cpu_s")
        print({key: run[key] for key in keys})
    print(f"numbers: {options.to}")


if __name__ == "__main__":
    main()

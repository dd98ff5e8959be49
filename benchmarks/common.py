"""What every benchmark shares: where numbers go, what they were measured on, and how a report is written."""

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "build" / "bench"
"""Where fresh numbers go."""
RESULTS = ROOT / "benchmarks" / "results"
"""Where the numbers are that claims rest on; one file per benchmark, machine and date."""
PACKAGES = ("distrai", "torch", "transformers", "numpy", "blake3")


def cpu_name() -> str:
    """The processor, as it calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """What this machine is."""
    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def versions() -> dict[str, str]:
    """Of the packages that figures depend on."""
    return {name: version(name) for name in PACKAGES}


def today() -> str:
    """The date of a report."""
    return datetime.now(UTC).date().isoformat()


def command_line() -> str:
    """The command as it was typed, with no path of this machine in it."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return shlex.join(["python", str(shown), *sys.argv[1:]])


def slug(text: str) -> str:
    """A name that is fit for a file: ``AMD EPYC`` is ``amd-epyc``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def result_path(benchmark: str) -> Path:
    """Where a benchmark's numbers of today, on this machine, are kept for good."""
    return RESULTS / f"{benchmark}_{slug(cpu_name())}_{today()}.json"


def destination(benchmark: str, keep: bool) -> Path:
    """Where a report goes: to the results that are committed if it is to be kept, else to ``build/bench``."""
    return result_path(benchmark) if keep else BENCH / f"{benchmark}.json"


def report_head() -> dict[str, Any]:
    """What every report begins with."""
    return {
        "command": command_line(),
        "date": today(),
        "hardware": hardware(),
        "versions": versions(),
        "load_now": [round(item, 2) for item in psutil.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Finished runs in a folder are taken over only if they were made with these settings; exits if they were not."""
    path, now = folder / "settings.json", json.loads(json.dumps(settings))
    if path.exists() and json.loads(path.read_text()) != now:
        sys.exit(f"the runs in {folder} were made with other settings: remove it to measure anew")
    write_json(path, now)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write whole or not at all: a benchmark that is stopped leaves no half of a file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)

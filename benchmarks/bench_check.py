"""Every target beside what was measured for it: ``python benchmarks/bench_check.py`` (``make bench-check``).

Reads the committed reports of ``benchmarks/results`` and measures nothing. A missed target, or a report or figure that
is not there, is said and is no error; a report that cannot be read is one.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS
from targets import TARGETS, Target

REQUIRED = {"command": str, "date": str, "hardware": dict}
"""Without these, nobody can tell what a figure is worth."""


class Malformed(ValueError):
    """A report is not what it should be."""


@dataclass(frozen=True)
class Report:
    """One file of results."""

    path: Path
    data: Mapping[str, Any]

    @property
    def benchmark(self) -> str:
        """The part of the name before machine and date."""
        return self.path.stem.rsplit("_", 2)[0]


def read_report(path: Path) -> Report:
    """Raises Malformed unless it is JSON with a command, a date and the hardware."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Malformed(f"{path.name}: no JSON: {error}") from None
    if not isinstance(data, dict):
        raise Malformed(f"{path.name}: no JSON object")
    for key, kind in REQUIRED.items():
        if not isinstance(data.get(key), kind) or not data[key]:
            raise Malformed(f"{path.name}: no {key}")
    return Report(path, data)


def newest(reports: Sequence[Report]) -> dict[str, Report]:
    """The last report of each benchmark, by date and then by name."""
    ordered = sorted(reports, key=lambda report: (report.data["date"], report.path.name))
    return {report.benchmark: report for report in ordered}


def lookup(report: Report, place: str) -> list[float]:
    """The numbers at a place (see ``targets``): one, or with ``*`` one for each entry; none if one is not there.

    Raises Malformed if something else is there.
    """
    here: list[Any] = [report.data]
    for step in place.split("/"):
        here = [
            below for item in here for below in (_entries(item) if step == "*" else [_entered(item, step)])
        ]
        if any(item is None for item in here):
            return []
    if any(isinstance(item, bool) or not isinstance(item, int | float) for item in here):
        raise Malformed(f"{report.path.name}: {place!r} is no number")
    return [float(item) for item in here]


def _entries(here: Any) -> list[Any]:
    return here if isinstance(here, list) else [None]


def _entered(here: Any, step: str) -> Any:
    """What a step of a path leads to; None if nothing is there."""
    if isinstance(here, Mapping):
        return here.get(step)
    if not isinstance(here, list):
        return None
    if step.startswith("["):
        key, _, value = step.strip("[]").partition("=")
        return next((item for item in here if isinstance(item, dict) and str(item.get(key)) == value), None)
    return here[int(step)] if step.isdigit() and int(step) < len(here) else None


def measured(report: Report, target: Target) -> float | None:
    """The figure of a target, the worst if there are several; None if it was not measured. Raises Malformed."""
    values = lookup(report, target.at)
    bases = [1.0] * len(values) if target.over is None else lookup(report, target.over)
    if 0 in bases:
        raise Malformed(f"{report.path.name}: {target.over!r} is 0")
    if not values or len(values) != len(bases):
        return None
    ratios = [value / base for value, base in zip(values, bases, strict=True)]
    return max(ratios) if target.wanted == "at most" else min(ratios)


def met(target: Target, value: float) -> bool:
    """Whether a figure is as wanted; the bound itself is."""
    return value <= target.bound if target.wanted == "at most" else value >= target.bound


def shown(target: Target, value: float) -> str:
    """A figure in the target's unit."""
    if target.inverse and value > 0:
        return f"1/{1 / value:.4g}"
    return f"{value:.3g}{' ' * bool(target.unit)}{target.unit}"


def line(target: Target, report: Report | None) -> str:
    """A target for people. Raises Malformed."""
    value = None if report is None else measured(report, target)
    verdict = "missing" if value is None else "met" if met(target, value) else "MISSED"
    figure = "-" if value is None else shown(target, value)
    file = f"no {target.benchmark}_*.json" if report is None else report.path.name
    wanted = f"{target.wanted} {shown(target, target.bound)}"
    return f"{verdict:8} {target.says:48} {figure:>10}  {wanted:16} {file}"


def check(folder: Path, targets: Sequence[Target]) -> int:
    """Print every target; how many reports or figures could not be read."""
    reports, faults = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            reports.append(read_report(path))
        except Malformed as fault:
            faults.append(fault)
    latest = newest(reports)
    for target in targets:
        try:
            print(line(target, latest.get(target.benchmark)))
        except Malformed as fault:
            faults.append(fault)
    for each in faults:
        print(f"malformed: {each}", file=sys.stderr)
    return len(faults)


def main() -> None:
    """Exit code 1 if a report is malformed."""
    sys.exit(1 if check(RESULTS, TARGETS) else 0)


if __name__ == "__main__":
    main()

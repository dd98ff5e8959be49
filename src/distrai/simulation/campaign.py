"""Many seeds over many scenarios, with a table at the end; one that was interrupted goes on where it was."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distrai.simulation.report import Report
from distrai.simulation.scenario import Scenario
from distrai.simulation.scenarios import SCENARIOS
from distrai.simulation.simulate import simulate
from distrai.simulation.wild import wild

NAMES = (*SCENARIOS, "wild")
"""Every scenario; "wild" is drawn from its seed."""
COUNTED = (
    *("events", "rounds", "crashes", "reorgs", "roll_calls", "snapshots", "promoted", "dropped"),
    *("stopped", "captured"),
)
"""What a table adds up, from the reports."""
SAVED_EVERY_S = 20.0


def scenario_of(name: str, seed: int) -> Scenario:
    """The scenario of this name for a seed. Raises KeyError."""
    return wild(seed) if name == "wild" else SCENARIOS[name]


def plan(first: int, count: int) -> list[tuple[str, int]]:
    """``count`` runs over all scenarios in turn: scenario and seed of each."""
    return [(NAMES[number % len(NAMES)], number) for number in range(first, first + count)]


@dataclass
class Row:
    """What the runs of one scenario came to."""

    seeds: list[int] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    cpu_s: float = 0.0
    violations: dict[int, list[str]] = field(default_factory=dict)
    """By seed."""

    def add(self, report: Report, cpu_s: float) -> None:
        """Count one more run."""
        self.seeds.append(report.seed)
        self.cpu_s += cpu_s
        for name in COUNTED:
            self.totals[name] += int(getattr(report, name))
        if report.violations:
            self.violations[report.seed] = report.violations


@dataclass
class Campaign:
    """All runs so far, by scenario."""

    rows: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Campaign":
        """What an earlier campaign left; an empty one if there is no such file."""
        if not path.exists():
            return cls()
        saved = json.loads(path.read_text())["scenarios"]
        rows = {name: Row(**row) for name, row in saved.items()}
        for row in rows.values():
            row.violations = {int(seed): broken for seed, broken in row.violations.items()}
        return cls(rows)

    def save(self, path: Path, command: str) -> None:
        """Write everything, so that it is whole at any time."""
        total = {name: sum(row.totals[name] for row in self.rows.values()) for name in COUNTED}
        total |= {"seeds": sum(len(row.seeds) for row in self.rows.values()), "violations": self.broken}
        data = {
            "command": command,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "total": total,
            "scenarios": {name: asdict(row) for name, row in self.rows.items()},
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(data, indent=1) + "\n")
        temporary.replace(path)

    @property
    def broken(self) -> int:
        """How many runs broke a rule."""
        return sum(len(row.violations) for row in self.rows.values())

    def left(self, runs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of ``runs`` that were not done yet."""
        done = {(name, seed) for name, row in self.rows.items() for seed in row.seeds}
        return [run for run in runs if run not in done]

    def table(self) -> str:
        """One line for each scenario, and what replays what broke."""
        heads = ("scenario", "seeds", *COUNTED, "violations")
        lines = [
            (name, len(row.seeds), *(row.totals[item] for item in COUNTED), len(row.violations))
            for name, row in self.rows.items()
        ]
        sums = ("all", *(sum(column) for column in list(zip(*lines, strict=True))[1:]))
        rows = [tuple(str(cell) for cell in line) for line in (heads, *lines, sums)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        shown = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        replays = [
            f"  BROKEN {broken[0]}\n  replay: {Report(name, seed).replay}"
            for name, row in self.rows.items()
            for seed, broken in row.violations.items()
        ]
        return "\n".join([*shown, *replays])


def run_one(run: tuple[str, int]) -> tuple[Report, float]:
    """Simulate one; gives the report and the CPU seconds that it took. Whatever the simulator raises is a violation."""
    name, seed = run
    began = time.process_time()
    try:
        report = simulate(scenario_of(name, seed), seed)
    except Exception as error:  # noqa: BLE001 - a campaign of hours goes on
        report = Report(name, seed, violations=[f"the simulator raised {type(error).__name__}: {error}"])
    return report, time.process_time() - began


def _reports(runs: list[tuple[str, int]], jobs: int) -> Iterator[tuple[Report, float]]:
    if jobs == 1:
        yield from map(run_one, runs)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_one, runs)


def run_campaign(runs: list[tuple[str, int]], jobs: int, path: Path | None, command: str) -> Campaign:
    """Do ``runs``, but those that ``path`` has already; what breaks is said at once."""
    campaign = Campaign() if path is None else Campaign.load(path)
    saved_at = time.monotonic()
    for report, cpu_s in _reports(campaign.left(runs), jobs):
        campaign.rows.setdefault(report.scenario, Row()).add(report, cpu_s)
        if report.violations:
            sys.stdout.write(f"{report}\n")
            sys.stdout.flush()
        if path is not None and time.monotonic() - saved_at > SAVED_EVERY_S:
            campaign.save(path, command)
            saved_at = time.monotonic()
    if path is not None:
        campaign.save(path, command)
    return campaign

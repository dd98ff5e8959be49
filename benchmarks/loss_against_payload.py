"""Held-out loss against payload: ``python benchmarks/loss_against_payload.py [--quick] [--keep]``.

Five arms on equal tokens and equal data, from equal parameters: data-parallel with a tuned learning rate, diloco,
prime, and sparseloco at two densities. Learning rates are chosen in runs of a third of the length, on the tuning split
and with a seed of their own: the inner one first (at the preset's outer one), then the outer one. Then every arm trains
at full length with three seeds, and the held-out split is looked at once per run, by nothing but the report. A finished
run is a file; a second start goes on where the first was stopped.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import BENCH, check_settings, destination, report_head, write_json
from loss_cells import Arm, Cell
from loss_report import summary, table
from loss_training import Laboratory

STEPS = 2400
SWEEP_SHARE = 3
SWEEP_SEED, SEEDS = 101, (1, 2, 3)
INNER_LADDER = (7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2, 4.8e-2)
OUTER_LADDER = (0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
DDP_START = INNER_LADDER[2:6]
"""Data-parallel is tuned over at least these four."""
ARMS = (
    Arm("ddp", "ddp", 20),
    Arm("diloco", "diloco", 30),
    Arm("prime", "prime", 30),
    Arm("sparseloco-16th", "sparseloco", 20, {"codec_options": {"k": 256}}),
    Arm("sparseloco-64th", "sparseloco", 20),
)


def climb(ladder: Sequence[float], start: Sequence[float], measure: Callable[[float], float]) -> float:
    """The best rung: measures those from the least to the largest of ``start``, and goes on past an edge while it is
    the best. ``measure`` gives a loss, infinite if training diverged; the lower rung wins a tie.
    """
    low, high = ladder.index(min(start)), ladder.index(max(start))
    losses = {at: measure(ladder[at]) for at in range(low, high + 1)}
    while True:
        best = min(losses, key=lambda at: (losses[at], at))
        beyond = best - 1 if best == min(losses) else best + 1
        if beyond in losses or not 0 <= beyond < len(ladder):
            return ladder[best]
        losses[beyond] = measure(ladder[beyond])


def around(ladder: Sequence[float], middle: float) -> tuple[float, ...]:
    """A rung and its neighbours."""
    at = ladder.index(middle)
    return tuple(ladder[max(0, at - 1) : at + 2])


@dataclass
class Campaign:
    """All cells of the benchmark; those done before are taken from their files."""

    lab: Laboratory
    folder: Path
    steps: int
    seeds: tuple[int, ...]

    @property
    def sweep_steps(self) -> int:
        """The length of a run that chooses a rate."""
        return -(-self.steps // SWEEP_SHARE)

    def result(self, cell: Cell) -> dict[str, Any]:
        """The figures of a cell, trained now if they are not there yet."""
        path = self.folder / f"{cell.name}.json"
        if path.exists():
            known: dict[str, Any] = json.loads(path.read_text())
            return known
        found = self.lab.train(cell)
        write_json(path, found)
        print(f"{cell.name}: {found['bits_per_byte']} bits/byte, {found['wall_s']} s", flush=True)
        return found

    def _swept(self, arm: Arm, lr: float, outer_lr: float) -> float:
        bits = self.result(Cell(arm, lr, outer_lr, SWEEP_SEED, self.sweep_steps, "tuning"))["bits_per_byte"]
        return float("inf") if bits is None else float(bits)

    def tuned(self, arm: Arm, inner_start: Sequence[float]) -> tuple[float, float]:
        """The learning rates of an arm, inner and outer."""
        lr = climb(INNER_LADDER, inner_start, lambda rate: self._swept(arm, rate, arm.outer_lr))
        if arm.preset == "ddp":
            return lr, arm.outer_lr
        outer_start = around(OUTER_LADDER, arm.outer_lr)
        return lr, climb(OUTER_LADDER, outer_start, lambda rate: self._swept(arm, lr, rate))

    def run(self) -> dict[str, Any]:
        """Every sweep, then every final run, seed by seed; the figures of the report."""
        rates: dict[str, tuple[float, float]] = {}
        start: Sequence[float] = DDP_START
        for arm in ARMS:
            rates[arm.name] = self.tuned(arm, start)
            start = around(INNER_LADDER, rates["ddp"][0])
        finals: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in ARMS}
        for seed in self.seeds:
            for arm in ARMS:
                found = self.result(Cell(arm, *rates[arm.name], seed, self.steps, "held_out"))
                finals[arm.name].append(found)
        return {"arms": summary(finals, rates), "sweeps": self._sweeps(), "runs": finals}

    def _sweeps(self) -> list[dict[str, Any]]:
        files = sorted(self.folder.glob(f"tuning_*_steps{self.sweep_steps}_*.json"))
        return [_short(json.loads(file.read_text())) for file in files]


def _short(found: dict[str, Any]) -> dict[str, Any]:
    cell = found["cell"]
    rates = {"arm": cell["arm"]["name"], "lr": cell["lr"], "outer_lr": cell["outer_lr"]}
    return rates | {"tuning_bits_per_byte": found["bits_per_byte"], "steps": found["steps"]}


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 steps and one seed: does it run at all?")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = "loss_against_payload_quick" if options.quick else "loss_against_payload"
    steps, seeds = (60, SEEDS[:1]) if options.quick else (STEPS, SEEDS)
    lab = Laboratory()
    settings = lab.settings() | {"steps": steps, "seeds": seeds, "sweep_seed": SWEEP_SEED}
    check_settings(BENCH / name, settings)
    figures = Campaign(lab, BENCH / name, steps, seeds).run()
    report = report_head() | {"settings": settings} | figures
    to = destination(name, options.keep and not options.quick)
    write_json(to, report)
    print(table(report["arms"]))
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

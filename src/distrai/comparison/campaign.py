"""All runs of a comparison: which are missing, in which order, and training them in one process or several."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Self

import torch

from distrai.comparison.cells import Cell, Figures, sweep_steps, with_rates
from distrai.comparison.laboratory import Laboratory
from distrai.comparison.plan import Arm, Comparison, parse_comparison
from distrai.comparison.sweep import Rates, diverged, tune
from distrai.training.data.documents import Split

Told = Callable[[Cell, dict[str, Any]], None]
"""Is told of every cell that has been trained."""


@dataclass
class Campaign:
    """The cells of some arms and seeds. What is known is in files: a second start goes on where the first stopped."""

    comparison: Comparison
    figures: Figures
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """The figures of a cell, None if it has not been trained. Raises OtherSettings."""
        if cell.name not in self.known:
            found = self.figures.get(cell)
            if found is None:
                return None
            self.known[cell.name] = found
        return self.known[cell.name]

    def rates(self, arm: Arm) -> Rates:
        """How far the choice of an arm's learning rates has come."""
        if arm.rates_of:
            return self.rates(self.comparison.arm(arm.rates_of))
        start = (arm.training.lr, arm.spec.outer_lr)

        def measure(lr: float, outer_lr: float) -> float | None:
            found = self.result(self.tuning_cell(arm, lr, outer_lr))
            return None if found is None else diverged(found["bits_per_byte"])

        return tune(start, arm.inner_rungs, arm.outer_rungs, self.comparison.sweep.extend, measure)

    def tuning_cell(self, arm: Arm, lr: float, outer_lr: float) -> Cell:
        """The run that looks at one pair of rates."""
        steps = sweep_steps(self.comparison, arm)
        return Cell(with_rates(arm, lr, outer_lr), self.comparison.sweep.seed, "tuning", steps)

    def final_cell(self, arm: Arm, seed: int) -> Cell | None:
        """The whole run of an arm; None as long as its rates are not chosen."""
        rates = self.rates(arm)
        if rates.wanted:
            return None
        return Cell(with_rates(arm, rates.lr, rates.outer_lr), seed, "held_out", self.comparison.steps(arm))

    def missing(self) -> list[Cell]:
        """What can be trained now, the most urgent first: what chooses rates, then the seeds, one after the other."""
        cells: dict[str, Cell] = {}
        for arm in self.arms:
            swept = self.comparison.arm(arm.rates_of) if arm.rates_of else arm
            for lr, outer_lr in self.rates(swept).wanted:
                cell = self.tuning_cell(swept, lr, outer_lr)
                cells[cell.name] = cell
        for seed in self.seeds:
            for arm in self.arms:
                final = self.final_cell(arm, seed)
                if final is not None and self.result(final) is None:
                    cells[final.name] = final
        return list(cells.values())

    def run(self, train: "Trainer", on_cell: Told) -> None:
        """Train until nothing is missing."""
        while True:
            train.begin([cell for cell in self.missing() if cell.name not in train.under_way])
            if not train.under_way:
                return
            for cell, found in train.finished():
                self.figures.put(cell, found)
                on_cell(cell, found)


class Trainer:
    """Trains cells, in this process (``jobs`` 1) or in several others."""

    def __init__(self, lab: Laboratory, jobs: int) -> None:
        self.lab, self.jobs = lab, jobs
        self.under_way: dict[str, Cell] = {}
        self._futures: dict[Future[dict[str, Any]], Cell] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        torch.set_num_threads(1)  # as in the other processes: with more, gradients have other bits
        if self.jobs > 1:
            arguments = (*self.lab.comparison.source, self.lab.device.type)
            self._pool = ProcessPoolExecutor(
                self.jobs, mp_context=get_context("spawn"), initializer=_begin_worker, initargs=arguments
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            if self.under_way:  # stopped before the end: what they are at is begun again next time
                for child in active_children():
                    child.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, cells: Sequence[Cell]) -> None:
        """Begin as many cells as there are processes for."""
        for cell in cells[: self.jobs - len(self.under_way)]:
            self.under_way[cell.name] = cell
            if self._pool is not None:
                self._futures[self._pool.submit(_train_in_worker, *cell.key)] = cell

    def finished(self) -> list[tuple[Cell, dict[str, Any]]]:
        """Wait until a cell is done; all that are."""
        return list(self._finished())

    def _finished(self) -> Iterator[tuple[Cell, dict[str, Any]]]:
        if self._pool is None:
            for name, cell in list(self.under_way.items()):
                found = self.lab.train(cell)
                del self.under_way[name]
                yield cell, found
            return
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        for future in done:
            cell = self._futures.pop(future)
            del self.under_way[cell.name]
            yield cell, future.result()


_worker: list[Laboratory] = []
"""The laboratory of a worker process."""


def _begin_worker(mapping: Mapping[str, Any], base: Mapping[str, Any], folder: Path, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that began this one
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker.append(Laboratory(parse_comparison(mapping, base, folder), device))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train_in_worker(
    arm: str, lr: float, outer_lr: float, seed: int, split: Split, steps: int
) -> dict[str, Any]:
    lab = _worker[0]
    return lab.train(Cell(with_rates(lab.comparison.arm(arm), lr, outer_lr), seed, split, steps))

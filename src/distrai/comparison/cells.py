"""One training run of a comparison, the settings that it depends on, and the file of its figures."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distrai.algorithms.section import written_out
from distrai.comparison.plan import Arm, Comparison, full_recipe, rounded
from distrai.comparison.timetable import Round, timetable
from distrai.protocol.recipe import Recipe
from distrai.protocol.recipe.sections import canonical_mapping, to_mapping
from distrai.training.data.documents import Split

FORMAT = 1
"""Goes up when the same settings begin to mean something else."""


class OtherSettings(ValueError):
    """A file of figures was made with other settings than those asked for now."""


@dataclass(frozen=True)
class Cell:
    """A run: an arm with its learning rates set, a seed, a length, and what the end of it is measured on."""

    arm: Arm
    seed: int
    split: Split
    steps: int
    """Inner steps of each peer, on average."""

    @property
    def lr(self) -> float:
        """The inner learning rate."""
        return self.arm.training.lr

    @property
    def outer_lr(self) -> float:
        """The outer learning rate."""
        return self.arm.spec.outer_lr

    @property
    def inner_steps(self) -> int:
        """H: a round is never longer than the run."""
        return min(self.arm.spec.inner_steps, self.steps)

    @property
    def name(self) -> str:
        """Names the cell's file: ``tuning_prime_lr0.006_outer0.7_steps800_seed101``."""
        rates = f"lr{self.lr:g}_outer{self.outer_lr:g}"
        return f"{self.split}_{self.arm.name}_{rates}_steps{self.steps}_seed{self.seed}"

    @property
    def key(self) -> tuple[str, float, float, int, Split, int]:
        """Arm, inner and outer rate, seed, split, steps: what tells the cell from others of its comparison."""
        return self.arm.name, self.lr, self.outer_lr, self.seed, self.split, self.steps

    def rounds(self, peers: int) -> list[Round]:
        """What happens when."""
        return timetable(self.arm, self.inner_steps, self.steps * peers)

    def recipe(self, comparison: Comparison, rounds: int) -> Recipe:
        """The recipe that the engine is configured by."""
        spec = replace(self.arm.spec, inner_steps=self.inner_steps)
        return full_recipe(
            comparison, written_out(spec), self.arm.training, seed=self.seed, rounds=max(1, rounds)
        )

    def settings(self, comparison: Comparison, corpus_hash: str, device: str) -> dict[str, Any]:
        """All that the figures depend on, as plain data."""
        looking = to_mapping(comparison.looking)
        looking.pop("tuning_samples" if self.split == "held_out" else "held_out_samples")
        whole = self.recipe(comparison, 1)
        recipe = to_mapping(whole) | {
            "data": canonical_mapping(whole)["data"]
        }  # old cells stay what they are
        return {
            "format": FORMAT,
            "recipe": {key: recipe[key] for key in ("seed", "model", "data", "algorithm", "training")},
            "peers": comparison.peers,
            "steps": self.steps,
            "split": self.split,
            "speeds": list(self.arm.speeds),
            "absent": [to_mapping(item) for item in self.arm.absent],
            "evaluation": looking,
            "corpus_hash": corpus_hash,
            "device": device,
        }


def with_rates(arm: Arm, lr: float, outer_lr: float) -> Arm:
    """The arm with these learning rates."""
    return replace(
        arm,
        training=replace(arm.training, lr=rounded(lr)),
        spec=replace(arm.spec, outer_lr=rounded(outer_lr)),
    )


def sweep_steps(comparison: Comparison, arm: Arm) -> int:
    """Length of a run that chooses a rate: the share of the whole one, in whole rounds."""
    whole = comparison.steps(arm)
    least = max(1, round(whole * comparison.sweep.share))
    length = min(arm.spec.inner_steps, least)
    return -(-least // length) * length


@dataclass(frozen=True)
class Figures:
    """The files of finished cells in one folder. Several processes may share it: a file is whole or not there."""

    folder: Path
    comparison: Comparison
    corpus_hash: str
    device: str

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """The figures of a cell, None if it has not been trained. Raises OtherSettings."""
        path = self._path(cell)
        try:
            known: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        if known.get("settings_hash") != self.settings_hash(cell):
            raise OtherSettings(
                f"{path.name} in {self.folder} was made with other settings; give another --out, or remove that file "
                "to train it again"
            )
        return known

    def put(self, cell: Cell, figures: Mapping[str, Any]) -> None:
        """Write the figures of a cell."""
        settings = cell.settings(self.comparison, self.corpus_hash, self.device)
        head = {"settings_hash": self.settings_hash(cell), "arm": cell.arm.name, "lr": cell.lr}
        told = head | {"outer_lr": cell.outer_lr, "seed": cell.seed, **figures, "settings": settings}
        write_json(self._path(cell), told)

    def settings_hash(self, cell: Cell) -> str:
        """Of everything that the figures of a cell depend on."""
        settings = cell.settings(self.comparison, self.corpus_hash, self.device)
        data = json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()
        return "0x" + hashlib.blake2b(data, digest_size=32).hexdigest()

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.json"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write whole or not at all: who is stopped leaves no half of a file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)

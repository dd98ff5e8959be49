"""What the benchmarks of runs in common share: real runs by the commands that users type, and training alone.

A run that is finished, and training alone that is done, are files below ``build/bench/together`` and are not repeated.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common import BENCH, ROOT, write_json
from distrai.algorithms.algorithm import Algorithm
from distrai.network.store import BlobStore
from distrai.peer.learner import FrozenModels
from distrai.peer.plan import Plan
from distrai.protocol.assignment import DataOrder
from distrai.protocol.recipe import Recipe, ResolvedRecipe
from distrai.runs.folder import RunFolder
from distrai.runs.opened import OpenedRun
from distrai.runs.recipes import load_recipe
from distrai.runs.resolving import resolve
from distrai.training.baseline import data_parallel
from distrai.training.data.dataset import Dataset
from distrai.training.data.documents import Split
from distrai.training.data.manifest import parse_manifest
from distrai.training.evaluate import evaluate
from distrai.training.model import build_model, load_trainable, read_trainable, trainable_layout
from distrai.training.objective import build_objective
from distrai.training.spec import InnerSpec
from distrai.training.tokenizer import Tokenizer, load_tokenizer

TOGETHER = BENCH / "together"
BASE_RECIPE = ROOT / "benchmarks" / "together_base.toml"
BASE = TOGETHER / "base" / "model"
CPU = torch.device("cpu")
SUMMARY = (
    "params",
    "peers",
    "rounds",
    "tokens",
    "loss_start",
    "loss_end",
    "bits_per_byte_start",
    "bits_per_byte_end",
    "evaluation_samples",
    "payload_up_per_peer",
    "updates",
    "roots_agree",
    "state_root",
    "recipe_hash",
    "corpus_hash",
    "wall_s",
)
"""What of a run's summary stands in a report."""


def base_model() -> dict[str, Any]:
    """Train the model that the others start or learn from, if it is not there; its figures."""
    return in_common("base", BASE_RECIPE)


def in_common(name: str, recipe: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Train by ``distrai run`` and recompute it by ``distrai replay``; what came of it."""
    found, folder = TOGETHER / f"{name}.json", TOGETHER / name
    if not found.exists():
        cpu_s = None if (folder / "summary.json").exists() else _train(recipe, folder, changes)
        summary = json.loads((folder / "summary.json").read_text())
        if not summary["finished"]:
            sys.exit(f"{folder} was stopped: the same command goes on with it")
        verdict = json.loads(_distrai("replay", str(folder), "--json").splitlines()[-1])
        facts = {key: summary[key] for key in SUMMARY}
        told = {"name": name, "changes": list(changes), **facts, "replay": verdict, "command_cpu_s": cpu_s}
        write_json(found, told)
    told = json.loads(found.read_text())
    if told["changes"] != list(changes):
        sys.exit(f"{folder} was made with other settings: remove it and {found.name} to measure anew")
    return dict(told)


def extended(rates: Sequence[float], loss_of: Callable[[float], float], more: int = 2) -> dict[float, float]:
    """The loss with each rate, in the order of rates; while the best is at an end, another factor of 2 is tried."""
    found = {rate: loss_of(rate) for rate in sorted(rates)}
    for _ in range(more):
        best = min(found, key=found.__getitem__)
        if best == min(found):
            found[best / 2] = loss_of(best / 2)
        elif best == max(found):
            found[best * 2] = loss_of(best * 2)
    return dict(sorted(found.items()))


def measured(name: str, split: Split) -> dict[str, Any]:
    """How good the model of the finished run ``name`` is on a split."""
    path = TOGETHER / f"{name}-{split}.json"
    if not path.exists():
        run = OpenedRun.open(RunFolder(TOGETHER / name), "cpu")
        run.load_newest()
        recipe, vocabulary = run.resolved.recipe, run.tokenizer.vocabulary
        data = Dataset(run.manifest, split, recipe.data.context, vocabulary, run.archive.blobs.read)
        write_json(path, looked_at(run.model, data, run.tokenizer, recipe))
    return dict(json.loads(path.read_text()))


def looked_at(model: nn.Module, data: Dataset, tokenizer: Tokenizer, recipe: Recipe) -> dict[str, Any]:
    """The figures of a model; of preferences the loss and the share of pairs that it gets right."""
    objective = build_objective(recipe, None, None) if recipe.training.objective == "dpo" else None
    return asdict(evaluate(model, data, tokenizer, recipe.evaluation.samples_final, CPU, objective))


def trained_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and copies of what is trained."""
    names = (spec.name for spec in trainable_layout(model).tensors)
    return list(zip(names, read_trainable(model), strict=True))


def _train(recipe: Path, folder: Path, changes: Sequence[str]) -> float | None:
    """CPU seconds of all processes; None if this went on with what had begun."""
    goes_on = (folder / "run.json").exists()
    settings = [word for change in changes for word in ("--set", change)]
    arguments = [str(folder)] if goes_on else [str(recipe), "--out", str(folder), *settings]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _distrai("run", *arguments, "--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return None if goes_on else round(spent, 1)


def _distrai(*arguments: str) -> str:
    """What a command of ours prints; exits if it fails."""
    command = [sys.executable, "-m", "distrai.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if done.returncode:
        sys.exit(f"distrai {' '.join(arguments[:2])} ended with {done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Cut:
    """How one machine reads the samples of a run."""

    name: str
    members: int
    """Of how many members' batches it makes one optimiser step."""


def reader(
    order: DataOrder, inner: InnerSpec, members: int, cut: Cut
) -> Callable[[int, int, int], list[int]]:
    """The samples of (round, step, peer) where ``cut.members`` peers read what a run's members read in that round.

    Blocks of members follow one another; a step of the run is one step, or as many as it takes to read all batches.
    """
    turns, size, block = members // cut.members, inner.step_samples, inner.round_samples

    def samples_of(number: int, step: int, peer: int) -> list[int]:
        at, turn = divmod(step - 1, turns)
        start = ((number - 1) * members + turn * cut.members + peer) * block + at * size
        return [order.sample_at(start + each) for each in range(size)]

    return samples_of


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What came of training on one machine. Losses are nats for each scored token."""

    name: str
    lr: float
    steps: int
    samples: int
    tuning_loss: float
    """Settings are chosen by this one."""
    held_out: dict[str, float] | None
    """Looked at for what was chosen only."""
    cpu_s: float


class Bench:
    """A recipe opened on one machine, without a run: the same corpus, initial state and blocks of samples."""

    def __init__(self, name: str, recipe: Path, changes: Sequence[str] = ()) -> None:
        torch.set_num_threads(1)
        self.folder, self.path = TOGETHER / f"{name}-alone", recipe
        self.recipe: Recipe = load_recipe(recipe, changes=changes)
        self.blobs = BlobStore(self.folder / "blobs")
        self.resolved: ResolvedRecipe = resolve(self.recipe, recipe.parent, self.blobs)
        self.plan = Plan.of(self.resolved)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The recipe's tokenizer."""
        return load_tokenizer(self.recipe.data.tokenizer, self.path.parent)

    @cached_property
    def frozen(self) -> FrozenModels:
        """The folders of what is not trained."""
        return FrozenModels.of(self.resolved, self.blobs, self.folder)

    @property
    def algorithm(self) -> Algorithm:
        """The run's."""
        return Algorithm(self.plan.spec, self.plan.layout)

    def initial(self) -> bytes:
        """The state before round 1."""
        return self.blobs.read(self.resolved.initial_state)

    def dataset(self, split: Split) -> Dataset:
        """The samples of a split."""
        manifest = parse_manifest(self.blobs.read(self.resolved.corpus))
        context, vocabulary = self.recipe.data.context, self.tokenizer.vocabulary
        return Dataset(manifest, split, context, vocabulary, self.blobs.read)

    def model(self) -> nn.Module:
        """The model before round 1: the very state that the run starts from."""
        made = build_model(self.recipe.model, self.recipe.seed, self.frozen.base)
        load_trainable(made, self.algorithm.state_from_bytes(self.initial()).params)
        return made

    def measure(self, model: nn.Module, split: Split) -> dict[str, Any]:
        """How good a model is on all of a split."""
        return looked_at(model, self.dataset(split), self.tokenizer, self.recipe)

    def alone(self, cut: Cut, lr: float) -> Alone:
        """Train with the samples of the run's rounds, in their order; measured on the tuning split."""
        path = self.folder / f"{cut.name}-{lr:g}.json"
        if not path.exists():
            began = time.process_time()
            model = self._trained(cut, lr)
            told = Alone(
                name=cut.name,
                lr=lr,
                steps=self._rounds * self._members * self.plan.inner.inner_steps // cut.members,
                samples=self._rounds * self._members * self.plan.inner.round_samples,
                tuning_loss=self.measure(model, "tuning")["loss"],
                held_out=None,
                cpu_s=round(time.process_time() - began, 1),
            )
            save_file(dict(trained_tensors(model)), path.with_suffix(".safetensors"))
            write_json(path, asdict(told))
        return Alone(**json.loads(path.read_text()))

    def looked_at(self, best: Alone) -> Alone:
        """What was chosen, with its held-out loss."""
        path = self.folder / f"{best.name}-{best.lr:g}.json"
        if best.held_out is None:
            model = self.model()
            kept = load_file(path.with_suffix(".safetensors"))
            load_trainable(model, [kept[name] for name, _ in trained_tensors(model)])
            best = replace(best, held_out=self.measure(model, "held_out"))
            write_json(path, asdict(best))
        return best

    @property
    def _members(self) -> int:
        return self.recipe.membership.peers

    @property
    def _rounds(self) -> int:
        return self.recipe.rounds.count

    def _trained(self, cut: Cut, lr: float) -> nn.Module:
        model, train = self.model(), self.dataset("train")
        steps = self._members // cut.members  # that are taken while each member takes one
        spec = replace(self.plan.inner, lr=lr).in_rounds(self._rounds, self.plan.inner.inner_steps * steps)
        order = self.plan.data_order(train.samples_total)
        samples_of = reader(order, self.plan.inner, self._members, cut)
        done = data_parallel(
            model, spec, build_objective(self.recipe, None, None), train.batch, samples_of, cut.members, CPU
        )
        load_trainable(model, done.params)
        return model

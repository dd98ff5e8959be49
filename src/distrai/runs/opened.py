"""A run's model, tokenizer and data, opened from what its archive holds: to measure, to write text, to export."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from distrai.algorithms.algorithm import Algorithm
from distrai.network.store import MissingBlob
from distrai.peer.learner import FrozenModels, Learner
from distrai.peer.plan import Plan
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.runs.archive import Archive, NothingPublished
from distrai.runs.folder import RunFolder
from distrai.training.data.dataset import Dataset
from distrai.training.data.manifest import parse_manifest
from distrai.training.device import training_device
from distrai.training.evaluate import Evaluation, evaluate
from distrai.training.model import load_trainable
from distrai.training.objective import Objective
from distrai.training.sample import generate
from distrai.training.tokenizer import Tokenizer, tokenizer_from_canonical


@dataclass(frozen=True)
class OpenedRun:
    """A run of which everything is at hand. ``device``: where the model computes."""

    archive: Archive
    resolved: ResolvedRecipe
    device: torch.device

    @classmethod
    def open(cls, folder: RunFolder, device: str = "auto") -> "OpenedRun":
        """Open the run in a folder. Raises NoRun, NothingPublished."""
        recipe_hash = Hash(bytes.fromhex(folder.read().recipe_hash.removeprefix("0x")))
        archive = Archive(folder.archive)
        return cls(archive, archive.recipe(recipe_hash), training_device(device))

    @cached_property
    def model(self) -> nn.Module:
        """The model; its parameters are whatever was loaded last."""
        return self.learner.model.to(self.device)

    @property
    def objective(self) -> Objective:
        """What the model learned by."""
        return self.learner.objective

    @cached_property
    def learner(self) -> Learner:
        """The model and its objective."""
        initial = lambda: self.archive.initial_state(self.resolved)  # noqa: E731
        return Learner.of(self.resolved, self.frozen, self._algorithm, initial, self.device)

    @cached_property
    def frozen(self) -> FrozenModels:
        """The folders of what is not trained. Raises NothingPublished."""
        try:
            return FrozenModels.of(self.resolved, self.archive.blobs, self.archive.home)
        except MissingBlob as error:
            raise NothingPublished(f"what the run's model is based on is not whole here: {error}") from None

    @property
    def _algorithm(self) -> Algorithm:
        plan = Plan.of(self.resolved)
        return Algorithm(plan.spec, plan.layout)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the data was made with."""
        return tokenizer_from_canonical(self.archive.blob(self.resolved.tokenizer_hash, "the tokenizer"))

    @cached_property
    def held_out(self) -> Dataset:
        """The samples that nobody trained on."""
        manifest = parse_manifest(self.archive.blob(self.resolved.corpus.hash, "the corpus manifest"))
        context = self.resolved.recipe.data.context
        return Dataset(manifest, "held_out", context, self.tokenizer.vocabulary, self.archive.blobs.read)

    def load(self, state: bytes) -> None:
        """Put the parameters of a state (``Algorithm.state_bytes``) into the model."""
        load_trainable(self.model, self._algorithm.state_from_bytes(state).params)

    def load_newest(self) -> int:
        """Load the newest state; the round that made it."""
        number, state = self.archive.state(self.resolved)
        self.load(state)
        return number

    def measure(self, samples: int) -> Evaluation:
        """Held-out loss of what is loaded."""
        return evaluate(self.model, self.held_out, self.tokenizer, samples, self.device, self.objective)

    def write(self, prompt: str, **settings: Any) -> Any:
        """Pieces of text that follow ``prompt``; ``settings`` as for ``training.sample.generate``."""
        context = self.resolved.recipe.data.context
        return generate(self.model, self.tokenizer, prompt, context=context, **settings)

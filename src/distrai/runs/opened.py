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
from distrai.training.adapters import merged
from distrai.training.data.chat import PLAIN, ChatRenderer
from distrai.training.data.dataset import Dataset, check_layout
from distrai.training.data.manifest import ChatTemplate, CorpusManifest, parse_manifest
from distrai.training.device import training_device
from distrai.training.evaluate import Evaluation, evaluate
from distrai.training.model import build_model, load_trainable, read_trainable, unquantised
from distrai.training.objective import Objective
from distrai.training.sample import generate, until
from distrai.training.tokenizer import Tokenizer, tokenizer_from_canonical

PLAIN_END = "<|end|>"


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
        return Learner.of(self.resolved, self.frozen, self.tokenizer, self._algorithm, initial, self.device)

    @cached_property
    def frozen(self) -> FrozenModels:
        """The folders of what is not trained. Raises NothingPublished."""
        try:
            return FrozenModels.of(self.resolved, self.archive.blobs, self.archive.home)
        except MissingBlob as error:
            raise NothingPublished(f"what the run's model is based on is not whole here: {error}") from None

    def whole(self) -> nn.Module:
        """The model with what is loaded, as plain Hugging Face has it.

        An adapter is merged into the weights as they were before anybody held them in four bits.
        """
        recipe = self.resolved.recipe
        if recipe.model.adapter is None:
            return self.model.to("cpu")
        return merged(self.adapted())

    def adapted(self) -> nn.Module:
        """The model with its adapter, as it is loaded, on the CPU and not quantised."""
        recipe = self.resolved.recipe
        if recipe.model.adapter is None or recipe.model.adapter.quant == "none":
            return self.model.to("cpu")
        made = build_model(unquantised(recipe.model), recipe.seed, self.frozen.base)
        load_trainable(made, read_trainable(self.model))
        return made

    @property
    def _algorithm(self) -> Algorithm:
        plan = Plan.of(self.resolved)
        return Algorithm(plan.spec, plan.layout)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the data was made with."""
        return tokenizer_from_canonical(self.archive.blob(self.resolved.tokenizer_hash, "the tokenizer"))

    @cached_property
    def manifest(self) -> CorpusManifest:
        """The manifest of the data."""
        return parse_manifest(self.archive.blob(self.resolved.corpus.hash, "the corpus manifest"))

    @cached_property
    def held_out(self) -> Dataset:
        """The samples that nobody trained on."""
        context = self.resolved.recipe.data.context
        check_layout(self.manifest, self.resolved.recipe.data)
        return Dataset(self.manifest, "held_out", context, self.tokenizer.vocabulary, self.archive.blobs.read)

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
        """Pieces of text that follow ``prompt``; ``settings`` as for ``training.sample.generate``.

        Where conversations were learned from it is what the assistant says, to its end.
        """
        context = self.resolved.recipe.data.context
        pieces = generate(self.model, self.tokenizer, prompt, context=context, **settings)
        chat = self.manifest.chat
        return pieces if chat is None else until(pieces, end_mark(chat))

    def question(self, text: str) -> str:
        """The text as a prompt: as it is, or as what a user asks where conversations were learned from."""
        chat = self.manifest.chat
        return text if chat is None else ChatRenderer(chat).prompt([{"role": "user", "content": text}])


def end_mark(chat: ChatTemplate) -> str:
    """What stands after an answer."""
    return PLAIN_END if chat == PLAIN else chat.tokens.get("eos_token", PLAIN_END)

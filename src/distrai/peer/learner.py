"""What a run's model is made of on one machine: folders of what is frozen, the model, and what it learns by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.layout import Layout
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.recipe import Recipe, ResolvedRecipe
from distrai.training.distillation import check_teacher
from distrai.training.errors import BadFrozenModel
from distrai.training.frozen import ModelManifest, Parts, parse_model_manifest, unpack
from distrai.training.frozen_weights import frozen_on, load_teacher
from distrai.training.model import build_model, check_fits, load_trainable
from distrai.training.objective import Objective, build_objective
from distrai.training.tokenizer import Tokenizer

FOLDER = "frozen"
"""Where in a peer's home the folders of frozen models are."""


@dataclass(frozen=True)
class FrozenModels:
    """The folders of what of a run is not trained; None where there is no such thing."""

    base: Path | None = None
    teacher: Path | None = None

    @classmethod
    def of(cls, resolved: ResolvedRecipe, blobs: BlobStore, home: Path) -> "FrozenModels":
        """From blobs that are all in the store, unpacked below ``home`` unless they are there already.

        Raises MissingBlob, WrongBlob, or what a bad manifest raises.
        """
        return cls(*(_unpacked(blob, blobs, home) for blob in (resolved.base, resolved.teacher)))


def _unpacked(blob: BlobRef | None, blobs: BlobStore, home: Path) -> Path | None:
    if blob is None:
        return None
    parts = Parts(blobs.give, blobs.chunks)
    return unpack(read_manifest(blobs, blob), blob.hash, parts, home / FOLDER)


def read_manifest(blobs: BlobStore, blob: BlobRef) -> ModelManifest:
    """The manifest of a frozen model that is in the store. Raises MissingBlob or what a bad manifest raises."""
    return parse_model_manifest(blobs.read(blob))


def needs_reference(recipe: Recipe) -> bool:
    """Whether the model as it was at the start is needed beside the one that is trained."""
    return recipe.training.objective == "dpo" and recipe.model.adapter is None


@dataclass(frozen=True)
class Learner:
    """A run's model on the CPU, and its objective, whose own models are on their device."""

    model: nn.Module
    objective: Objective

    @classmethod
    def of(
        cls,
        resolved: ResolvedRecipe,
        frozen: FrozenModels,
        tokenizer: Tokenizer,
        algorithm: Algorithm,
        initial_state: Callable[[], bytes],
        device: torch.device,
    ) -> "Learner":
        """Build both; ``initial_state`` is read where the model at the start is needed.

        Raises as ``build_model``, or VocabularyTooSmall, ContextTooLong, TeacherDiffers.
        """
        recipe, layout = resolved.recipe, Layout.from_pairs(resolved.layout)
        if recipe.model.source == "pretrained" and frozen.base is None:
            raise BadFrozenModel(
                "this run names a pretrained model and not its bytes, so that everybody might begin from another one: "
                "open it again with this version"
            )
        model = build_model(recipe.model, recipe.seed, frozen.base, layout)
        check_fits(model, tokenizer.vocabulary, recipe.data.context)
        teacher = reference = None
        if frozen.teacher is not None:
            teacher = load_teacher(frozen.teacher, device)
            check_fits(teacher, tokenizer.vocabulary, recipe.data.context)
            check_teacher(model, teacher, tokenizer, frozen.teacher)
        if needs_reference(recipe):
            reference = build_model(recipe.model, recipe.seed, frozen.base, layout)
            load_trainable(reference, algorithm.state_from_bytes(initial_state()).params)
            frozen_on(reference, device)
        return cls(model, build_objective(recipe, teacher, reference))

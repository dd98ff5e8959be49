"""Resolving a recipe: building its corpus and initial state, and fixing the hashes of everything a run depends on."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from distrai.algorithms.presets import PRESETS, warnings
from distrai.algorithms.section import build_algorithm
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.merkle import state_root
from distrai.protocol.recipe import Contracts, PreferenceSection, Recipe, RecipeError, ResolvedRecipe
from distrai.runs.recipes import algorithm_spec, resolve_algorithm
from distrai.training.data.corpus import build_corpus
from distrai.training.distillation import check_teacher
from distrai.training.errors import CannotLoadTokenizer
from distrai.training.frozen import pack
from distrai.training.frozen_weights import write_frozen
from distrai.training.model import (
    build_model,
    check_fits,
    needs_base,
    parameters_of,
    read_trainable,
    trainable_layout,
    unquantised,
)
from distrai.training.pretrained import load_pretrained, located, located_path
from distrai.training.tokenizer import Tokenizer, load_tokenizer


def advice(recipe: Recipe) -> list[str]:
    """What in a recipe is allowed, but likely to disappoint."""
    return warnings(algorithm_spec(recipe.algorithm), recipe.rounds.count)


def resolve(
    recipe: Recipe,
    base: Path,
    blobs: BlobStore,
    contracts: Contracts | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> ResolvedRecipe:
    """Build what the recipe names and store it in ``blobs``: corpus, tokenizer, initial state, resolved recipe.

    ``base`` is the folder that the recipe's paths start from; ``contracts`` are needed where the recipe speaks of
    money; ``tell`` takes a line about the data. Raises RecipeError and what building raises.
    """
    spec = algorithm_spec(recipe.algorithm)
    if not spec.network:
        raise RecipeError(
            "algorithm.preset",
            f'"{spec.preset}" is a baseline inside one process, not a way to train over a network',
            f"use {', '.join(name for name, each in PRESETS.items() if each.network)}",
        )
    if 0 < spec.quorum < recipe.rounds.min_updates:
        raise RecipeError(
            "algorithm.quorum",
            f"{spec.quorum} updates close a round, and rounds.min_updates = {recipe.rounds.min_updates} are needed",
            "set quorum to at least min_updates, or else rounds end empty",
        )
    tokenizer = load_tokenizer(recipe.data.tokenizer, base)
    if foreign := _foreign_tokenizer(recipe, tokenizer, base):
        if recipe.model.adapter is not None:
            raise RecipeError("data.tokenizer", *foreign)
        tell(", but ".join(foreign))
    model = build_model(unquantised(located(recipe.model, base)), recipe.seed)
    check_fits(model, tokenizer.vocabulary, recipe.data.context)
    corpus = build_corpus(recipe.data, tokenizer, blobs.put, base)
    if corpus.counts is not None:
        tell(corpus.counts.text())
    blobs.put(tokenizer.canonical)
    layout = trainable_layout(model)
    algorithm = build_algorithm(spec, layout)
    state = algorithm.state_bytes(algorithm.initial_state(read_trainable(model)))
    resolved = ResolvedRecipe(
        recipe=_written_out(recipe),
        corpus=corpus.blob,
        tokenizer_hash=tokenizer.hash,
        initial_state=blobs.put(state),
        initial_root=state_root(state),
        layout=tuple((spec.name, spec.shape) for spec in layout.tensors),
        contracts=contracts,
        base=_packed(model, blobs) if needs_base(recipe.model, model) else None,
        teacher=_teacher(recipe, model, tokenizer, base, blobs),
    )
    blobs.put(resolved.to_bytes())
    return resolved


def _foreign_tokenizer(recipe: Recipe, tokenizer: Tokenizer, base: Path) -> tuple[str, str] | None:
    """What is wrong, and what to do, where a pretrained model would read tokens that are not its own."""
    path = recipe.model.path
    if recipe.model.source != "pretrained" or recipe.data.tokenizer == path:
        return None
    folder = Path(located_path(path, base))
    if folder.is_dir() and not (folder / "tokenizer.json").is_file():
        return None  # a folder's name is not asked for on the hub
    try:
        own = load_tokenizer(path, base).to_fast().get_vocab(with_added_tokens=True)
    except CannotLoadTokenizer:
        return None  # the hub has none of the kind that is read here
    ours = tokenizer.to_fast().get_vocab(with_added_tokens=True)
    if all(ours.get(token) == number for token, number in own.items()):
        return None
    return (
        f'"{recipe.data.tokenizer}" numbers tokens in another way than the model "{path}" has learned',
        f'its own tokenizer is taken with tokenizer = "{path}" in [data] (--set data.tokenizer={path})',
    )


def _written_out(recipe: Recipe) -> Recipe:
    """The recipe with what it leaves to presets and defaults."""
    preference = recipe.preference
    if recipe.training.objective == "dpo" and preference is None:
        preference = PreferenceSection()
    return replace(recipe, algorithm=resolve_algorithm(recipe.algorithm), preference=preference)


def _packed(model: nn.Module, blobs: BlobStore) -> BlobRef:
    """What of a model is not trained, as blobs; the name of its manifest."""
    with tempfile.TemporaryDirectory(dir=blobs.path, prefix="model-") as place:
        write_frozen(model, Path(place) / "model")
        return blob_ref(pack(Path(place) / "model", parameters_of(model), blobs.put).to_bytes())


def _teacher(
    recipe: Recipe, student: nn.Module, tokenizer: Tokenizer, base: Path, blobs: BlobStore
) -> BlobRef | None:
    """The teacher as blobs, if there is one. Raises CannotLoadModel, TeacherDiffers, ContextTooLong."""
    section = recipe.teacher
    if section is None:
        return None
    path = located_path(section.path, base)
    teacher = load_pretrained(path, section.revision, "teacher").requires_grad_(False)
    check_teacher(student, teacher, tokenizer, Path(path))
    check_fits(teacher, tokenizer.vocabulary, recipe.data.context)
    return _packed(teacher, blobs)

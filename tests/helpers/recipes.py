"""Recipes for tests: the least that is valid, and a resolved one."""

from dataclasses import replace
from typing import Any

from distrai.protocol.blobs import BlobRef
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe, parse_recipe


def minimal_mapping() -> dict[str, Any]:
    """A recipe with only the keys that have no default."""
    return {
        "name": "test",
        "seed": 7,
        "model": {"source": "config", "license": "MIT", "config": {"model_type": "granite"}},
        "data": {"source": "python-stdlib", "context": 32, "license": "PSF-2.0"},
        "algorithm": {"preset": "prime"},
        "training": {"batch": 2, "lr": 0.006},
        "rounds": {"count": 4, "cut_s": 20, "hard_s": 40, "stall_seconds": 100},
        "membership": {"peers": 4},
        "limits": {"norm_ceiling": 100},
    }


def changed(path: str, value: object) -> dict[str, Any]:
    """The minimal recipe with the key at ``path`` set to ``value``; None deletes it."""
    mapping = minimal_mapping()
    *tables, key = path.split(".")
    table = mapping
    for name in tables:
        table = table.setdefault(name, {})
    if value is None:
        del table[key]
    else:
        table[key] = value
    return mapping


FULL_ALGORITHM: dict[str, Any] = {
    "codec": "int8",
    "codec_options": {"range": 6.0},
    "error_feedback": 0.0,
    "aggregate": "mean",
    "topology": "all",
    "outer": "sgd",
    "outer_lr": 1.0,
    "outer_momentum": 0.0,
    "outer_schedule": "constant",
    "outer_weight_decay": 0.0,
    "outer_delay": 1,
    "inner_optimiser": "adamw",
    "inner_state": "averaged",
    "inner_steps": 40,
    "pace": "fixed",
    "start": "global",
    "fragments": 1,
    "overlap": 0,
    "merge_alpha": 0.0,
    "staleness": 0,
    "quorum": 0,
}


def resolved_example() -> ResolvedRecipe:
    """A resolved recipe of two tensors."""
    recipe = parse_recipe(minimal_mapping() | {"checks": 1})  # as the first runs had
    return ResolvedRecipe(
        recipe=replace(recipe, algorithm=replace(recipe.algorithm, **FULL_ALGORITHM)),
        corpus=BlobRef(Hash(b"\1" * 32), 1000),
        tokenizer_hash=Hash(b"\2" * 32),
        initial_state=BlobRef(Hash(b"\3" * 32), 4 * 13),
        initial_root=Hash(b"\4" * 32),
        layout=(("embed.weight", (3, 4)), ("scale", ())),
    )

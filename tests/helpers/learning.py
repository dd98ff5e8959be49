"""Runs in common on something that stays as it was: a tiny model in a folder, and recipes that build upon it."""

import json
from pathlib import Path
from typing import Any

import torch

from distrai.network.store import BlobStore
from distrai.protocol.recipe import ResolvedRecipe, parse_recipe
from distrai.runs.archive import Archive
from distrai.runs.opened import OpenedRun
from distrai.runs.resolving import resolve
from distrai.training.model_config import model_from_config
from helpers.recipes import minimal_mapping

GRANITE: dict[str, Any] = {
    "model_type": "granite",
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}


def save_model(folder: Path, seed: int = 1, **changes: object) -> Path:
    """A pretrained model, as it comes from elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = model_from_config(GRANITE | changes)
    made.save_pretrained(folder)
    return folder


def write_data(folder: Path) -> None:
    """Text, and pairs of answers."""
    (folder / "text.txt").write_text("the cat sat on the mat, and the dog ran after it. " * 80)
    for at in range(4):
        (folder / f"more{at}.txt").write_text(f"{at} birds in the tree, {at + 1} in the hand. " * 40)
    rows = (
        {
            "input": {"messages": [{"role": "user", "content": f"ball {at}"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is red {at}."}],
            "non_preferred_output": [{"role": "assistant", "content": "Go away."}],
        }
        for at in range(40)
    )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def mapping_on(folder: Path, **tables: dict[str, Any]) -> dict[str, Any]:
    """A recipe that builds upon the model ``base`` in a folder, with these tables changed."""
    write_data(folder)
    save_model(folder / "base")
    mapping = minimal_mapping()
    mapping["model"] = {"source": "pretrained", "path": "base", "license": "MIT"}
    mapping["data"] = {"source": "files", "globs": ["*.txt"], "context": 32, "license": "MIT"}
    mapping["data"] |= {"held_out_fraction": 0.3, "tuning_fraction": 0.2}
    for name, table in tables.items():
        mapping[name] = mapping.get(name, {}) | table
    return mapping


PAIRS: dict[str, dict[str, Any]] = {
    "data": {"globs": ["*.jsonl"], "format": "preferences", "context": 56},
    "training": {"objective": "dpo"},
}
"""The tables of a run that learns from preferences."""


def resolved_on(folder: Path, home: Path, mapping: dict[str, Any]) -> ResolvedRecipe:
    """The recipe, opened: its blobs are in ``home``."""
    return resolve(parse_recipe(mapping), folder, BlobStore(home / "blobs"))


def opened_on(home: Path, resolved: ResolvedRecipe) -> OpenedRun:
    """What a home holds, opened."""
    return OpenedRun(Archive(home), resolved, torch.device("cpu"))

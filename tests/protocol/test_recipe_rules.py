from typing import Any

import pytest

from distrai.protocol.recipe import RecipeError, parse_recipe, stall_seconds_min
from helpers.recipes import changed, minimal_mapping

PRETRAINED = {"source": "pretrained", "license": "MIT", "path": "folder"}
FILES = {"source": "files", "context": 32, "license": "MIT", "globs": ["*.txt"]}

HUB = {"source": "hub", "context": 32, "license": "MIT", "dataset": "owner/name"}


def with_tables(**tables: dict[str, Any]) -> dict[str, Any]:
    mapping = minimal_mapping()
    for name, table in tables.items():
        mapping[name] = mapping[name] | table
    return mapping


IMPOSSIBLE: list[tuple[dict[str, Any], str, str]] = [
    (changed("model.config", None), "model.config.model_type", "like"),
    (changed("model.config.model_type", 3), "model.config.model_type", "like"),
    (changed("model.path", "x"), "model.path", 'source = "pretrained"'),
    (changed("model.revision", "x"), "model.revision", 'source = "pretrained"'),
    (changed("model", PRETRAINED | {"path": ""}), "model.path", "hub id"),
    (changed("model", PRETRAINED | {"config": {"a": 1}}), "model.config", 'source = "config"'),
    (
        changed("model.config.max_position_embeddings", 31),
        "model.config.max_position_embeddings",
        "at least data.context = 32",
    ),
    (
        changed("model.config.max_position_embeddings", "x"),
        "model.config.max_position_embeddings",
        "at least",
    ),
    (changed("model.config.vocab_size", 255), "model.config.vocab_size", "use 256"),
    (changed("model.config.vocab_size", "x"), "model.config.vocab_size", "use"),
    (changed("data", FILES | {"globs": []}), "data.globs", "say which files"),
    (changed("data.globs", ["*.txt"]), "data.globs", 'source = "files"'),
    (changed("data.held_out_fraction", 0.1), "data.held_out_fraction", 'source = "files"'),
    (changed("data.tuning_fraction", 0.1), "data.tuning_fraction", 'source = "files"'),
    (changed("data", FILES | {"dataset": "a/b"}), "data.dataset", 'source = "hub"'),
    (changed("data", HUB | {"dataset": ""}), "data.dataset", "owner/name"),
    (changed("data", HUB | {"globs": ["*"]}), "data.globs", 'source = "files"'),
    (changed("data", HUB | {"format": "chat", "column": "a"}), "data.column", 'format = "text"'),
    (changed("data.format", "chat"), "data.format", 'source = "files" or "hub"'),
    (changed("data.split", "test"), "data.split", 'source = "hub"'),
    (with_tables(model={"adapter": {}, "trainable": ["a"]}), "model.trainable", "[model.adapter]"),
    (
        with_tables(model={"adapter": {"quant": "nf4"}}, training={"compile": True}),
        "training.compile",
        'quant = "none"',
    ),
    (changed("training.objective", "distill"), "teacher", "[teacher]"),
    (changed("teacher", {"path": "a", "license": "MIT"}), "teacher", 'objective = "distill"'),
    (changed("preference", {}), "preference", 'objective = "dpo"'),
    (changed("training.objective", "dpo"), "data.format", 'format = "preferences"'),
    (changed("data", FILES | {"format": "preferences"}), "training.objective", 'objective = "dpo"'),
    (changed("rounds.d0_s", 20), "rounds.cut_s", "more than d0_s = 20.0"),
    (changed("rounds.cut_s", 40), "rounds.hard_s", "more than cut_s = 40.0"),
    (changed("rounds.stall_seconds", 85), "rounds.stall_seconds", "use 86"),
    (with_tables(membership={"min_seats": 5}), "membership.min_seats", "at most peers = 4"),
    (with_tables(membership={"max_seats": 3}), "membership.peers", "at most max_seats = 3"),
    (changed("rounds.min_updates", 2), "rounds.min_updates", "at most membership.min_seats = 1"),
    (with_tables(membership={"roll_call_min": [3, 2]}), "membership.roll_call_min", "[1, 2]"),
]


@pytest.mark.parametrize(("mapping", "path", "suggestion"), IMPOSSIBLE)
def test_contradictions_are_refused(mapping: dict[str, Any], path: str, suggestion: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(mapping)
    assert caught.value.path == path
    assert suggestion in caught.value.suggestion


POSSIBLE = [
    changed("model.adapter", {"kind": "lora", "r": 1, "targets": ["*_proj"], "quant": "nf4"}),
    with_tables(model={"adapter": {}}, training={"compile": True}),
    changed("data", HUB | {"tuning_fraction": 0.1, "column": "body", "max_documents": 9}),
    changed("data", FILES | {"format": "chat"}),
    with_tables(training={"objective": "distill"}) | {"teacher": {"path": "a", "license": "MIT"}},
    with_tables(training={"objective": "dpo"}, data=FILES | {"format": "preferences"}),
    with_tables(training={"objective": "dpo"}, data=HUB | {"format": "preferences"}) | {"preference": {}},
    changed("model", PRETRAINED),
    changed("data", FILES | {"held_out_fraction": 0.1}),
    changed("model.config.max_position_embeddings", 32),
    changed("model.config.vocab_size", 256),
    with_tables(data={"tokenizer": "folder"}, model={"config": {"model_type": "x", "vocab_size": 100}}),
    changed("rounds.stall_seconds", 86),
    with_tables(membership={"min_seats": 4, "max_seats": 4}, rounds={"min_updates": 4}),
    with_tables(membership={"roll_call_min": [1, 64]}),
    with_tables(membership={"roll_call_min": [1, 1]}),
]


@pytest.mark.parametrize("mapping", POSSIBLE)
def test_the_edge_of_the_possible_is_accepted(mapping: dict[str, Any]) -> None:
    parse_recipe(mapping)


def test_a_roll_call_waits_for_a_slow_round() -> None:
    # D0 = 3 s, so settling takes 7.5 s and the first three attempts 8 + 12 + 18 s
    assert stall_seconds_min(parse_recipe(minimal_mapping()).rounds) == pytest.approx(40 + 7.5 + 38)

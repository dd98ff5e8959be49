import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from distrai.protocol.blobs import blob_ref
from distrai.protocol.canonical import canonical_json
from distrai.protocol.errors import MalformedMessage, MessageTooLarge, NotCanonical
from distrai.protocol.recipe import AlgorithmSection, RecipeError, ResolvedRecipe, parse_recipe
from distrai.protocol.recipe.resolved import RESOLVED_BYTES_MAX, recipe_bytes
from distrai.protocol.recipe.sections import ADDED_LATER
from helpers.recipes import FULL_ALGORITHM, changed, resolved_example

ZERO = "0x" + "00" * 32
HASH = "8fb20064d9a6007773819b0835048244abab5b7c0d234fed32b8db6810f16386"


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    table = json.loads(resolved_example().to_bytes())
    change(table)
    return canonical_json(table)


def with_teacher(resolved: ResolvedRecipe) -> ResolvedRecipe:
    """The same, learning from a teacher."""
    mapping = changed("training.objective", "distill") | {"teacher": {"path": "big", "license": "MIT"}}
    recipe = replace(parse_recipe(mapping), algorithm=resolved.recipe.algorithm)
    return replace(resolved, recipe=recipe, teacher=resolved.corpus)


def with_adapter(resolved: ResolvedRecipe) -> ResolvedRecipe:
    """The same, training an adapter."""
    recipe = replace(parse_recipe(changed("model.adapter", {})), algorithm=resolved.recipe.algorithm)
    return replace(resolved, recipe=recipe, base=resolved.corpus)


@pytest.mark.parametrize(
    "made", [resolved_example(), *(f(resolved_example()) for f in (with_teacher, with_adapter))]
)
def test_round_trip(made: ResolvedRecipe) -> None:
    assert ResolvedRecipe.from_bytes(made.to_bytes()) == made
    resolved = resolved_example()
    assert ResolvedRecipe.from_bytes(resolved.to_bytes()) == resolved
    assert resolved.blob == blob_ref(resolved.to_bytes())
    assert resolved.algorithm == FULL_ALGORITHM


def test_bytes_are_frozen() -> None:
    """These bytes were made once; if they change, every recipe hash on every ledger does."""
    assert resolved_example().blob.hash.hex() == HASH
    table = json.loads(resolved_example().to_bytes())
    assert table["corpus"] == {"hash": "0x" + "01" * 32, "size": 1000}
    assert table["tokenizer_hash"] == "0x" + "02" * 32
    assert table["initial_state"] == {"hash": "0x" + "03" * 32, "root": "0x" + "04" * 32, "size": 52}
    assert table["layout"] == [["embed.weight", [3, 4]], ["scale", []]]


def test_every_fact_changes_the_hash() -> None:
    resolved, other = resolved_example(), resolved_example().blob
    zero = type(resolved.initial_root)(bytes(32))
    variants = [
        resolved,
        replace(resolved, corpus=other),
        replace(resolved, tokenizer_hash=zero),
        replace(resolved, initial_state=other),
        replace(resolved, initial_root=zero),
        replace(resolved, layout=resolved.layout[::-1]),
        with_adapter(resolved),
        replace(with_adapter(resolved), base=other),
        replace(with_teacher(resolved), teacher=other),
        replace(with_teacher(resolved), teacher=resolved.corpus),
        replace(resolved, recipe=replace(resolved.recipe, seed=8)),
    ]
    assert len({variant.blob.hash for variant in variants}) == len(variants)


@pytest.mark.parametrize("key", sorted(set(FULL_ALGORITHM) - set(ADDED_LATER["algorithm"])))
def test_nothing_is_left_to_the_preset(key: str) -> None:
    with pytest.raises(RecipeError, match=f"algorithm.{key}: missing in a resolved recipe"):
        ResolvedRecipe.from_bytes(edited(lambda table: table["algorithm"].pop(key)))


def test_keys_that_came_later_are_written_only_where_they_say_something_new() -> None:
    """So the hash of an old run stays what it is (see HASH), and its recipe can still be read."""
    plain = resolved_example()
    assert not set(json.loads(plain.to_bytes())["algorithm"]) & set(ADDED_LATER["algorithm"])
    assert ResolvedRecipe.from_bytes(plain.to_bytes()) == plain
    section = replace(plain.recipe.algorithm, overlap=3)
    other = replace(plain, recipe=replace(plain.recipe, algorithm=section))
    assert json.loads(other.to_bytes())["algorithm"]["overlap"] == 3
    assert ResolvedRecipe.from_bytes(other.to_bytes()) == other


def test_a_recipe_that_is_not_resolved_keeps_what_it_says_against_its_preset() -> None:
    mapping = changed("algorithm", {"preset": "streaming-diloco", "overlap": 0, "fragments": 1})
    recipe = parse_recipe(mapping)
    assert parse_recipe(json.loads(recipe_bytes(recipe))) == recipe
    assert recipe_bytes(recipe) != recipe_bytes(parse_recipe(changed("algorithm.preset", "streaming-diloco")))


@pytest.mark.parametrize("table", sorted(ADDED_LATER))
def test_a_key_that_came_later_is_refused_where_it_says_nothing_new(table: str) -> None:
    key, value = next(iter(ADDED_LATER[table].items()))
    with pytest.raises(NotCanonical):
        ResolvedRecipe.from_bytes(edited(lambda tables: tables[table].update({key: value})))


def test_an_unresolved_recipe_is_refused() -> None:
    resolved = resolved_example()
    with pytest.raises(RecipeError, match="algorithm.codec"):
        replace(resolved, recipe=replace(resolved.recipe, algorithm=AlgorithmSection(preset="prime")))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda t: t["corpus"].update(hash=ZERO[:-1]), "corpus.hash"),
        (lambda t: t["corpus"].update(hash="0x" + "0A" * 32), "corpus.hash"),
        (lambda t: t["corpus"].update(hash=ZERO + "\n"), "corpus.hash"),
        (lambda t: t["corpus"].update(hash="0x" + "0g" * 32), "corpus.hash"),
        (lambda t: t["corpus"].update(hash=3), "corpus.hash"),
        (lambda t: t["corpus"].update(size=0), "corpus.size"),
        (lambda t: t["corpus"].update(root=ZERO), "corpus.root"),
        (lambda t: t["initial_state"].pop("root"), "initial_state.root"),
        (lambda t: t.pop("tokenizer_hash"), "tokenizer_hash"),
        (lambda t: t.update(layout=[]), "layout"),
        (lambda t: t.update(layout=[["a"]]), "layout[0]"),
        (lambda t: t.update(layout=[["a", [0]]]), "layout[0][1][0]"),
        (lambda t: t.update(layout=[["a", [1] * 17]]), "layout[0][1]"),
        (lambda t: t.update(layout=[["a", [1]], ["b", [1]], ["a", [2]]]), "layout"),
        (lambda t: t.update(secret=1), "secret"),
        (lambda t: t["training"].update(lr=-1), "training.lr"),
        (lambda t: t["rounds"].update(hard_s=1), "rounds.hard_s"),
    ],
)
def test_impossible_resolved_recipes_are_refused(
    change: Callable[[dict[str, Any]], object], path: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        ResolvedRecipe.from_bytes(edited(change))
    assert caught.value.path == path


def test_what_is_frozen_is_named() -> None:
    """A recipe that speaks of a teacher or of an adapter has the hash of what is frozen; no other has a teacher."""
    resolved = resolved_example()
    for made, what in (
        (with_adapter(resolved), {"base": None}),
        (with_teacher(resolved), {"teacher": None}),
        (resolved, {"teacher": resolved.corpus}),
    ):
        with pytest.raises(RecipeError, match=rf"frozen.{next(iter(what))}: "):
            replace(made, **what)
    with pytest.raises(RecipeError, match=r"frozen.base: of no use"):
        replace(resolved, base=resolved.corpus)
    part = replace(resolved.recipe, model=replace(resolved.recipe.model, trainable=("embed*",)))
    assert replace(resolved, recipe=part, base=resolved.corpus).base == resolved.corpus
    with pytest.raises(NotCanonical):
        ResolvedRecipe.from_bytes(edited(lambda table: table.update(frozen={})))


@pytest.mark.parametrize(
    "data",
    [
        edited(lambda table: table["training"].pop("eps")),  # a default that is left out
        edited(lambda table: table["training"].update(clip=1)),  # 1 where 1.0 is meant
        json.dumps(json.loads(resolved_example().to_bytes())).encode(),  # spaces
        resolved_example().to_bytes() + b"\n",
    ],
)
def test_another_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        ResolvedRecipe.from_bytes(data)


def test_what_is_no_resolved_recipe_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        ResolvedRecipe.from_bytes(b"{")
    with pytest.raises(MessageTooLarge):
        ResolvedRecipe.from_bytes(b" " * (RESOLVED_BYTES_MAX + 1))
    with pytest.raises(RecipeError, match="expected a table, got a list"):
        ResolvedRecipe.from_bytes(b"[]")

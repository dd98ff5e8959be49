import datetime
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.canonical import decode_canonical_json
from distrai.protocol.recipe import (
    AlgorithmSection,
    Recipe,
    RecipeError,
    parse_recipe,
    recipe_bytes,
    stall_seconds_min,
    to_mapping,
)
from helpers.recipes import changed, minimal_mapping

Refusal = tuple[str, object, str, str, str]


def refused(mapping: object) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(mapping)
    error = caught.value
    assert str(error) == f"{error.path}: {error.problem}; {error.suggestion}"
    assert error.suggestion
    return error


def test_defaults() -> None:
    recipe = parse_recipe(minimal_mapping())
    assert recipe.checks == 2
    assert recipe.model.trainable == ("*",)
    assert recipe.training.betas == (0.9, 0.95)
    assert recipe.rounds.d0_s == 3.0
    assert recipe.membership.roll_call_min == (1, 2)
    assert recipe.algorithm == AlgorithmSection(preset="prime")
    assert recipe.algorithm.overrides == {}


def test_overrides_are_what_is_given() -> None:
    mapping = changed("algorithm.outer_lr", 1)
    mapping["algorithm"]["codec_options"] = {"range": 6}
    section = parse_recipe(mapping).algorithm
    assert section.overrides == {"outer_lr": 1.0, "codec_options": {"range": 6}}


def test_whole_numbers_are_decimals_where_decimals_are_wanted() -> None:
    recipe = parse_recipe(changed("training.weight_decay", 1))
    assert type(recipe.training.weight_decay) is float
    assert recipe_bytes(recipe) == recipe_bytes(parse_recipe(changed("training.weight_decay", 1.0)))


def test_minus_zero_is_zero() -> None:
    same = [recipe_bytes(parse_recipe(changed("training.warmup", zero))) for zero in (0, 0.0, -0.0)]
    assert len(set(same)) == 1


def test_free_tables_keep_what_is_in_them() -> None:
    config = {"model_type": "x", "a": None, "b": True, "c": [1, [2.5, "t"]], "d": {"e": {"f": 1}}}
    assert parse_recipe(changed("model.config", config)).model.config == config


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(AttributeError):
        parse_recipe(minimal_mapping()).seed = 3  # type: ignore[misc]


# path of the change, value, path of the refusal, part of the problem, part of the suggestion
UNKNOWN_KEYS: list[Refusal] = [
    ("training.learning_rate", 1, "training.learning_rate", "unknown key", "the keys here are batch, lr"),
    ("training.batchh", 1, "training.batchh", "unknown key", "did you mean `training.batch`?"),
    ("trainin", {}, "trainin", "unknown key", "did you mean `training`?"),
    ("lr", 1, "lr", "unknown key", "did you mean `training.lr`?"),
    ("algorithm.codek", "int8", "algorithm.codek", "unknown key", "did you mean `algorithm.codec`?"),
]
MISSING_KEYS: list[Refusal] = [
    ("name", None, "name", "missing", "add `name = ...` at the top of the file"),
    ("training.lr", None, "training.lr", "missing", "add `lr = ...` under [training]"),
    ("rounds", None, "rounds", "missing", "add a [rounds] table"),
]
WRONG_TYPES: list[Refusal] = [
    ("seed", True, "seed", "expected a whole number, got true/false (True)", "like 4"),
    ("seed", 1.0, "seed", "expected a whole number, got a number (1.0)", "like 4"),
    ("seed", "1", "seed", "got text ('1')", "without quotes"),
    ("training.lr", True, "training.lr", "expected a number, got true/false", "like 0.5"),
    ("training.lr", "6e-3", "training.lr", "expected a number, got text", "without quotes"),
    ("training.lr", [1], "training.lr", "got a list", "like 0.5"),
    ("name", 3, "name", "expected text, got a whole number (3)", "in quotes"),
    ("name", {}, "name", "got a table", "in quotes"),
    ("training", 3, "training", "expected a table", "write [training] with its keys below it"),
    ("model.config", "granite", "model.config", "expected a table", "[model.config]"),
    ("model.trainable", "*", "model.trainable", "expected a list, got text", "in brackets"),
    ("model.trainable", ["*", 1], "model.trainable[1]", "expected text", "in quotes"),
    ("training.betas", [0.9], "training.betas", "has 1 items", "exactly 2"),
    ("training.betas", [0.9, "x"], "training.betas[1]", "expected a number", "without quotes"),
    (
        "model.config.born",
        datetime.date(2020, 1, 1),
        "model.config.born",
        "date cannot be written",
        "use text",
    ),
    ("model.config.x", [[math.nan]], "model.config.x[0][0]", "no number to compute with", "finite"),
]
IMPOSSIBLE_VALUES: list[Refusal] = [
    ("training.lr", 0, "training.lr", "0.0 is impossible", "above 0 and at most 10"),
    ("training.lr", math.nan, "training.lr", "no number to compute with", "finite"),
    ("training.lr", math.inf, "training.lr", "no number to compute with", "finite"),
    ("training.lr", 1 << 60, "training.lr", "expected a number", "like 0.5"),
    ("training.warmup", 1.5, "training.warmup", "1.5 is impossible", "at least 0 and at most 1"),
    ("training.betas", [0.9, 1], "training.betas[1]", "1.0 is impossible", "below 1"),
    ("training.batch", 0, "training.batch", "0 is impossible", "at least 1"),
    ("data.context", 1, "data.context", "1 is impossible", "at least 2"),
    ("seed", -1, "seed", "-1 is impossible", "at least 0"),
    ("seed", 1 << 53, "seed", "too large", "up to 9007199254740991"),
    ("name", "", "name", "has 0 characters", "1 to 64 characters"),
    ("model.trainable", [], "model.trainable", "has 0 items", "1 to 1024 items"),
    ("checks", 3, "checks", "a whole number (3) is not one of the choices", "use 1 or 2"),
    ("checks", True, "checks", "not one of the choices", "use 1 or 2"),
    ("checks", 1.0, "checks", "not one of the choices", "use 1 or 2"),
    ("training.schedule", "cosin", "training.schedule", "not one of", 'did you mean "cosine"?'),
    ("training.schedule", "zzz", "training.schedule", "not one of", 'use "cosine" or "constant"'),
    (
        "training.schedule",
        ["cosine"],
        "training.schedule",
        "a list is not one of",
        'use "cosine" or "constant"',
    ),
    (
        "model.config.deep",
        [[[[[[[[[1]]]]]]]]],
        "model.config.deep[0][0][0][0][0][0][0][0]",
        "nested",
        "at most 8",
    ),
]


@pytest.mark.parametrize(
    ("key", "value", "path", "problem", "suggestion"),
    UNKNOWN_KEYS + MISSING_KEYS + WRONG_TYPES + IMPOSSIBLE_VALUES,
)
def test_refusals_name_path_problem_and_suggestion(
    key: str, value: object, path: str, problem: str, suggestion: str
) -> None:
    error = refused(changed(key, value))
    assert error.path == path
    assert problem in error.problem
    assert suggestion in error.suggestion


@pytest.mark.parametrize("nothing", [None, 3, [], "recipe"])
def test_what_is_no_table_is_refused(nothing: object) -> None:
    assert refused(nothing).path == "recipe"


def test_none_stands_for_no_key() -> None:
    mapping = minimal_mapping()
    mapping["algorithm"]["codec"] = None
    error = refused(mapping)
    assert (error.path, error.problem) == ("algorithm.codec", "expected text, got nothing")


def every_number(table: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += every_number(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(prefix + key)
    return found


@pytest.mark.parametrize("path", every_number(to_mapping(parse_recipe(minimal_mapping()))))
@pytest.mark.parametrize("value", [-1, 1 << 53, True, math.nan])
def test_no_number_is_without_bounds(path: str, value: float) -> None:
    assert refused(changed(path, value)).path == path


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
FRACTIONS = st.floats(0, 0.99)
SECONDS = st.floats(0.001, 100)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any valid recipe, nearly."""
    recipe = parse_recipe(minimal_mapping())
    seats = sorted(draw(st.lists(st.integers(1, 64), min_size=3, max_size=3)))
    members = {
        "min_seats": seats[0],
        "peers": seats[1],
        "max_seats": seats[2],
        "admission": draw(st.sampled_from(["invitation", "open"])),
    }
    d0_s, cut_s, hard_s = sorted(draw(st.lists(SECONDS, min_size=3, max_size=3, unique=True)))
    rounds = replace(recipe.rounds, count=draw(st.integers(1, 1000)), d0_s=d0_s, cut_s=cut_s, hard_s=hard_s)
    rounds = replace(rounds, stall_seconds=math.floor(stall_seconds_min(rounds)) + draw(st.integers(1, 100)))
    algorithm = AlgorithmSection(
        preset=draw(NAMES),
        codec=draw(st.none() | NAMES),
        codec_options=draw(st.none() | st.dictionaries(NAMES, st.integers(0, 9) | st.floats(0, 1) | NAMES)),
        outer_lr=draw(st.none() | st.floats(0.01, 1)),
        inner_steps=draw(st.none() | st.integers(1, 500)),
    )
    training = replace(
        recipe.training,
        lr=draw(st.floats(1e-9, 1)),
        betas=(draw(FRACTIONS), draw(FRACTIONS)),
        warmup=draw(FRACTIONS),
        batch=draw(st.integers(1, 100)),
        precision=draw(st.sampled_from(["fp32", "bf16", "auto"])),
    )
    return replace(
        recipe,
        name=draw(NAMES),
        seed=draw(st.integers(0, (1 << 53) - 1)),
        algorithm=algorithm,
        training=training,
        rounds=rounds,
        membership=replace(recipe.membership, **members),
    )


@given(recipes())
def test_round_trip(recipe: Recipe) -> None:
    assert parse_recipe(to_mapping(recipe)) == recipe
    data = recipe_bytes(recipe)
    assert parse_recipe(decode_canonical_json(data)) == recipe
    assert recipe_bytes(parse_recipe(decode_canonical_json(data))) == data


@given(recipes(), recipes())
def test_different_recipes_have_different_bytes(one: Recipe, other: Recipe) -> None:
    assert (one == other) == (recipe_bytes(one) == recipe_bytes(other))

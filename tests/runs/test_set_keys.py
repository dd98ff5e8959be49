"""``--set``: other values for keys of a recipe."""

from pathlib import Path

import pytest

from distrai.protocol.recipe import RecipeError
from distrai.runs.recipes import load_recipe, set_keys

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


def test_keys_are_set_one_after_the_other_and_values_are_toml() -> None:
    changed = set_keys(
        {"a": {"b": 1, "c": 2}}, ["a.b=3", "d.e.f=[1.5, 2]", "a.g=true", "h=x y", 'i="=1"', "a.b = 4"]
    )
    assert changed == {"a": {"b": 4, "c": 2, "g": True}, "d": {"e": {"f": [1.5, 2]}}, "h": "x y", "i": "=1"}


def test_what_is_changed_is_left_as_it_was() -> None:
    before = {"a": {"b": 1}}
    set_keys(before, ["a.b=2", "c=3"])
    assert before == {"a": {"b": 1}}


def test_a_recipe_is_checked_with_its_changes() -> None:
    recipe = load_recipe(SMOKE, changes=["algorithm.preset=diloco", "algorithm.inner_steps=3"], rounds=7)
    assert (recipe.algorithm.preset, recipe.algorithm.inner_steps, recipe.rounds.count) == ("diloco", 3, 7)
    whole = load_recipe(SMOKE, changes=['algorithm={preset = "sparseloco"}'])
    assert whole.algorithm.overrides == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("algorithm.inner_step=3", "algorithm.inner_step: unknown key; did you mean `algorithm.inner_steps`"),
        ("algorithm.preset=dilocco", "algorithm.preset: no 'dilocco'; did you mean 'diloco'"),
        ("training.lr=fast", "training.lr: expected a number"),
        ("algorithm", "--set: .* is no key=value"),
        ("=3", "--set: .* is no key=value"),
        ("seed.x=3", "seed: is no table"),
    ],
)
def test_mistakes_name_the_key(change: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(SMOKE, changes=[change])

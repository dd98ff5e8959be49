"""Recipes as files: TOML on disk to a checked ``Recipe``."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai.protocol.recipe import AlgorithmSection, Recipe, RecipeError, parse_recipe, to_mapping

if TYPE_CHECKING:
    from distrai.algorithms.presets import AlgorithmSpec

RECIPE_BYTES_MAX = 1 << 20
"""Longest recipe file that is read; a longer one is something else."""


def load_recipe(
    path: str | Path, *, peers: int | None = None, rounds: int | None = None, changes: Sequence[str] = ()
) -> Recipe:
    """Read and check a recipe file; ``changes`` (``key=value``), ``peers`` and ``rounds`` replace what it says.

    Raises RecipeError: no such file, no TOML (with the line), an unknown key or preset, an impossible value.
    """
    recipe = with_overrides(
        parse_recipe(set_keys(read_toml(Path(path)), changes)), peers=peers, rounds=rounds
    )
    algorithm_spec(recipe.algorithm)
    return recipe


def algorithm_spec(section: AlgorithmSection) -> "AlgorithmSpec":
    """The algorithm that a recipe names. Raises RecipeError for unknown presets and impossible combinations."""
    from distrai.algorithms import (
        section as sections,
    )  # brings torch, which a typo elsewhere need not wait for

    return sections.algorithm_spec(section)


def resolve_algorithm(section: AlgorithmSection) -> AlgorithmSection:
    """The section with every setting of its preset written out, as a resolved recipe wants it."""
    from distrai.algorithms import section as sections

    return sections.written_out(sections.algorithm_spec(section))


def with_overrides(recipe: Recipe, *, peers: int | None = None, rounds: int | None = None) -> Recipe:
    """The recipe with another number of peers or rounds, checked again.

    With fewer peers than the recipe's smallest number of seats (or of updates in a round) that number goes
    down with them: who asks for two peers means that two are enough.
    """
    members, schedule = recipe.membership, recipe.rounds
    if peers is not None:
        members = replace(members, peers=peers, min_seats=min(members.min_seats, max(peers, 1)))
        schedule = replace(schedule, min_updates=min(schedule.min_updates, members.min_seats))
    if rounds is not None:
        schedule = replace(schedule, count=rounds)
    return parse_recipe(to_mapping(replace(recipe, membership=members, rounds=schedule)))


def set_keys(mapping: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Plain data with ``table.key=value`` applied, one after the other; a value is TOML, or a text without quotes.

    A whole table may be given, too: ``algorithm={preset = "demo"}``. What keys there may be is checked where the
    data is read. Raises RecipeError for what is no such change.
    """
    changed: dict[str, Any] = dict(mapping)
    for change in changes:
        key, equals, text = change.partition("=")
        steps = [step.strip() for step in key.split(".")]
        if not equals or not all(steps):
            hint = "write it like --set algorithm.inner_steps=50"
            raise RecipeError("--set", f'"{change}" is no key=value', hint)
        table = changed
        for at, step in enumerate(steps[:-1]):
            below = table.get(step, {})
            if not isinstance(below, Mapping):
                raise RecipeError(".".join(steps[: at + 1]), "is no table", "set the key itself")
            table[step] = dict(below)
            table = table[step]
        table[steps[-1]] = _value(text.strip())
    return changed


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data. Raises RecipeError: no such file, too long, no UTF-8, no TOML (with the line)."""
    try:
        with path.open("rb") as file:
            data = file.read(RECIPE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise RecipeError(str(path), "no such file", _nearby(path)) from None
    except OSError as error:
        raise RecipeError(
            str(path), f"cannot be read ({error.strerror})", "give a readable TOML file"
        ) from None
    if len(data) > RECIPE_BYTES_MAX:
        raise RecipeError(str(path), f"longer than {RECIPE_BYTES_MAX} bytes", "give a recipe, which is short")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise RecipeError(str(path), f"no UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(str(path), f"no TOML: {error}", "mend that line; texts stand in quotes") from None


def _nearby(path: Path) -> str:
    """What recipes there are where ``path`` was looked for."""
    folders = [folder for folder in (path.parent, path.parent / "recipes") if folder.is_dir()]
    names = sorted(str(item) for folder in folders for item in folder.glob("*.toml"))
    recipes = [name for name in names if Path(name).name != "pyproject.toml"][:8]
    return f"did you mean {' or '.join(recipes)}?" if recipes else "give the path of a recipe (a .toml file)"

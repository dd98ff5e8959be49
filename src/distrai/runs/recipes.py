"""Recipes as files: TOML on disk to a checked ``Recipe``."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai.protocol.recipe import AlgorithmSection, Recipe, RecipeError, parse_recipe, to_mapping

if TYPE_CHECKING:
    from distrai.algorithms.presets import AlgorithmSpec

RECIPE_BYTES_MAX = 1 << 20
"""Longest recipe file that is read; a longer one is something else."""


def load_recipe(path: str | Path, *, peers: int | None = None, rounds: int | None = None) -> Recipe:
    """Read and check a recipe file; ``peers`` and ``rounds`` replace what it says.

    Raises RecipeError: no such file, no TOML (with the line), an unknown key or preset, an impossible value.
    """
    recipe = with_overrides(parse_recipe(_read_toml(Path(path))), peers=peers, rounds=rounds)
    algorithm_spec(recipe.algorithm)
    return recipe


def algorithm_spec(section: AlgorithmSection) -> "AlgorithmSpec":
    """The algorithm that a recipe names. Raises RecipeError for unknown presets and impossible combinations."""
    from distrai.algorithms.presets import (
        resolve_preset,
    )  # brings torch, which a typo elsewhere need not wait for

    try:
        return resolve_preset(section.preset, section.overrides)
    except ValueError as error:
        raise _algorithm_error(str(error)) from None


def resolve_algorithm(section: AlgorithmSection) -> AlgorithmSection:
    """The section with every setting of its preset written out, as a resolved recipe wants it."""
    spec = algorithm_spec(section)
    settings: dict[str, Any] = {item.name: getattr(spec, item.name) for item in fields(section)}
    return AlgorithmSection(**settings | {"codec_options": dict(spec.codec_options)})


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


def _read_toml(path: Path) -> dict[str, object]:
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


def _algorithm_error(text: str) -> RecipeError:
    """What ``resolve_preset`` says (``key: problem; suggestion``) with the path of the key."""
    key, _, rest = text.partition(": ")
    if key.partition(".")[0] not in AlgorithmSection.__dataclass_fields__:
        key, rest = "", text
    problem, _, suggestion = rest.partition("; ")
    path = f"algorithm.{key}" if key else "algorithm"
    return RecipeError(path, problem, suggestion or "recipes/quickstart.toml explains the keys")


def _nearby(path: Path) -> str:
    """What recipes there are where ``path`` was looked for."""
    folders = [folder for folder in (path.parent, path.parent / "recipes") if folder.is_dir()]
    names = sorted(str(item) for folder in folders for item in folder.glob("*.toml"))
    recipes = [name for name in names if Path(name).name != "pyproject.toml"][:8]
    return f"did you mean {' or '.join(recipes)}?" if recipes else "give the path of a recipe (a .toml file)"

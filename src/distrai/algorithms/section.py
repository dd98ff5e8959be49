"""From a recipe's ``[algorithm]`` table to the algorithm, and back with every setting written out."""

from dataclasses import fields
from typing import Any

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.layout import Layout
from distrai.algorithms.presets import AlgorithmSpec, resolve_preset
from distrai.protocol.recipe import AlgorithmSection, RecipeError


def algorithm_spec(section: AlgorithmSection, path: str = "algorithm") -> AlgorithmSpec:
    """The algorithm that a table names; ``path`` is where the table stands.

    Raises RecipeError for unknown presets and impossible combinations.
    """
    try:
        return resolve_preset(section.preset, section.overrides)
    except ValueError as error:
        raise _recipe_error(str(error), path) from None


def build_algorithm(spec: AlgorithmSpec, layout: Layout, path: str = "algorithm") -> Algorithm:
    """The algorithm for a model. Raises RecipeError if the model has fewer layers than the spec has fragments."""
    try:
        return Algorithm(spec, layout)
    except ValueError as error:
        raise _recipe_error(str(error), path) from None


def written_out(spec: AlgorithmSpec) -> AlgorithmSection:
    """The section with every setting of an algorithm, as a resolved recipe wants it."""
    settings: dict[str, Any] = {item.name: getattr(spec, item.name) for item in fields(AlgorithmSection)}
    return AlgorithmSection(**settings | {"codec_options": dict(spec.codec_options)})


def _recipe_error(text: str, path: str) -> RecipeError:
    """What a refusal of the algorithm says (``key: problem; suggestion``) with the path of the key."""
    key, _, rest = text.partition(": ")
    if key.partition(".")[0] not in AlgorithmSection.__dataclass_fields__:
        key, rest = "", text
    problem, _, suggestion = rest.partition("; ")
    return RecipeError(
        f"{path}.{key}" if key else path, problem, suggestion or "recipes/quickstart.toml explains the keys"
    )

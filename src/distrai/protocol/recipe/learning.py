"""Rules between the keys of a recipe about what is learned: its model, data and objective."""

from collections.abc import Callable

from distrai.protocol.recipe.reading import RecipeError
from distrai.protocol.recipe.sections import DataSection, ModelSection, Recipe

BYTE_IDS = 256
"""Ids of the built-in tokenizer."""
_SOURCE_KEYS = {
    "globs": ("files",),
    "held_out_fraction": ("files", "hub"),
    "tuning_fraction": ("files", "hub"),
    "format": ("files", "hub"),
    "dataset": ("hub",),
    "subset": ("hub",),
    "revision": ("hub",),
    "split": ("hub",),
    "column": ("hub",),
    "max_documents": ("hub",),
}
"""Keys of [data], and the sources that they mean something for."""


def _model_source(recipe: Recipe) -> None:
    model = recipe.model
    if model.source == "config":
        if not isinstance(model.config.get("model_type"), str):
            raise RecipeError(
                "model.config.model_type", "missing", 'name a Hugging Face model type, like "granite"'
            )
        if model.path or model.revision:
            key = "path" if model.path else "revision"
            raise RecipeError(
                f"model.{key}", "is for pretrained models", 'delete it, or set source = "pretrained"'
            )
        return
    if not model.path:
        raise RecipeError("model.path", "missing", "give the folder or the hub id of the pretrained model")
    if model.config:
        raise RecipeError(
            "model.config", "a pretrained model brings its own", 'delete it, or set source = "config"'
        )


def _model_fits_data(recipe: Recipe) -> None:
    config, data = recipe.model.config, recipe.data
    positions = config.get("max_position_embeddings", data.context)
    if not isinstance(positions, int) or positions < data.context:
        path = "model.config.max_position_embeddings"
        raise RecipeError(path, f"{positions} positions", f"use at least data.context = {data.context}")
    ids = config.get("vocab_size", BYTE_IDS)
    if not isinstance(ids, int) or (data.tokenizer == "bytes" and ids < BYTE_IDS):
        hint = f"use {BYTE_IDS} for the tokenizer of bytes"
        raise RecipeError("model.config.vocab_size", f"{ids} ids are not enough", hint)


def _adapter(recipe: Recipe) -> None:
    """An adapter stands in the place of the model's own weights."""
    model = recipe.model
    if (
        model.adapter is not None
        and model.trainable != ModelSection.__dataclass_fields__["trainable"].default
    ):
        hint = "delete it, or the [model.adapter] table: an adapter is trained, and the model itself stays as it is"
        raise RecipeError("model.trainable", "names parameters of a model that an adapter freezes", hint)
    if model.adapter is not None and model.adapter.quant != "none" and recipe.training.compile:
        hint = 'delete it, or set quant = "none" in [model.adapter]'
        raise RecipeError("training.compile", "cannot compile weights of four bits", hint)


def _data_source(recipe: Recipe) -> None:
    data = recipe.data
    if data.source == "files" and not data.globs:
        raise RecipeError("data.globs", "missing", 'say which files, like ["texts/**/*.txt"]')
    if data.source == "hub" and not data.dataset:
        raise RecipeError("data.dataset", "missing", 'name a Hugging Face data set, like "owner/name"')
    for key, sources in _SOURCE_KEYS.items():
        if data.source not in sources and getattr(data, key) != DataSection.__dataclass_fields__[key].default:
            hint = "delete it, or set source = " + " or ".join(f'"{source}"' for source in sources)
            raise RecipeError(f"data.{key}", f'means nothing for source = "{data.source}"', hint)
    if data.format != "text" and data.column != DataSection.__dataclass_fields__["column"].default:
        hint = 'delete it, or set format = "text"'
        raise RecipeError("data.column", f'means nothing for format = "{data.format}"', hint)


def _objective(recipe: Recipe) -> None:
    """What an objective needs, and nothing that another one would."""
    objective, form = recipe.training.objective, recipe.data.format
    if objective == "distill" and recipe.teacher is None:
        hint = "add a [teacher] table with path and license"
        raise RecipeError("teacher", 'missing for objective = "distill"', hint)
    if objective != "distill" and recipe.teacher is not None:
        hint = 'delete it, or set objective = "distill" in [training]'
        raise RecipeError("teacher", f'means nothing for objective = "{objective}"', hint)
    if objective != "dpo" and recipe.preference is not None:
        hint = 'delete it, or set objective = "dpo" in [training]'
        raise RecipeError("preference", f'means nothing for objective = "{objective}"', hint)
    if objective == "dpo" and form != "preferences":
        hint = 'set format = "preferences" in [data], with pairs of answers, or objective = "next-token"'
        raise RecipeError("data.format", f'"{form}" has no pairs to prefer one of', hint)
    if objective != "dpo" and form == "preferences":
        hint = 'set objective = "dpo" in [training], or format = "chat" in [data]'
        raise RecipeError("training.objective", f'"{objective}" cannot learn from pairs of answers', hint)


LEARNING_RULES: tuple[Callable[[Recipe], None], ...] = (
    _model_source,
    _adapter,
    _model_fits_data,
    _data_source,
    _objective,
)

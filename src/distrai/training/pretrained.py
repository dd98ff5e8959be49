"""Pretrained models, as whoever opens a run reads them: from a folder or the hub, safetensors only, no code."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from distrai.protocol.recipe import ModelSection
from distrai.training.errors import CannotLoadModel
from distrai.training.huggingface import auto_config, auto_model, imported_cheaply


def located(section: ModelSection, folder: Path) -> ModelSection:
    """The section with its path as seen from here: below the recipe's folder if it is there, else as it is."""
    return replace(section, path=located_path(section.path, folder)) if section.path else section


def located_path(path: str, folder: Path) -> str:
    """A path of a recipe: below its folder if it is there, else as it is (another folder, or a name on the hub)."""
    return str(folder / path) if (folder / path).is_dir() else path


def load_pretrained(path: str, revision: str, table: str) -> nn.Module:
    """A causal language model from a folder or the hub: safetensors only, none of its own code.

    ``table`` names the table of the recipe that says where. Raises CannotLoadModel.
    """
    load = auto_model().from_pretrained
    try:
        _refuse_quantised(path, revision, table)
        model = imported_cheaply(
            lambda: load(
                path,
                revision=revision or "main",
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,  # never unpickle
            )
        )
    except CannotLoadModel:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _cannot_load(path, table, error) from error
    assert isinstance(model, nn.Module)
    return model


def pretrained_shape(path: str, revision: str, table: str) -> nn.Module:
    """A pretrained model without its weights, which need not be loaded to be counted. Raises CannotLoadModel."""
    try:
        _refuse_quantised(path, revision, table)
        config = auto_config().from_pretrained(path, revision=revision or "main", trust_remote_code=False)
        with torch.device("meta"):
            made = imported_cheaply(lambda: auto_model().from_config(config))
    except CannotLoadModel:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _cannot_load(path, table, error) from error
    assert isinstance(made, nn.Module)
    return made


def _refuse_quantised(path: str, revision: str, table: str) -> None:
    config = auto_config().from_pretrained(path, revision=revision or "main", trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        raise CannotLoadModel(
            f'[{table}] path: "{path}" is quantised already; name the model that it was made from '
            f'(with quant = "nf4" in [model.adapter] for four bits while training)'
        )


def _cannot_load(path: str, table: str, error: BaseException) -> CannotLoadModel:
    if (path.startswith((".", "/", "~")) or path.count("/") > 1) and not Path(path).is_dir():
        return CannotLoadModel(
            f'[{table}] path: there is no folder "{path}", seen from the recipe or from here; `make run` makes '
            f"runs/quickstart/model and `distrai export RUN` the model of any run; or give the id of one on the hub"
        )
    return CannotLoadModel(
        f'[{table}] path: cannot load "{path}" ({first_line(error)}); give a folder with config.json and '
        f"model.safetensors, or the id of a causal language model on the hub"
    )


def first_line(error: BaseException) -> str:
    """The beginning of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__

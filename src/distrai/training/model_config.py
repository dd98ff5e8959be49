"""A new model from the Hugging Face configuration of a recipe; typing errors are told with what was meant."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from distrai.training.errors import BadModelConfig, UnknownModelType
from distrai.training.frozen_weights import REFUSED_KEYS
from distrai.training.huggingface import auto_config, auto_model, imported_cheaply
from distrai.training.pretrained import first_line

_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
"""A new model knows no special tokens unless its recipe names them (TOML has no null to deny them)."""


def model_from_config(config: Mapping[str, object]) -> nn.Module:
    """A new model from a Hugging Face configuration with ``model_type``; torch's generator draws the weights.

    Raises UnknownModelType or BadModelConfig.
    """
    checked = _checked_config(config)
    try:
        model = imported_cheaply(lambda: auto_model().from_config(checked, dtype=torch.float32))
    except Exception as error:  # whatever the code of that model trips over
        raise BadModelConfig(f"[model.config] makes no causal language model: {first_line(error)}") from error
    assert isinstance(model, nn.Module)
    return model


def _checked_config(config: Mapping[str, object]) -> Any:
    settings = {key: _plain(value) for key, value in config.items() if key != "model_type"}
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise BadModelConfig('[model.config] needs model_type, such as model_type = "granite"')
    try:
        default = auto_config().for_model(kind)
    except (ValueError, KeyError):
        raise UnknownModelType(
            f'[model.config] model_type: "{kind}" is unknown; {_similar_type(kind)}'
        ) from None
    known = {*default.to_dict(), *default.attribute_map} - REFUSED_KEYS
    for key in settings:
        if key not in known or key.startswith("_"):
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"{type(default).__name__} has no such key"
            raise BadModelConfig(f"[model.config] {key}: {hint}")
    try:
        return auto_config().for_model(kind, **(_SPECIAL_TOKENS | settings))
    except Exception as error:  # transformers raises its validation errors straight from Exception
        raise BadModelConfig(f"[model.config] {' '.join(str(error).split())[:300]}") from error


def _similar_type(kind: str) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    near = difflib.get_close_matches(kind, list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), 3, 0.5)
    return (
        f"did you mean {' or '.join(near)}?" if near else "gpt2, llama, qwen3 and granite are some that exist"
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

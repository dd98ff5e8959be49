"""Adapters (LoRA) on a frozen model, and its weights in four bits while they are trained (QLoRA).

The adapter's own parameters are fp32 and all that is trained, exchanged and kept; ``peft`` and ``bitsandbytes`` are
imported where they are needed.
"""

import difflib
import logging
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distrai.protocol.recipe import ALL_LINEAR, AdapterSection
from distrai.training.errors import MissingPackage, NoSuchParameters, SharedWeights

INSTALL = "install it with `pip install 'distrai[jobs]'`"
_ADAPTER = "default"
"""What peft calls an adapter that nobody named."""


def add_adapter(model: nn.Module, section: AdapterSection) -> nn.Module:
    """``model`` with an adapter on it, the adapter's parameters being the only trainable ones.

    Torch's generator draws them; at first the adapter changes nothing. Raises MissingPackage, NoSuchParameters.
    """
    try:
        _quiet()
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingPackage(f"an adapter needs the package peft: {INSTALL}") from None
    from transformers.pytorch_utils import Conv1D

    chosen = targets(model, section.targets)
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=section.r,
        lora_alpha=section.alpha,  # type: ignore[arg-type]  # nothing but a factor
        lora_dropout=section.dropout,
        target_modules=chosen,
        fan_in_fan_out=isinstance(model.get_submodule(chosen[0]), Conv1D),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in an old way
        made = get_peft_model(model, settings)
    assert isinstance(made, nn.Module)
    return made


def _quiet() -> None:
    """bitsandbytes, which peft imports too, tells that a faster kernel could be downloaded."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def targets(model: nn.Module, wanted: Sequence[str]) -> list[str]:
    """The names of the linear layers that names or globs mean: whole names, or their ends.

    Raises NoSuchParameters for one that matches nothing, SharedWeights for a layer that is not on its own.
    """
    layers = linear_layers(model)
    chosen: set[str] = set()
    for glob in wanted:
        if glob == ALL_LINEAR:
            found = [name for name in layers if not _is_output(model, layers[name])]
        else:
            found = [name for name in layers if fnmatchcase(name, glob) or fnmatchcase(name, f"*.{glob}")]
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in layers})
            near = ", ".join(difflib.get_close_matches(glob, ends, 4, 0.0) or ends[:4])
            raise NoSuchParameters(
                f'[model.adapter] targets: "{glob}" matches no linear layer; some are: {near}'
            )
        chosen.update(found)
    for name in chosen:
        _refuse_tied(model, name, layers[name])
    return [name for name in layers if name in chosen]


def _refuse_tied(model: nn.Module, name: str, layer: nn.Module) -> None:
    """An adapter that is merged into weights which another layer shares would change that, too."""
    own = {id(item) for item in layer.parameters()}
    for other, module in model.named_modules():
        if module is not layer and any(id(item) in own for item in module.parameters(recurse=False)):
            raise SharedWeights(
                f'[model.adapter] targets: "{name}" shares its weights with "{other}"; leave it out, as '
                f'"{ALL_LINEAR}" does'
            )


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that an adapter can be put on, by name, in the model's order."""
    from transformers.pytorch_utils import Conv1D

    return {name: item for name, item in model.named_modules() if isinstance(item, nn.Linear | Conv1D)}


def _is_output(model: nn.Module, layer: nn.Module) -> bool:
    get: Any = getattr(model, "get_output_embeddings", None)
    return get is not None and get() is layer


def quantise(model: nn.Module) -> None:
    """Hold the weights of every linear layer but the output embeddings in four bits (NF4). Raises MissingPackage."""
    for name, module in list(model.named_modules()):
        if can_quantise(model, module):
            assert isinstance(module, nn.Linear)
            replace_layer(model, name, quantised(module))
    mark_quantised(model)


def can_quantise(model: nn.Module, module: nn.Module) -> bool:
    """Whether a layer is one of those that ``quantise`` replaces."""
    return type(module) is nn.Linear and not _is_output(model, module)


def mark_quantised(model: nn.Module) -> None:
    """Tell peft that layers of four bits are here."""
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def replace_layer(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put another layer where the one of this name is."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def quantised(layer: nn.Linear) -> nn.Module:
    """A frozen linear layer with its weights in four bits; the bias stays as it is."""
    try:
        _quiet()
        from bitsandbytes import nn as four_bits
    except ImportError:
        raise MissingPackage(f'quant = "nf4" needs the package bitsandbytes: {INSTALL}') from None
    kinds: Any = four_bits
    with torch.device("meta"):
        made = kinds.Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, quant_type="nf4"
        )
    made.weight = kinds.Params4bit(
        layer.weight.detach(), requires_grad=False, quant_type="nf4", module=made
    ).to("cpu")  # this is what quantises
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    made.support_avx512bf16_for_cpu = (
        False  # else looking at the model repacks its weights, and training fails after
    )
    assert isinstance(made, nn.Module)
    return made


def is_adapted(model: nn.Module) -> bool:
    """Whether an adapter is on the model."""
    return hasattr(model, "merge_and_unload")


def plain_model(model: nn.Module) -> nn.Module:
    """The Hugging Face model, which layers of an adapter may be in."""
    return model.get_base_model() if is_adapted(model) else model  # type: ignore[operator]


def merged(model: nn.Module) -> nn.Module:
    """The model with its adapter, whose base is not quantised, worked into its weights; it is used up by this."""
    made = model.merge_and_unload()  # type: ignore[operator]
    assert isinstance(made, nn.Module)
    return made


def save_adapter(model: nn.Module, base_name: str, folder: Path) -> None:
    """Write the adapter alone, as peft reads it; ``base_name`` is where its base can be had."""
    adapted: Any = model
    settings = adapted.peft_config[_ADAPTER]
    settings.base_model_name_or_path = base_name
    settings.inference_mode = True
    settings.target_modules = sorted(settings.target_modules)  # peft has a set, in any order
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What of a model is not trained, under its names without an adapter: parameters and lasting buffers.

    A tied weight is there once, under its first name.
    """
    plain = plain_model(model)
    parameters = {name: item for name, item in plain.named_parameters() if not item.requires_grad}
    trained = {name for name, _ in plain.named_parameters(remove_duplicate=False)}
    state = plain.state_dict()
    buffers = {name: item for name, item in plain.named_buffers() if name in state and name not in trained}
    return {_plain_name(name): item.detach() for name, item in (parameters | buffers).items()}


def _plain_name(name: str) -> str:
    return name.replace(".base_layer.", ".")

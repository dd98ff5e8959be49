"""The model: any causal language model of Hugging Face; which of its parameters are trained and exchanged.

Which parameters are trained is marked on the model (``requires_grad``) by ``build_model``; their order is
that of ``named_parameters``, a tied weight comes once, under its first name.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distrai.algorithms.layout import Layout, TensorSpec
from distrai.protocol.recipe import ModelSection
from distrai.training.adapters import add_adapter, is_adapted, quantise
from distrai.training.errors import (
    BadFrozenModel,
    ContextTooLong,
    NoSuchParameters,
    VocabularyTooSmall,
    WrongTensors,
)
from distrai.training.frozen_weights import read_frozen
from distrai.training.model_config import model_from_config
from distrai.training.pretrained import load_pretrained, pretrained_shape


def build_model(
    section: ModelSection, seed: int, base: Path | None = None, layout: Layout | None = None
) -> nn.Module:
    """The model of a recipe in fp32 on the CPU, with its adapter if it has one, its trainable parameters marked.

    ``base`` is the folder of what is frozen (``frozen.unpack``); None where nothing is, and for whoever opens the run,
    who reads the path of the recipe. With a base what is trained has no meaning yet: the state brings it. ``layout`` is
    that of the run: tensors of equal shapes in another order, such as other versions of packages may make, would be
    mixed up.

    The same seed gives the same bits on one machine with one version of torch; elsewhere the initial state is
    a snapshot to download. The random state of the caller is left alone. Raises UnknownModelType,
    BadModelConfig, CannotLoadModel, NoSuchParameters, BadFrozenModel, MissingPackage, WrongTensors.
    """
    adapter = section.adapter
    quant = adapter is not None and adapter.quant == "nf4"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if base is not None:
            made = read_frozen(base, lambda bare: _brought(bare, section, layout), quant=quant)
        else:
            if section.source == "pretrained":
                made = load_pretrained(section.path, section.revision, "model")
            else:
                made = model_from_config(section.config)
            if quant:
                quantise(made)
        if adapter is not None:
            made = add_adapter(made, adapter)
    if adapter is None:
        mark_trainable(made, section.trainable)
    _check_layout(made, layout)
    return made


def _brought(bare: nn.Module, section: ModelSection, layout: Layout | None) -> list[str]:
    """The parameters that the state brings, looked at before a model has any memory."""
    _check_same(bare, section.config)
    if section.adapter is not None:
        return []
    found = mark_trainable(bare, section.trainable)
    _check_layout(bare, layout)
    return [spec.name for spec in found.tensors]


def _check_same(bare: nn.Module, config: Mapping[str, object]) -> None:
    """Raise BadFrozenModel where a base says something else than the recipe whose hash is on the ledger."""
    own: Any = bare.config
    for key, value in config.items():
        said = getattr(own, key, value)
        if isinstance(value, str | int | float) and said != value:
            raise BadFrozenModel(f"the base has {key} = {said!r}, [model.config] of the recipe {value!r}")


def _check_layout(model: nn.Module, layout: Layout | None) -> None:
    found = trainable_layout(model).tensors
    if layout is None or found == layout.tensors:
        return
    pairs = zip_longest(found, layout.tensors)
    here, there = next((here, there) for here, there in pairs if here != there)
    raise WrongTensors(
        f"the run trains {_told(there)} where this machine's model has {_told(here)}; use the versions of transformers "
        f"and peft that the run was opened with"
    )


def _told(spec: TensorSpec | None) -> str:
    return "nothing more" if spec is None else f"{spec.name} {spec.shape}"


def model_shape(section: ModelSection) -> nn.Module:
    """The model as ``build_model`` makes it, without memory for its weights: to count. Raises as that."""
    with torch.device("meta"):
        if section.source == "config":
            made = model_from_config(section.config)
        else:
            made = pretrained_shape(section.path, section.revision, "model")
        if section.adapter is not None:
            return add_adapter(made, section.adapter)
    mark_trainable(made, section.trainable)
    return made


def unquantised(section: ModelSection) -> ModelSection:
    """The section without four bits: to open a run, to count, to export."""
    adapter = section.adapter
    return section if adapter is None else replace(section, adapter=replace(adapter, quant="none"))


def needs_base(section: ModelSection, model: nn.Module) -> bool:
    """Whether there is more to the model than recipe and state say: others need its folder."""
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    return section.source == "pretrained" or section.adapter is not None or frozen


def parameters_of(model: nn.Module) -> int:
    """How many parameters the model has, an adapter not counted among them."""
    own = (name for name, _ in _trainable(model)) if is_adapted(model) else ()
    extra = set(own)
    return sum(item.numel() for name, item in model.named_parameters() if name not in extra)


def mark_trainable(model: nn.Module, globs: Sequence[str]) -> Layout:
    """Train exactly the parameters that match a glob, under any of the names of a tied one.

    Raises NoSuchParameters for a glob that matches nothing.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    every = [name for aliases in names.values() for name in aliases]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in every):
            near = ", ".join(difflib.get_close_matches(glob, every, 3, 0.0))
            raise NoSuchParameters(f'[model] trainable: "{glob}" matches no parameter; some are: {near}')
    for parameter in model.parameters():
        aliases = names[id(parameter)]
        parameter.requires_grad_(any(fnmatchcase(name, glob) for name in aliases for glob in globs))
    return trainable_layout(model)


def trainable_layout(model: nn.Module) -> Layout:
    """Names and shapes of the trainable parameters, in the order of every payload and state."""
    return Layout(tuple(TensorSpec(name, tuple(item.shape)) for name, item in _trainable(model)))


def trainable_parameters(model: nn.Module) -> tuple[nn.Parameter, ...]:
    """The trainable parameters themselves, in layout order."""
    return tuple(item for _, item in _trainable(model))


def read_trainable(model: nn.Module) -> tuple[Tensor, ...]:
    """Copies of the trainable parameters, in layout order: fp32 on the CPU."""
    return tuple(
        item.detach().to("cpu", torch.float32, copy=True).contiguous() for item in trainable_parameters(model)
    )


def load_trainable(model: nn.Module, tensors: Sequence[Tensor]) -> None:
    """Copy ``tensors`` (layout order, any device) into the trainable parameters.

    Raises WrongTensors where number or shapes differ; nothing is changed then.
    """
    specs = trainable_layout(model).tensors
    if len(tensors) != len(specs):
        raise WrongTensors(f"the model has {len(specs)} trainable tensors, not {len(tensors)}")
    for spec, tensor in zip(specs, tensors, strict=True):
        if tuple(tensor.shape) != spec.shape:
            raise WrongTensors(f"{spec.name} has shape {spec.shape}, not {tuple(tensor.shape)}")
    with torch.no_grad():
        for parameter, tensor in zip(trainable_parameters(model), tensors, strict=True):
            parameter.copy_(tensor)


def check_fits(model: nn.Module, vocabulary: int, context: int) -> None:
    """Raise VocabularyTooSmall or ContextTooLong unless the model takes such samples."""
    config: Any = model.config
    if vocabulary > config.vocab_size:
        raise VocabularyTooSmall(
            f"the tokenizer has {vocabulary} ids, the model {config.vocab_size}; "
            f"set vocab_size = {vocabulary} in [model.config] or choose another tokenizer"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and context > positions:
        raise ContextTooLong(
            f"[data] context is {context}, but the model has {positions} positions; "
            f"lower it, or raise max_position_embeddings in [model.config]"
        )


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, item) for name, item in model.named_parameters() if item.requires_grad)

"""The tensors of a frozen model's folder, put into a model that has no memory yet.

Everything is looked at by name, shape and type before anything is allocated, and layer by layer it is read.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from distrai.training import adapters
from distrai.training.errors import BadFrozenModel

_PARAMETERS_MAX = 1 << 17
"""Tensors of parameters that a model may have: else a short configuration takes all memory there is."""
_TYPES = frozenset({"F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"})


class FrozenFiles:
    """The tensors of a folder's safetensors, by name."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.safetensors"))
        self._open: list[Any] = []
        self._where: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for path in self._paths:
            try:
                file: Any = safe_open(path, framework="pt", device="cpu")
                names = list(file.keys())
            except (SafetensorError, OSError) as error:
                raise BadFrozenModel(f"{path.name} is no safetensors file: {error}") from None
            for name in names:
                if name in self._where:
                    raise BadFrozenModel(f"the tensor {name[:200]!r} is there twice")
                self._where[name] = file
        return self

    def __exit__(self, *_: object) -> None:
        self._where.clear()

    def tensor(self, name: str) -> Tensor | None:
        """A tensor, if it is there."""
        file = self._where.get(name)
        return None if file is None else file.get_tensor(name)

    def _fits(self, name: str, shape: torch.Size) -> bool:
        """Whether a tensor is there. Raises BadFrozenModel if it has another shape or an odd type."""
        file = self._where.get(name)
        if file is None:
            return False
        found = file.get_slice(name)
        if tuple(found.get_shape()) != tuple(shape) or found.get_dtype() not in _TYPES:
            raise BadFrozenModel(f"the tensor {name[:200]!r} should have the shape {tuple(shape)}")
        return True

    def check(self, model: nn.Module, brought: Collection[str]) -> None:
        """Raise BadFrozenModel unless the files hold what of the model is not brought, and nothing else."""
        parameters, state = dict(model.named_parameters()), set(model.state_dict())
        buffers = {name: item for name, item in model.named_buffers() if name in state}
        for name, item in (parameters | buffers).items():
            if name not in brought and not self._fits(name, item.shape):
                raise BadFrozenModel(f"the tensor {name[:200]!r} is missing")
        for name in self._where:
            if name not in {*parameters, *buffers} or name in brought:
                raise BadFrozenModel(f"the model has no frozen tensor {name[:200]!r}")


def fill(model: nn.Module, files: FrozenFiles, quant: bool) -> None:
    """Give every parameter and lasting buffer what the files hold."""
    places = _places(model)
    for name, parameter in list(model.named_parameters()):
        _put(files.tensor(name), parameter.shape, places.pop(id(parameter)))
        _quantise_around(model, name, quant)  # nothing here keeps what it puts another layer in the place of
    state = set(model.state_dict())
    for name, buffer in model.named_buffers():
        if name in state and (kept := files.tensor(name)) is not None:
            buffer.copy_(kept)


def _places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where each parameter is: a tied one is in several places."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for last, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append((module, last))
    return places


def _put(found: Tensor | None, shape: torch.Size, places: list[tuple[nn.Module, str]]) -> None:
    filled = nn.Parameter(torch.zeros(shape) if found is None else found.to(torch.float32))
    for module, last in places:
        setattr(module, last, filled)


def _quantise_around(model: nn.Module, name: str, quant: bool) -> None:
    """Quantise the layer of a parameter that was filled, if it is whole now."""
    layer = name.rpartition(".")[0]
    module = model.get_submodule(layer)
    if not quant or not adapters.can_quantise(model, module):
        return
    assert isinstance(module, nn.Linear)
    if all(not item.is_meta for item in module.parameters()):
        adapters.replace_layer(model, layer, adapters.quantised(module))


@contextmanager
def weights_later() -> Iterator[None]:
    """Make models without memory for their parameters; buffers, which a model computes itself, are real."""
    register, count = nn.Module.register_parameter, 0

    def register_nothing(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 1
        if count > _PARAMETERS_MAX:
            raise BadFrozenModel(f"a model has at most {_PARAMETERS_MAX} tensors of parameters")
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            register(module, name, nn.Parameter(parameter.to("meta"), parameter.requires_grad))

    nn.Module.register_parameter = register_nothing  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]

"""The folder of a frozen model: written from a model at hand, and read as a stranger's.

It holds a configuration and safetensors under the names that the model itself uses, each tensor in the narrowest type
that loses nothing. Reading believes nothing: the configuration may name a known kind of model and its settings, no code
and no weights from elsewhere, and the files must hold exactly the tensors that it makes.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from distrai.protocol.canonical import canonical_json, decode_canonical_json
from distrai.protocol.errors import ProtocolError
from distrai.training import adapters
from distrai.training.errors import BadFrozenModel
from distrai.training.frozen import CONFIG_BYTES_MAX, CONFIG_FILE, PART_BYTES
from distrai.training.frozen_reading import FrozenFiles, fill, weights_later
from distrai.training.huggingface import auto_config, auto_model, imported_cheaply
from distrai.training.pretrained import first_line

REFUSED_KEYS = frozenset(
    {
        "auto_map",
        "quantization_config",
        "trust_remote_code",
        "torch_dtype",
        "dtype",
        "attn_implementation",
        "experts_implementation",
    }
)
"""Keys of a configuration that run code or fetch weights from elsewhere, or that the recipe says in another place."""
_FILE_BYTES = PART_BYTES - (1 << 20)
"""Of tensors in one file: with its header it stays one part."""
_NARROWER = (torch.bfloat16, torch.float16)


def write_frozen(model: nn.Module, folder: Path) -> None:
    """Write the configuration of a model and what of it is not trained into a new folder. Raises CannotLoadModel."""
    folder.mkdir(parents=True)
    plain: Any = adapters.plain_model(model)
    (folder / CONFIG_FILE).write_bytes(_config_bytes(plain.config))
    batch: dict[str, Tensor] = {}
    number, size = 1, 0
    for name, tensor in adapters.frozen_tensors(model).items():
        narrow = _narrowest(tensor)
        if batch and size + narrow.nbytes > _FILE_BYTES:
            save_file(batch, folder / f"model-{number:05d}.safetensors")
            batch, number, size = {}, number + 1, 0
        batch[name] = narrow
        size += narrow.nbytes
    if batch:
        save_file(batch, folder / f"model-{number:05d}.safetensors")


def _config_bytes(config: Any) -> bytes:
    """What of a configuration makes the model: the keys that its kind knows."""
    told = json.loads(config.to_json_string(use_diff=False))
    known = set(type(config)().to_dict())
    kept = {key: value for key, value in told.items() if key in known and _is_allowed(key)}
    kept = {key: _without_refused(value) for key, value in kept.items()}
    return canonical_json(kept | {"model_type": told["model_type"]})


def _without_refused(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_refused(item) for key, item in value.items() if _is_allowed(key)}
    return [_without_refused(item) for item in value] if isinstance(value, list) else value


def _is_allowed(key: str) -> bool:
    return key not in REFUSED_KEYS and (not key.startswith("_") or key == "__float__")


def _narrowest(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().to("cpu").contiguous()
    if tensor.dtype == torch.float32:
        for kind in _NARROWER:
            narrow = tensor.to(kind)
            if torch.equal(narrow.to(torch.float32), tensor):
                return narrow
    return tensor


def read_config(folder: Path) -> Any:
    """The configuration in a folder. Raises BadFrozenModel."""
    path = folder / CONFIG_FILE
    with path.open("rb") as file:
        data = file.read(CONFIG_BYTES_MAX + 1)
    if len(data) > CONFIG_BYTES_MAX:
        raise BadFrozenModel(f"{CONFIG_FILE} has at most {CONFIG_BYTES_MAX} bytes")
    try:
        table = decode_canonical_json(data)
    except ProtocolError as error:
        raise BadFrozenModel(f"{CONFIG_FILE}: {error}") from None
    kind = table.pop("model_type", None) if isinstance(table, dict) else None
    if not isinstance(kind, str):
        raise BadFrozenModel(f"{CONFIG_FILE} names no model_type")
    try:
        default = auto_config().for_model(kind)
    except (ValueError, KeyError):
        raise BadFrozenModel(f"{CONFIG_FILE}: model_type {kind[:80]!r} is unknown here") from None
    _check_keys(table, set(default.to_dict()))
    try:
        return type(default).from_dict(table)
    except Exception as error:  # transformers raises its validation errors straight from Exception
        raise BadFrozenModel(f"{CONFIG_FILE}: {' '.join(str(error).split())[:300]}") from error


def _check_keys(table: Mapping[str, object], known: set[str]) -> None:
    for key, value in table.items():
        if key not in known:
            raise BadFrozenModel(f"{CONFIG_FILE}: {key[:80]!r} is no key of this kind of model")
        for inner in (key, *_keys_within(value)):
            if not _is_allowed(inner):
                raise BadFrozenModel(
                    f"{CONFIG_FILE}: {inner[:80]!r} could bring code or weights from elsewhere"
                )


def _keys_within(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _keys_within(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys_within(item)


def read_frozen(
    folder: Path, brought: Callable[[nn.Module], Collection[str]] = lambda _: (), *, quant: bool = False
) -> nn.Module:
    """The model of a folder: fp32 on the CPU; ``quant``: its linear layers in four bits.

    ``brought`` is given the model before it has any memory and says which parameters the state brings: these are
    zero here, and the files hold all others. Layer by layer, so that quantising takes no more memory than its result.
    Raises BadFrozenModel, MissingPackage, and what ``brought`` raises.
    """
    config = read_config(folder)
    with weights_later():
        try:
            model = imported_cheaply(lambda: auto_model().from_config(config, dtype=torch.float32))
        except Exception as error:  # whatever the code of that model trips over
            raise BadFrozenModel(
                f"{CONFIG_FILE} makes no causal language model: {first_line(error)}"
            ) from error
    assert isinstance(model, nn.Module)
    with FrozenFiles(folder) as files:
        files.check(model, frozenset(brought(model)))
        fill(model, files, quant)
    if quant:
        adapters.mark_quantised(model)
    return model


def load_teacher(folder: Path, device: torch.device) -> nn.Module:
    """A model to learn from: whole, frozen and in evaluation mode, on its device. Raises BadFrozenModel."""
    model = read_frozen(folder)
    return frozen_on(model, device)


def frozen_on(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on a device, never to be trained again."""
    return model.requires_grad_(False).eval().to(device)

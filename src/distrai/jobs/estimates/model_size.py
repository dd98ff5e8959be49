"""How large a model is, from what is at hand: its files, its name, or the shape of a new one. Nothing is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.estimates.counting import count_parameters
from distrai.protocol.plain_json import load_json

_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)\s*([BbMm])(?![A-Za-z])")
_CONFIG_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Parameters, and layers and vocabulary where they are known (else 0). ``known_by`` says from what, in words."""

    parameters: int
    known_by: str
    is_guess: bool = False
    layers: int = 0
    vocabulary: int = 0

    @property
    def depth(self) -> int:
        """Layers; of a model that is not here, as many as such models usually have."""
        return self.layers or max(4, round(32 * (self.parameters / 7e9) ** (1 / 3)))


def size_of(name: str) -> ModelSize | None:
    """The size of a model: counted in its folder, else read from its name (``owner/Name-7B``); None if neither."""
    folder = Path(name)
    if name and folder.is_dir() and (count := count_parameters(folder)):
        told = _config(folder / "config.json")
        layers, vocabulary = (_whole(told.get(key)) for key in ("num_hidden_layers", "vocab_size"))
        return ModelSize(count, f"counted in {folder.name}", layers=layers, vocabulary=vocabulary)
    found = _IN_NAME.findall(name.rpartition("/")[2])
    if not found:
        return None
    number, unit = found[-1]
    return ModelSize(
        round(float(number) * (1e9 if unit in "Bb" else 1e6)), f"read from the name {name}", is_guess=True
    )


def size_of_new(values: Mapping[str, Any]) -> ModelSize | None:
    """The size of the model that pre-training makes of these values; None if they do not say."""
    hidden, layers = _whole(values.get("hidden")), _whole(values.get("layers"))
    if not hidden or not layers:
        return None
    vocabulary = _whole(values.get("vocabulary"))
    count = vocabulary * hidden + layers * 16 * hidden * hidden
    return ModelSize(count, "from width and layers", layers=layers, vocabulary=vocabulary)


def _config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            told = load_json(file.read(_CONFIG_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

"""Presets: the algorithms of the literature as data. What may be combined is in `combinations`."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from distrai.algorithms.advice import warnings
from distrai.algorithms.codecs import CODECS, default_options
from distrai.algorithms.combinations import check_combination, check_values, choices
from distrai.algorithms.spec import (
    CHECKS,
    INNER_STATES,
    INNER_STEPS_MAX,
    KEYS,
    AlgorithmSpec,
    typed,
)


def _preset(preset: str, codec: str, options: Mapping[str, int] | None = None, **keys: Any) -> AlgorithmSpec:
    return AlgorithmSpec(preset, codec, MappingProxyType(dict(options or {})), **keys)


_NESTEROV: dict[str, Any] = {"outer": "nesterov", "outer_lr": 0.7, "outer_momentum": 0.9}
_DEMO: dict[str, Any] = {
    "error_feedback": 0.999,
    "aggregate": "contributors-mean-norm-clip",
    "outer": "sign",
    "outer_lr": 0.004,
    "outer_schedule": "training",
    "outer_weight_decay": 0.1,
    "inner_optimiser": "sgd",
    "inner_state": "reset",
    "inner_steps": 1,
}
_ALL = (
    _preset("ddp", "fp32", aggregate="mean", inner_state="kept", inner_steps=1, network=False),
    _preset("diloco", "fp32", **_NESTEROV),
    _preset("prime", "int8", {"range_sigmas": 6}, **_NESTEROV),
    _preset("fedavg", "fp32"),
    _preset(
        "streaming-diloco",
        "fp4",
        **_NESTEROV | {"outer_lr": 0.4},
        inner_state="kept",
        inner_steps=50,
        start="replica",
        fragments=2,
        overlap=4,
        merge_alpha=0.5,
    ),
    _preset(
        "sparseloco",
        "topk",
        {"k": 64, "value_bits": 2},
        error_feedback=0.95,
        aggregate="contributors-mean-norm-clip",
        inner_state="kept",
        inner_steps=30,
    ),
    _preset("demo", "dct", {"k": 32, "value_bits": 32}, **_DEMO),
    _preset("distro", "dct", {"k": 8, "value_bits": 1}, **_DEMO),
    _preset(
        "noloco",
        "fp32",
        aggregate="mean",
        topology="pairs",
        outer="noloco",
        outer_lr=0.7,
        outer_momentum=0.5,
        inner_state="kept",
        inner_steps=50,
        network=False,
    ),
    _preset(
        "async-diloco",
        "fp32",
        outer="delayed-nesterov",
        outer_lr=0.07,
        outer_momentum=0.9,
        outer_delay=4,
        inner_state="kept",
        pace="measured",
        staleness=4,
        quorum=1,
    ),
    _preset("lo-fi", "fp32", inner_state="kept", inner_steps=500, start="replica", merge_alpha=1.0),
    _preset("sparta", "mask", {"per_mille": 5}, inner_state="kept", inner_steps=1, start="replica"),
)
PRESETS: Mapping[str, AlgorithmSpec] = MappingProxyType({spec.preset: spec for spec in _ALL})
"""Reference settings. `ddp` is the data-parallel baseline (gradients averaged before every step), `noloco` has
no state in common: both live inside one process. `demo` and `distro` move every parameter by the outer rate,
which is to be about twice AdamW's. `lo-fi` synchronises as often as there are rounds: it is meant for one.
"""


def resolve_preset(name: str, overrides: Mapping[str, Any], checks: int = CHECKS) -> AlgorithmSpec:
    """The preset with changes. Raises ValueError, naming the key, for what is unknown or does not fit
    together.

    `codec_options` are merged into the preset's unless `codec` is changed too; then they start from that
    codec's defaults. `checks` is the version that the recipe names.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: no {name!r}; {choices(name, PRESETS)}")
    preset = PRESETS[name]
    for key in overrides:
        if key not in KEYS:
            raise ValueError(f"{key}: not a key of an algorithm; {choices(key, KEYS)}")
    changes = {key: typed(key, value) for key, value in overrides.items()}
    codec = changes.get("codec", preset.codec)
    kept = dict(preset.codec_options) if codec == preset.codec else {}
    # Every option is written out, so that a default may change later without changing an old run.
    defaults = default_options(codec) if codec in CODECS else {}
    changes["codec_options"] = MappingProxyType(defaults | kept | dict(changes.get("codec_options", {})))
    spec = replace(preset, checks=checks, **changes)
    check_values(spec)
    check_combination(spec)
    return spec


__all__ = [
    "INNER_STATES",
    "INNER_STEPS_MAX",
    "KEYS",
    "PRESETS",
    "AlgorithmSpec",
    "resolve_preset",
    "warnings",
]

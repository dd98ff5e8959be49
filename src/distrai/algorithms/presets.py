"""Presets: the algorithms of the literature as data, and the rules that say which combinations make sense."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from distrai.algorithms.aggregate import RULES
from distrai.algorithms.codecs import CODECS, default_options
from distrai.algorithms.outer import KINDS

INNER_STATES = ("kept", "reset", "averaged")
INNER_STEPS_MAX = 1_000_000
COORDINATE_STATISTICS = ("coordinate-median", "trimmed-mean", "centred-clip")


@dataclass(frozen=True)
class AlgorithmSpec:
    """A preset with a recipe's changes applied; `resolve_preset` makes valid ones."""

    preset: str
    codec: str
    codec_options: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    error_feedback: float = 0.0
    """Decay of the error-feedback buffer; 0 is off."""
    aggregate: str = "token-weighted-mean"
    outer: str = "sgd"
    outer_lr: float = 1.0
    outer_momentum: float = 0.0
    inner_state: str = "averaged"
    """What a peer's inner optimiser starts a round with: its own moments, none, or everyone's average."""
    inner_steps: int = 100
    network: bool = True
    """False for baselines that exist only inside one process."""

    @property
    def global_state(self) -> bool:
        """One state for all after every round."""
        return True

    @property
    def public_start(self) -> bool:
        """Whether every round's start (parameters and moments) can be computed from public bytes, as audits
        need.
        """
        return self.inner_state != "kept"


def _dense(preset: str, codec: str, network: bool = True, **changes: Any) -> AlgorithmSpec:
    spec = AlgorithmSpec(preset, codec, outer="nesterov", outer_lr=0.7, outer_momentum=0.9, network=network)
    return replace(spec, **changes)


PRESETS: Mapping[str, AlgorithmSpec] = MappingProxyType(
    {
        "ddp": AlgorithmSpec(
            "ddp", "fp32", aggregate="mean", inner_state="kept", inner_steps=1, network=False
        ),
        "diloco": _dense("diloco", "fp32"),
        "prime": _dense("prime", "int8", codec_options=MappingProxyType({"range_sigmas": 6})),
        "sparseloco": AlgorithmSpec(
            "sparseloco",
            "topk",
            codec_options=MappingProxyType({"k": 64, "value_bits": 2}),
            error_feedback=0.95,
            aggregate="contributors-mean-norm-clip",
            inner_state="kept",
            inner_steps=30,
        ),
    }
)
"""Reference settings. `ddp` is the data-parallel baseline: gradients averaged before every step, inside one
process.
"""

_OWN = frozenset({"preset", "network"})
KEYS = tuple(f.name for f in fields(AlgorithmSpec) if f.name not in _OWN)
"""What a recipe may change."""


def resolve_preset(name: str, overrides: Mapping[str, Any]) -> AlgorithmSpec:
    """The preset with changes. Raises ValueError, naming the key, for what is unknown or does not fit
    together.

    `codec_options` are merged into the preset's unless `codec` is changed too; then they start from that
    codec's defaults.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: no {name!r}; {_choices(name, PRESETS)}")
    preset = PRESETS[name]
    for key in overrides:
        if key not in KEYS:
            raise ValueError(f"{key}: not a key of an algorithm; {_choices(key, KEYS)}")
    changes = {key: _typed(key, value) for key, value in overrides.items()}
    kept = {} if changes.get("codec", preset.codec) != preset.codec else dict(preset.codec_options)
    given = kept | dict(changes.get("codec_options", {}))
    codec = changes.get("codec", preset.codec)
    # Every option is written out, so that a default may change later without changing an old run.
    defaults = default_options(codec) if codec in CODECS else {}
    changes["codec_options"] = MappingProxyType(defaults | given)
    spec = replace(preset, **changes)
    _check_values(spec)
    _check_combination(spec)
    return spec


def warnings(spec: AlgorithmSpec, rounds: int) -> list[str]:
    """What is allowed but likely to disappoint, for a run of this many rounds."""
    found = []
    if spec.outer_momentum > 0.5 and (spec.inner_steps < 20 or rounds < 30):
        found.append(
            f"outer_momentum {spec.outer_momentum:g} multiplies the outer step by up to"
            f" {1 / (1 - spec.outer_momentum):.0f} when successive updates align;"
            f" with inner_steps {spec.inner_steps} and {rounds} rounds"
            ' outer = "sgd", outer_momentum = 0, outer_lr = 1 is likely better'
        )
    if CODECS[spec.codec].sparse and spec.inner_state == "reset":
        found.append('inner_state "reset" beside a sparse codec costs much loss; use "kept"')
    if CODECS[spec.codec].sparse and spec.inner_state == "averaged":
        found.append("averaged moments take 2.03 bytes per parameter, many times a sparse update")
    if CODECS[spec.codec].sparse and not spec.error_feedback:
        found.append(
            "without error_feedback a sparse codec loses for good what it does not send; .95 is usual"
        )
    if not spec.public_start:
        found.append('inner_state "kept" is private: the inner training of such a run cannot be audited')
    return found


def _typed(key: str, value: Any) -> Any:
    """The value as the field's type; an int is good enough for a float, a bool for neither."""
    kind = {"codec_options": Mapping, "inner_steps": int}.get(key)
    if kind is None:
        kind = float if key in ("error_feedback", "outer_lr", "outer_momentum") else str
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        name = "table" if kind is Mapping else {int: "whole number", float: "number", str: "string"}[kind]
        raise ValueError(f"{key}: {value!r} is not a {name}")
    return value


def _check_values(spec: AlgorithmSpec) -> None:
    if spec.aggregate in COORDINATE_STATISTICS:
        raise ValueError(_coordinate_refusal(spec))
    for key, known in (
        ("codec", CODECS),
        ("aggregate", RULES),
        ("outer", KINDS),
        ("inner_state", INNER_STATES),
    ):
        if getattr(spec, key) not in known:
            raise ValueError(f"{key}: no {getattr(spec, key)!r}; {_choices(getattr(spec, key), known)}")
    if not 1 <= spec.inner_steps <= INNER_STEPS_MAX:
        raise ValueError(f"inner_steps: {spec.inner_steps} is not within 1..{INNER_STEPS_MAX}")
    if not (math.isfinite(spec.outer_lr) and 0 < spec.outer_lr <= 100):
        raise ValueError(f"outer_lr: {spec.outer_lr} is not above 0 and at most 100; plain averaging is 1")
    for key in ("error_feedback", "outer_momentum"):
        if not 0 <= getattr(spec, key) < 1:
            raise ValueError(f"{key}: {getattr(spec, key)} is not at least 0 and below 1")
    _check_options(spec)


def _check_options(spec: AlgorithmSpec) -> None:
    known = CODECS[spec.codec].options
    options: Mapping[str, object] = spec.codec_options
    for key, value in options.items():
        if key not in known:
            hint = _choices(key, known) if known else f"{spec.codec} has no options"
            raise ValueError(f"codec_options.{key}: not an option of {spec.codec}; {hint}")
        if isinstance(value, bool) or not isinstance(value, int) or value not in known[key]:
            allowed = known[key]
            text = (
                f"{allowed[0]}..{allowed[-1]}"
                if isinstance(allowed, range)
                else " or ".join(map(str, allowed))
            )
            raise ValueError(f"codec_options.{key}: {value!r} is not {text}")


def _check_combination(spec: AlgorithmSpec) -> None:
    if spec.outer == "nesterov" and spec.outer_momentum == 0:
        raise ValueError(
            'outer_momentum: 0 with outer "nesterov" is plain SGD; say outer = "sgd", or a momentum such as .9'
        )
    if spec.error_feedback and not CODECS[spec.codec].sparse:
        raise ValueError(
            f"error_feedback: a dense codec ({spec.codec}) would send several rounds at once after an absence;"
            " set it to 0 or use the codec topk"
        )
    if not spec.network and (spec.inner_steps != 1 or spec.codec != "fp32"):
        raise ValueError(f"{spec.preset} averages gradients at every step: inner_steps is 1 and codec fp32")


def _coordinate_refusal(spec: AlgorithmSpec) -> str:
    choices = ", ".join(RULES)
    if spec.codec in CODECS and CODECS[spec.codec].sparse:
        return (
            f"aggregate: {spec.aggregate!r} is degenerate on sparse payloads (nearly every median is 0);"
            ' use "contributors-mean-norm-clip"'
        )
    return f"aggregate: {spec.aggregate!r} is not built; known are {choices}"


def _choices(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    listed = ", ".join(known)
    return f"did you mean {close[0]!r}? Known are {listed}" if close else f"known are {listed}"

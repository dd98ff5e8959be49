"""Which values and combinations of an `AlgorithmSpec` make sense; each refusal names the key and the reason.

Only what the layout of a model says (more fragments than layers) is refused later, by `fragments`.
"""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping

from distrai.algorithms.aggregate import RULES
from distrai.algorithms.codecs import CODECS
from distrai.algorithms.codecs.base import Codec
from distrai.algorithms.outer import KINDS, WITH_MOMENTUM
from distrai.algorithms.spec import (
    FRAGMENTS_MAX,
    INNER_OPTIMISERS,
    INNER_STATES,
    INNER_STEPS_MAX,
    OUTER_DELAY_MAX,
    OUTER_SCHEDULES,
    PACES,
    QUORUM_MAX,
    STALENESS_MAX,
    STARTS,
    TOPOLOGIES,
    AlgorithmSpec,
)


def choices(word: str, known: Iterable[str]) -> str:
    """What is known, beginning with what the word may have meant."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    listed = ", ".join(known)
    return f"did you mean {close[0]!r}? Known are {listed}" if close else f"known are {listed}"


def check_values(spec: AlgorithmSpec) -> None:
    """Raises ValueError for the first value that no algorithm has."""
    words: Mapping[str, Iterable[str]] = {
        "codec": CODECS,
        "aggregate": RULES,
        "topology": TOPOLOGIES,
        "outer": KINDS,
        "outer_schedule": OUTER_SCHEDULES,
        "inner_optimiser": INNER_OPTIMISERS,
        "inner_state": INNER_STATES,
        "pace": PACES,
        "start": STARTS,
    }
    for key, known in words.items():
        if getattr(spec, key) not in known:
            raise ValueError(f"{key}: no {getattr(spec, key)!r}; {choices(getattr(spec, key), known)}")
    ranges = {
        "inner_steps": (1, INNER_STEPS_MAX),
        "outer_delay": (1, OUTER_DELAY_MAX),
        "fragments": (1, FRAGMENTS_MAX),
        "overlap": (0, INNER_STEPS_MAX),
        "staleness": (0, STALENESS_MAX),
        "quorum": (0, QUORUM_MAX),
    }
    for key, (least, most) in ranges.items():
        if not least <= getattr(spec, key) <= most:
            raise ValueError(f"{key}: {getattr(spec, key)} is not within {least}..{most}")
    if not (math.isfinite(spec.outer_lr) and 0 < spec.outer_lr <= 100):
        raise ValueError(f"outer_lr: {spec.outer_lr} is not above 0 and at most 100; plain averaging is 1")
    for key in ("error_feedback", "outer_momentum", "outer_weight_decay"):
        if not 0 <= getattr(spec, key) < 1:
            raise ValueError(f"{key}: {getattr(spec, key)} is not at least 0 and below 1")
    if not 0 <= spec.merge_alpha <= 1:
        raise ValueError(f"merge_alpha: {spec.merge_alpha} is not within 0..1")
    _check_options(spec)


def _check_options(spec: AlgorithmSpec) -> None:
    known = CODECS[spec.codec].options
    options: Mapping[str, object] = spec.codec_options
    for key, value in options.items():
        if key not in known:
            hint = choices(key, known) if known else f"{spec.codec} has no options"
            raise ValueError(f"codec_options.{key}: not an option of {spec.codec}; {hint}")
        allowed = known[key]
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            text = " or ".join(map(str, allowed))
            if isinstance(allowed, range):
                text = f"{allowed[0]}..{allowed[-1]}"
            raise ValueError(f"codec_options.{key}: {value!r} is not {text}")


def check_combination(spec: AlgorithmSpec) -> None:
    """Raises ValueError for the first two values that do not go together."""
    rules = (_outer, _codec, _inner, _replica, _overlap, _staleness, _network)
    for refusal in (each for rule in rules for each in rule(spec)):
        raise ValueError(refusal)


def _outer(spec: AlgorithmSpec) -> Iterator[str]:
    if spec.outer in WITH_MOMENTUM and spec.outer_momentum == 0:
        yield (
            f'outer_momentum: 0 with outer "{spec.outer}" is plain SGD; say outer = "sgd", or a momentum such as .9'
        )
    if spec.outer == "sign" and spec.outer_momentum > 0:
        yield (
            f'outer_momentum: {spec.outer_momentum:g} with outer "sign": signs are taken of the aggregate, a momentum'
            " (Nesterov's or plain) of which would only delay them; set it to 0"
        )
    if spec.outer_delay > 1 and spec.outer != "delayed-nesterov":
        yield (
            f'outer_delay: outer "{spec.outer}" updates its momentum every round; only "delayed-nesterov" waits'
        )
    if spec.outer_lr * spec.outer_weight_decay >= 1:
        yield "outer_weight_decay: times outer_lr it is 1 or more, which would turn matrices round"


def _codec(spec: AlgorithmSpec) -> Iterator[str]:
    codec, robust = CODECS[spec.codec], RULES[spec.aggregate].statistic
    if robust and codec.sparse:
        yield (
            f"aggregate: {spec.aggregate!r} is degenerate on sparse payloads (nearly every median is 0);"
            ' use "contributors-mean-norm-clip"'
        )
    if spec.error_feedback and not codec.sparse:
        yield (
            f"error_feedback: a dense codec ({spec.codec}) would send several rounds at once after an absence;"
            " set it to 0 or use the codec topk"
        )


def _inner(spec: AlgorithmSpec) -> Iterator[str]:
    if spec.inner_optimiser == "sgd" and spec.inner_state in ("averaged", "public"):
        yield f'inner_state: sgd has no moments that could be "{spec.inner_state}"; use "reset"'
    if spec.inner_state == "public" and spec.inner_optimiser != "adamw":
        yield 'inner_state: "public" makes the moments of Adam; use inner_optimiser = "adamw"'
    if spec.inner_state == "public" and spec.fragments > 1:
        yield (
            'inner_state: "public" learns from the update of the whole model every round, and a round with'
            ' fragments has only a part of it; use "kept"'
        )


def _replica(spec: AlgorithmSpec) -> Iterator[str]:
    if spec.start == "global":
        if spec.merge_alpha > 0:
            yield (
                f'merge_alpha: {spec.merge_alpha:g} keeps a part of the own parameters, which start "global" never'
                ' does; set it to 0, or start = "replica"'
            )
        return
    if spec.inner_state not in ("kept", "reset"):
        yield (
            f'inner_state: a replica goes on with its own moments, "{spec.inner_state}" ones are of other'
            ' parameters; use "kept"'
        )
    if spec.error_feedback and (spec.merge_alpha > 0 or is_masked(spec)):
        yield (
            "error_feedback: a replica keeps what was not sent in its own parameters, and the next update holds"
            " it again: feedback would send it twice; set it to 0"
        )


def _overlap(spec: AlgorithmSpec) -> Iterator[str]:
    if spec.overlap >= spec.inner_steps:
        yield (
            f"overlap: {spec.overlap} steps ahead do not fit into a round of inner_steps = {spec.inner_steps};"
            " the correction comes after step tau, before the round's last one"
        )


def _staleness(spec: AlgorithmSpec) -> Iterator[str]:
    if not spec.staleness:
        return
    reasons = {
        "fragments": (spec.fragments > 1, "a late update would be of another fragment than its round"),
        "overlap": (
            spec.overlap > 0,
            "a member that may be late need not train ahead: it never waits for the others",
        ),
        "start": (
            spec.start == "replica",
            "a replica merges every round as it is certified, which a late member missed",
        ),
        "codec": (is_masked(spec), "a late update would be of another round's mask"),
    }
    for key, (wrong, reason) in reasons.items():
        if wrong:
            yield f"{key}: does not go with staleness {spec.staleness}: {reason}; set staleness to 0"


def _network(spec: AlgorithmSpec) -> Iterator[str]:
    if (spec.topology == "pairs") != (spec.outer == "noloco"):
        yield 'topology: "pairs" and outer "noloco" only go together: it pulls two slow weights to each other'
    if spec.topology == "pairs" and spec.network:
        yield (
            'topology: with "pairs" there is no state in common that a certificate could name;'
            ' compare it inside one process, with preset = "noloco"'
        )
    alone = (spec.fragments, spec.overlap, spec.staleness, spec.quorum, spec.start) == (1, 0, 0, 0, "global")
    if not spec.network and not alone:
        yield (
            f"{spec.preset} lives inside one process: fragments, overlap, staleness, quorum and replicas belong"
            " to a network's algorithms"
        )
    if spec.topology == "pairs" and spec.inner_state not in ("kept", "reset"):
        yield (
            f'inner_state: "{spec.inner_state}" needs a state that all have in common; use "kept" with "pairs"'
        )
    if not spec.network and spec.topology == "all" and (spec.inner_steps != 1 or spec.codec != "fp32"):
        yield f"{spec.preset} averages gradients at every step: inner_steps is 1 and codec fp32"


def is_masked(spec: AlgorithmSpec) -> bool:
    """Whether the codec sends only coordinates that a seed of the round draws, the same for all."""
    return CODECS[spec.codec].synchronised is not Codec.synchronised

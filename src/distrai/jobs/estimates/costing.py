"""Hours, money and memory of a job in one object and in words, with what of it is a guess and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from distrai.jobs.data.check import inspect_data
from distrai.jobs.data.uses import use_of
from distrai.jobs.estimates.estimate import SETUP_HOURS, Hardware, estimate
from distrai.jobs.estimates.hardware import INFERENCE_BYTES, NotEstimable, gpu_of
from distrai.jobs.estimates.model_size import ModelSize, size_of, size_of_new
from distrai.jobs.estimates.plan import WRITES, Plan, plan

_MILLION = 1e6


def look_at_job(
    kind: str, values: Mapping[str, Any], hardware: Hardware | None, parameters: int = 0
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the data of a job is, and what training on it takes; None each where that is not known here.

    ``parameters``: of the model, if the user says so. Raises BadData, BadSource.
    """
    if use_of(kind) is None:
        return None, None
    told = inspect_data(kind, values) if values.get("data") else None
    return told, None if hardware is None else cost_of(kind, values, told, hardware, parameters)


def cost_of(
    kind: str,
    values: Mapping[str, Any],
    told: Mapping[str, Any] | None,
    hardware: Hardware,
    parameters: int = 0,
) -> dict[str, Any]:
    """Hours, money and memory as plain data; ``missing`` says what keeps them from being known."""
    found: dict[str, Any] = {
        "hours_low": None,
        "hours_high": None,
        "cost_low": None,
        "cost_high": None,
        "measured": False,
    }
    found |= {
        "memory_gb_low": None,
        "memory_gb_high": None,
        "gpu_memory_gb": None,
        "fits": None,
        "tokens": None,
    }
    size = ModelSize(parameters, "as you say") if parameters else _size(kind, values)
    teacher = size_of(str(values.get("teacher") or ""))
    missing = _missing(values, told, size)
    if missing or size is None or told is None:
        return {**found, "parameters": size.parameters if size else None, "missing": missing, "guesses": []}
    try:
        planned = plan(kind, values, told, size, teacher)
        found |= _memory(planned, hardware)
        download = INFERENCE_BYTES * (size.parameters + (teacher.parameters if teacher else 0))
        found |= asdict(estimate(planned.work, planned.tokens, hardware, download))
        found["tokens"] = [round(count) for count in planned.tokens]
    except NotEstimable as error:
        missing = [str(error)]
    guesses = _guesses(kind, told, [size, *([teacher] if teacher else [])], hardware)
    return {**found, "parameters": size.parameters, "missing": missing, "guesses": guesses}


def cost_text(told: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = []
    if told["hours_low"] is not None:
        hours = _span(told["hours_low"], told["hours_high"])
        lines.append(f"takes {hours} hours{_money(told)}; {SETUP_HOURS} hours of it are for setting up")
    if told["memory_gb_low"] is not None:
        lines.append(_memory_text(told))
    lines += [f"not known: {item}" for item in told["missing"]]
    lines += [f"a guess: {item}" for item in told["guesses"]] if told["hours_low"] is not None else []
    return "\n".join(f"  {line}" for line in lines)


def _size(kind: str, values: Mapping[str, Any]) -> ModelSize | None:
    name = str(values.get("model") or values.get("student") or "")
    if not name and kind == "pretrain":
        return size_of_new(values)
    return size_of(name)


def _missing(values: Mapping[str, Any], told: Mapping[str, Any] | None, size: ModelSize | None) -> list[str]:
    missing = []
    if told is None:
        missing.append("the data: give it with --set data=...")
    elif not told["examples"]:
        missing.append("how much data there is: no line of it can be used")
    if size is None:
        name = str(values.get("model") or values.get("student") or "")
        why = f"the size of {name} cannot be told from here" if name else "the model: give it with --set"
        missing.append(f"{why}; or say how many parameters it has with --parameters 7e9")
    return missing


def _guesses(kind: str, told: Mapping[str, Any], sizes: Sequence[ModelSize], hardware: Hardware) -> list[str]:
    """What of the figures is none that was measured."""
    guesses = [
        f"{size.parameters / 1e9:.3g} billion parameters, {size.known_by}" for size in sizes if size.is_guess
    ]
    if told["counted_in"] == "bytes":
        guesses.append("a token is reckoned as 3 to 5 bytes, since the model's tokenizer is not here")
    if told["part"]:
        guesses.append(
            f"only {told['examples']:,} examples were looked at: more data takes longer in proportion"
        )
    if not told["tokens"]["exact"]:
        guesses.append(
            f"tokens of {told['tokens']['counted']:,} examples were counted, the rest by its bytes"
        )
    if hardware.tokens_per_second:
        return guesses
    guesses.append("the speed is what such GPUs usually reach; the smoke preset measures it (then: --speed)")
    if kind in WRITES:
        guesses.append("how long the texts get that the model writes; a quarter of the longest to all of it")
    if hardware.gpus > 1:
        guesses.append("several GPUs help at best in proportion, at worst not at all")
    return guesses


def _memory(planned: Plan, hardware: Hardware) -> dict[str, Any]:
    low, high = planned.memory_gb
    try:
        there = gpu_of(hardware.gpu).memory_gb * hardware.gpus
    except NotEstimable:
        return {"memory_gb_low": low, "memory_gb_high": high}
    fits = "yes" if high <= there else "no" if low > there else "perhaps"
    return {"memory_gb_low": low, "memory_gb_high": high, "gpu_memory_gb": there, "fits": fits}


def _memory_text(told: Mapping[str, Any]) -> str:
    need = f"needs {_span(told['memory_gb_low'], told['memory_gb_high'])} GB of GPU memory"
    if told["fits"] is None:
        return need
    there = f"{told['gpu_memory_gb']:.0f} GB"
    ends = {
        "yes": f"; there are {there}",
        "no": f", and there are only {there}: take a larger GPU, a smaller model, or method=qlora",
        "perhaps": f", and there are {there}: a smaller batch or context is safer",
    }
    return need + ends[told["fits"]]


def _span(low: float, high: float) -> str:
    one, other = (f"{value:,.1f}" if value >= 0.1 else "under 0.1" for value in (low, high))
    return one if one == other else f"{one} to {other}"


def _money(told: Mapping[str, Any]) -> str:
    if told["cost_low"] is None:
        return " (give --price for the money)"
    one, other = (f"${told[name] / _MILLION:,.2f}" for name in ("cost_low", "cost_high"))
    return f", {one}" if one == other else f", {one} to {other}"

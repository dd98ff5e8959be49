"""What a training will take, before it is started: hours, money and GPU memory, each with how sure it is.

Best is the speed that a smoke run measured. Without one, hours follow from floating-point operations per token and
the part of a GPU's peak that such training usually reaches; that is a guess within a factor of two or three, and is
given as a range. Money is in millionths of a US dollar, as everywhere.
"""

import itertools
from dataclasses import dataclass
from enum import StrEnum

SETUP_HOURS = 0.2
"""Until a rented machine trains: start, installation, the model's download."""
_TERA = 1e12
PEAK_TFLOPS = {
    "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "A40": 150, "A6000": 155, "A10": 125, "L4": 121,
    "RTX5090": 209, "RTX4090": 165, "RTX3090": 71, "V100": 112, "T4": 65,
}  # fmt: skip
"""Dense 16-bit peaks as their makers state them."""
_REACHED = (0.12, 0.40)
"""Of the peak, from a plain loop on short texts to a tuned one on packed long ones."""
_MEMORY_GB = {  # billions of parameters: (QLoRA 4-bit, LoRA 16-bit)
    3: (3.5, 8.0), 7: (5.0, 19.0), 8: (6.0, 22.0), 14: (8.5, 33.0), 32: (26.0, 76.0), 70: (41.0, 164.0),
}  # fmt: skip
_FULL_BYTES = 16.0
"""Per parameter: 16-bit weights and gradients, 32-bit copy and two moments."""


class NotEstimable(ValueError):
    """There is too little to go on."""


class Method(StrEnum):
    """How a model is trained, as far as its cost goes."""

    FULL = "full"
    LORA = "lora"
    QLORA = "qlora"
    DPO = "dpo"
    DISTILL = "distill"


_PER_PARAMETER = {Method.FULL: 6.0, Method.LORA: 4.0, Method.QLORA: 5.0, Method.DPO: 6.0, Method.DISTILL: 8.0}
"""Operations per token and parameter. LoRA needs no gradients of weights; QLoRA unpacks them; DPO (with LoRA) runs
the reference too; distillation runs a teacher, here reckoned as large as the student."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hours and millionths of a dollar, from the best to the worst case; ``measured``: from a run's own speed."""

    hours_low: float
    hours_high: float
    cost_low: int | None
    cost_high: int | None
    memory_gb: float
    measured: bool


def estimate(
    *,
    tokens: int,
    epochs: float,
    parameters: int,
    method: Method,
    gpu: str = "",
    gpus: int = 1,
    price_per_hour: int | None = None,
    tokens_per_second: float = 0.0,
) -> Estimate:
    """What training on ``tokens`` for so many epochs takes; ``price_per_hour`` of all GPUs. Raises NotEstimable."""
    if tokens <= 0 or epochs <= 0 or parameters <= 0 or gpus <= 0:
        raise NotEstimable("tokens, epochs, parameters and GPUs must all be above zero")
    work = tokens * epochs
    if tokens_per_second > 0:
        low = high = work / tokens_per_second / 3600
    else:
        peak = peak_of(gpu) * _TERA * gpus
        high, low = (work * _PER_PARAMETER[method] * parameters / (peak * part) / 3600 for part in _REACHED)
    low, high = low + SETUP_HOURS, high + SETUP_HOURS
    cheap, dear = (None if price_per_hour is None else round(hours * price_per_hour) for hours in (low, high))
    return Estimate(low, high, cheap, dear, memory_gb(parameters, method), tokens_per_second > 0)


def peak_of(gpu: str) -> float:
    """The peak of a GPU by its name (``H100_80GB``, ``NVIDIA A100-SXM4``). Raises NotEstimable."""
    plain = gpu.upper().replace(" ", "").replace("-", "").replace("_", "")
    for name in sorted(PEAK_TFLOPS, key=len, reverse=True):
        if name in plain:
            return PEAK_TFLOPS[name]
    raise NotEstimable(
        f"the speed of {gpu or 'no GPU'} is not known: run the smoke preset on it first, and give its tokens per second"
    )


def memory_gb(parameters: int, method: Method) -> float:
    """GPU memory that training needs, from a table of measured models; between its lines a straight line."""
    billions = parameters / 1e9
    if method is Method.FULL:
        return parameters * _FULL_BYTES / 1e9
    column = 1 if method is Method.LORA else 0
    points = [(size, needs[column]) for size, needs in _MEMORY_GB.items()]
    if billions <= points[0][0]:
        return points[0][1] * billions / points[0][0]
    pairs = itertools.pairwise(points)
    (x0, y0), (x1, y1) = next((pair for pair in pairs if billions <= pair[1][0]), (points[-2], points[-1]))
    return y0 + (y1 - y0) * (billions - x0) / (x1 - x0)

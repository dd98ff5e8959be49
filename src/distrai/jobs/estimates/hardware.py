"""What graphics processors can do, as their makers state it; and how much memory a training needs."""

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum


class NotEstimable(ValueError):
    """There is too little to go on."""


class Method(StrEnum):
    """How a model is trained, as far as its cost goes."""

    FULL = "full"
    LORA = "lora"
    QLORA = "qlora"


@dataclass(frozen=True, slots=True)
class Gpu:
    """Dense 16-bit peak in TFLOPS, memory bandwidth in GB/s, memory in GB."""

    tflops: float
    bandwidth: float
    memory_gb: float


GPUS = {
    "B200": Gpu(2250, 8000, 180), "H200": Gpu(989, 4800, 141), "H100": Gpu(989, 3350, 80),
    "A100": Gpu(312, 1555, 40), "L40S": Gpu(362, 864, 48), "A40": Gpu(150, 696, 48),
    "A6000": Gpu(155, 768, 48), "A10": Gpu(125, 600, 24), "L4": Gpu(121, 300, 24),
    "RTX5090": Gpu(209, 1792, 32), "RTX4090": Gpu(165, 1008, 24), "RTX3090": Gpu(71, 936, 24),
    "V100": Gpu(112, 900, 16), "T4": Gpu(65, 320, 16),
}  # fmt: skip
_SIZE = re.compile(r"(\d+)\s*GB")
_MEMORY_GB = {  # billions of parameters: (QLoRA 4-bit, LoRA 16-bit)
    3: (3.5, 8.0), 7: (5.0, 19.0), 8: (6.0, 22.0), 14: (8.5, 33.0), 32: (26.0, 76.0), 70: (41.0, 164.0),
}  # fmt: skip
_FULL_BYTES = 16.0
"""Per parameter: 32-bit weights and gradients, and two moments."""
INFERENCE_BYTES = 2.0
"""Per parameter of a model that only reads or writes, in 16 bits."""


def gpu_of(name: str) -> Gpu:
    """What a GPU can do, by its name (``H100_80GB``, ``NVIDIA A100-SXM4``). Raises NotEstimable."""
    plain = re.sub(r"[\s_-]", "", name.upper())
    for known in sorted(GPUS, key=len, reverse=True):
        if known in plain:
            size = _SIZE.search(name.upper())
            gpu = GPUS[known]
            return Gpu(gpu.tflops, gpu.bandwidth, float(size[1]) if size else gpu.memory_gb)
    raise NotEstimable(
        f"the speed of {name or 'no GPU'}, which is none of {', '.join(GPUS)}: run the smoke preset on it first, and "
        "give its tokens per second with --speed"
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

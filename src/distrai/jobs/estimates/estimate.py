"""What a training will take, before it is started: hours, money and GPU memory, each with how sure it is.

Best is the speed that a smoke run measured. Without one, hours follow from floating-point operations per token and the
part of a GPU's peak that such training usually reaches; where a model writes texts, from its size and the GPU's memory
bandwidth. That is a guess within a factor of two or three, and is given as a range. Money is in millionths of a US
dollar, as everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distrai.jobs.estimates.hardware import Gpu, Method, NotEstimable, gpu_of

SETUP_HOURS = 0.2
"""Until a rented machine trains: start and installation. The model's download comes on top."""
_DOWNLOAD = (0.5e9, 0.1e9)
"""Bytes of a model in a second."""
_REACHED = (0.40, 0.12)
"""Of the peak, from a tuned loop on packed long texts to a plain one on short ones."""
_BANDWIDTH_REACHED = (0.6, 0.2)
_LAYER_S = (0.0003, 0.0012)
"""What a layer takes for a token at least, however small it is."""
TRAINING = {Method.FULL: 8.0, Method.LORA: 6.0, Method.QLORA: 7.0}
"""Operations per token and parameter, of which 2 repeat what was not kept to save memory. LoRA needs no gradients of
weights; QLoRA unpacks them."""
READING = 2.0
"""Operations per token and parameter of a model that only reads: a teacher, a reference, a judge."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a job would run on; ``price_per_hour`` of all GPUs in millionths of a dollar, None if not known.

    ``tokens_per_second``: what a smoke run reached with everything it does; 0 if none was made.
    """

    gpu: str = ""
    gpus: int = 1
    price_per_hour: int | None = None
    tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens that go through models, and the operations for each of them; from the fewest to the most."""

    tokens: tuple[float, float]
    operations: float

    def seconds(self, gpu: Gpu) -> tuple[float, float]:
        """On one GPU, at best and at worst."""
        low, high = (
            tokens * self.operations / (gpu.tflops * 1e12 * part)
            for tokens, part in zip(self.tokens, _REACHED, strict=True)
        )
        return low, high


@dataclass(frozen=True, slots=True)
class Writing:
    """Texts that a model writes: ``batches`` of ``batch`` at once, each of so many tokens (fewest, most)."""

    batches: float
    batch: int
    tokens: tuple[float, float]
    parameters: int
    depth: int
    bytes_per_parameter: float = 2.0

    def seconds(self, gpu: Gpu) -> tuple[float, float]:
        """On one GPU, at best and at worst: a token takes as long as the weights take to be read."""
        size, work = self.parameters * self.bytes_per_parameter, READING * self.parameters * self.batch
        low, high = (
            self.batches
            * tokens
            * max(size / (gpu.bandwidth * 1e9 * read), work / (gpu.tflops * 1e12 * part), self.depth * layer)
            for tokens, read, part, layer in zip(
                self.tokens, _BANDWIDTH_REACHED, _REACHED, _LAYER_S, strict=True
            )
        )
        return low, high


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hours and millionths of a dollar, at best and at worst; ``measured``: from a run's own speed."""

    hours_low: float
    hours_high: float
    cost_low: int | None
    cost_high: int | None
    measured: bool


def estimate(
    work: Sequence[Work | Writing], tokens: tuple[float, float], hardware: Hardware, download: float = 0.0
) -> Estimate:
    """What all of this takes. ``tokens`` are those that a measured speed counts; ``download`` bytes come first.

    Several GPUs divide the time at best, and help nothing at worst. Raises NotEstimable.
    """
    if hardware.gpus < 1 or not work:
        raise NotEstimable("there is nothing to train on")
    if hardware.tokens_per_second > 0:
        low, high = (count / hardware.tokens_per_second for count in tokens)
    else:
        gpu = gpu_of(hardware.gpu)
        each = [part.seconds(gpu) for part in work]
        low, high = sum(part[0] for part in each) / hardware.gpus, sum(part[1] for part in each)
    low, high = (
        seconds / 3600 + SETUP_HOURS + download / speed / 3600
        for seconds, speed in zip((low, high), _DOWNLOAD, strict=True)
    )
    price = hardware.price_per_hour
    cheap, dear = (None if price is None else round(hours * price) for hours in (low, high))
    return Estimate(low, high, cheap, dear, hardware.tokens_per_second > 0)


def priced(hardware: Hardware, price_per_gpu: float) -> Hardware:
    """The same with dollars for a GPU and hour; 0 is not known."""
    money = round(price_per_gpu * hardware.gpus * 1_000_000) if price_per_gpu else None
    return replace(hardware, price_per_hour=money)

"""Consensus arithmetic: the same bits on every CPU and GPU. Every codec, aggregator and outer step computes
with this.

Allowed are elementwise eager fp32 `+ - * /`, comparisons, rounding and integer sums. Not allowed: fused
forms, division by a Python number (CUDA multiplies by the reciprocal), float reductions, matmul (but of
integers in float64 whose sums stay within 2^53, see `dct`), `pow`, `exp`, and also `torch.sqrt`: on CPUs it
is off by one unit in the last place on some values. Roots are taken of Python integers. What reduces (norms,
means of bins) first becomes integers on a power-of-two grid that the largest |x| gives, and is summed in
int64, so no order matters.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NORM_BITS = 15
"""A piece is scaled to at most 2^15 for its norm: squares up to 2^30, so int64 holds 2^33 of them."""
MEAN_BITS = 30
"""A piece is scaled to at most 2^30 for the means of its bins: int64 holds 2^33 of them."""
NORM_UNIT_EXP = -400
"""Squared norms are Python integers in units of 2^-400: at least as fine as the square of any scaled fp32."""
BLOCK_NUMEL = 1 << 17
"""On a CPU long tensors are worked through in blocks that stay in its cache. What is summed are integers: no
cut changes a bit.
"""
_SMALLEST = 2.0**-149
_ROOT_BITS = 64


def scalar(value: float, like: Tensor) -> Tensor:
    """A one-element fp32 tensor on the device of `like`, rounded to nearest."""
    return torch.tensor([value], dtype=torch.float32, device=like.device)


def positive_zero(x: Tensor) -> Tensor:
    """Turns -0.0 into +0.0 and leaves every other value alone."""
    return x + 0.0


def is_finite(x: Tensor) -> bool:
    """True if no element is NaN or infinite. (The extremes of a tensor with a NaN in it are NaN.)"""
    if x.numel() == 0:
        return True
    low, high = torch.aminmax(x)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def pseudo_gradient(start: Tensor, local: Tensor) -> Tensor:
    """theta_start - theta_local: the direction in which the state should descend."""
    return positive_zero(start - local)


def scaled(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent, in two factors because one may be outside of fp32. Exact unless it falls below the fp32
    range.
    """
    half = exponent // 2
    return (x * scalar(2.0**half, x)).mul_(scalar(2.0 ** (exponent - half), x))


def blocks(x: Tensor) -> tuple[Tensor, ...]:
    """Views of a flat tensor, one after the other; a single one where a launch costs more than memory does."""
    return torch.split(x, BLOCK_NUMEL) if x.device.type == "cpu" else (x,)


def grid_shift(x: Tensor, bits: int) -> int:
    """The finest power-of-two grid on which the largest |x| (finite) stays within 2^bits has steps of
    2^-shift; 0 if all are 0.
    """
    low, high = torch.aminmax(x)
    largest = max(-float(low.item()), float(high.item()))
    return 0 if largest == 0.0 else bits - math.frexp(largest)[1]


def on_grid(x: Tensor, shift: int) -> Tensor:
    """x in steps of 2^-shift, rounded (int32)."""
    return scaled(x, shift).round_().to(torch.int32)


def squared_norm(x: Tensor) -> int:
    """|x|^2 in units of 2^NORM_UNIT_EXP, of a flat tensor. Exact on a 15-bit grid, so it is the same
    everywhere and can be added up.
    """
    shift = grid_shift(x, NORM_BITS)
    on_grids = (on_grid(block, shift) for block in blocks(x))
    total = sum(int((each * each).sum(dtype=torch.int64).item()) for each in on_grids)
    return total << (-NORM_UNIT_EXP - 2 * shift)


def mean(x: Tensor) -> float:
    """The mean of a tensor on a 30-bit grid: exact sums, so the same everywhere."""
    flat = x.reshape(-1)
    shift = grid_shift(flat, MEAN_BITS)
    total = sum(int(on_grid(block, shift).sum(dtype=torch.int64).item()) for block in blocks(flat))
    return math.ldexp(total / flat.numel(), -shift)


def norm(squared: int) -> float:
    """The square root of a `squared_norm`, for people to read."""
    return math.ldexp(float(math.isqrt(squared)), NORM_UNIT_EXP // 2)


def above_ceiling(squared: int, ceiling: float) -> bool:
    """Whether a `squared_norm` is above ceiling^2, compared in exact integers."""
    top, bottom = ceiling.as_integer_ratio()
    return squared * bottom * bottom > (top * top) << -NORM_UNIT_EXP


def lower_median(squared: Sequence[int]) -> int:
    """The middle one, the lower of two (as `torch.median`): half of the members cannot raise it."""
    return sorted(squared)[(len(squared) - 1) // 2]


def clip_factor(squared: int, ceiling: int) -> float:
    """min(1, sqrt(ceiling / squared)) for two `squared_norm`s."""
    if squared <= ceiling:
        return 1.0
    return math.isqrt(ceiling << 2 * _ROOT_BITS) / math.isqrt(squared << 2 * _ROOT_BITS)


def quantiser_scale(x: Tensor, bins: int, range_sigmas: int) -> Tensor:
    """The width of a bin when `bins` of them span `range_sigmas` sigma, sigma = |x| / sqrt(n - 1) (PRIME, no
    centring).
    """
    squared = range_sigmas * range_sigmas * squared_norm(x)
    root = math.isqrt((squared << 2 * _ROOT_BITS) // (max(1, x.numel() - 1) * bins * bins))
    return scalar(max(math.ldexp(float(root), NORM_UNIT_EXP // 2 - _ROOT_BITS), _SMALLEST), x)


def rounded_codes(x: Tensor, scale: Tensor, bins: int) -> Tensor:
    """Bins centred on whole multiples of the scale (uint8): clamp(round(x / scale) + bins/2, 0, bins - 1)."""
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    for block, out in zip(blocks(x), blocks(codes), strict=True):
        whole = (block / scale).round_().add_(bins / 2).clamp_(0, bins - 1)
        out.copy_(whole.to(torch.int32))  # to uint8 at once takes three times as long on a CPU
    return codes


def floored_codes(x: Tensor, scale: Tensor, bins: int) -> Tensor:
    """Bins between whole multiples of the scale (uint8): clamp(floor(x / scale) + bins/2, 0, bins - 1). Keeps
    signs apart.
    """
    return torch.clamp(torch.floor(x / scale) + bins / 2, 0, bins - 1).to(torch.uint8)


def bin_means(x: Tensor, codes: Tensor, bins: int) -> Tensor:
    """The mean of the elements (flat) that have each code (fp32, `bins` of them), 0 where a code has none.

    The sums are of integers: repeated indices cannot make them depend on the order.
    """
    shift = grid_shift(x, MEAN_BITS)
    sums, counts = (torch.zeros(bins, dtype=torch.int64, device=x.device) for _ in range(2))
    for block, where in zip(blocks(x), blocks(codes), strict=True):
        sums.index_add_(0, where.to(torch.int32), on_grid(block, shift).to(torch.int64))
        counts += torch.bincount(where, minlength=bins)
    means = [
        math.ldexp(total / count, -shift) if count else 0.0
        for total, count in zip(sums.tolist(), counts.tolist(), strict=True)
    ]
    return positive_zero(torch.tensor(means, dtype=torch.float32, device=x.device))


def looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """table[codes]."""
    values = torch.empty(codes.shape, dtype=table.dtype, device=table.device)
    for block, out in zip(blocks(codes), blocks(values), strict=True):
        torch.index_select(table, 0, block.to(torch.int32), out=out)
    return values

"""The orthonormal discrete cosine transform (DCT-II) of blocks, with the same bits everywhere.

A matrix product depends on the order of its sums, which every library chooses for itself, unless no sum is
ever rounded. So this one is of integers, held in float64: a block is put on a grid of 2^-23 of a power of two
above its largest |x|, the table on one of 2^-26. The rows and columns of the table have an L1 norm of at most
8, so partial sums stay within 2^52 in the first direction and, on a grid four times as coarse, within 2^53 in
the second. Integers up to 2^53 are exact in float64, with or without fused multiply-add, in any order. The
result is rounded to fp32 once. Its error is about 2^-21 of the block's largest |x|.
"""

from functools import lru_cache
from math import isqrt

import torch
from torch import Tensor

SIDE = 64
"""The longest side of a block."""
TABLE_BITS = 26
BLOCK_BITS = 23
BETWEEN_BITS = 2
"""By so much the grid between the two directions is coarser than the first: values may have grown by 8."""
_PRECISION = 160
_FP32_MAX = 3.4028234663852886e38


def side(size: int) -> int:
    """The side of blocks along a dimension: its largest divisor that is at most 64."""
    return next(length for length in range(min(size, SIDE), 0, -1) if size % length == 0)


@lru_cache(maxsize=SIDE)
def integer_table(size: int) -> tuple[tuple[int, ...], ...]:
    """Row u, column i: c_u cos(pi (2i + 1) u / 2 size), c_0^2 = 1 / size, else 2 / size; in units of 2^-26."""
    return tuple(tuple(_entry(size, u, (2 * i + 1) * u) for i in range(size)) for u in range(size))


@lru_cache(maxsize=SIDE)
def table(size: int, device: torch.device) -> Tensor:
    """The same as float64, each an integer; read it only."""
    return torch.tensor(integer_table(size), dtype=torch.float64, device=device)


def forward(blocks: Tensor) -> Tensor:
    """Coefficients (fp32) of blocks (count, height, width) of finite fp32; coefficient (0, 0) is the mean's."""
    high, wide = (table(length, blocks.device) for length in blocks.shape[1:])
    return _transformed(blocks, high, wide.T.contiguous())


def inverse(coefficients: Tensor) -> Tensor:
    """The inverse of `forward`, in the same arithmetic."""
    high, wide = (table(length, coefficients.device) for length in coefficients.shape[1:])
    return _transformed(coefficients, high.T.contiguous(), wide)


def _transformed(blocks: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """left @ block @ right for every block, see above. What leaves fp32 stays at its end."""
    exponent = _exponent_above(blocks)
    whole = (blocks.to(torch.float64) * _power(BLOCK_BITS - exponent)).round_()
    between = torch.matmul(whole, right).mul_(2.0 ** -(TABLE_BITS + BETWEEN_BITS)).round_()
    found = torch.matmul(left, between)
    found *= _power(exponent - (BLOCK_BITS - BETWEEN_BITS) - TABLE_BITS)
    return found.clamp_(-_FP32_MAX, _FP32_MAX).to(torch.float32) + 0.0


def _exponent_above(blocks: Tensor) -> Tensor:
    """The least e (int64; count, 1, 1) with |x| < 2^e in a block, but -125 at least."""
    bits = blocks.contiguous().view(torch.int32) & 0x7FFFFFFF
    return torch.clamp((bits.amax(dim=(1, 2), keepdim=True) >> 23).to(torch.int64), min=1) - 126


def _power(exponent: Tensor) -> Tensor:
    """2^exponent (int64) as float64, from its bits."""
    return ((exponent + 1023) << 52).view(torch.float64)


def _entry(size: int, u: int, quarter: int) -> int:
    length = isqrt(((2 if u else 1) << 2 * _PRECISION) // size)
    product = length * _cosine(quarter, 2 * size)
    shift = 2 * _PRECISION - TABLE_BITS
    return (product + (1 << (shift - 1))) >> shift


@lru_cache(maxsize=4 * SIDE * SIDE)
def _cosine(above: int, below: int) -> int:
    """cos(pi * above / below) in units of 2^-160, from whole numbers only."""
    above %= 2 * below
    above = min(above, 2 * below - above)
    if 2 * above > below:
        return -_cosine(below - above, below)
    angle = _pi() * above // below
    square = angle * angle >> _PRECISION
    total, term, n = 0, 1 << _PRECISION, 0
    while term:
        total += term
        term = -(term * square >> _PRECISION) // ((n + 1) * (n + 2))
        n += 2
        if abs(term) <= 1:
            break
    return total


@lru_cache(maxsize=1)
def _pi() -> int:
    """pi in units of 2^-160, by Machin's formula with some bits to spare."""
    spare = 32
    one = 1 << (_PRECISION + spare)
    return 4 * (4 * _arctan_of_inverse(5, one) - _arctan_of_inverse(239, one)) >> spare


def _arctan_of_inverse(x: int, one: int) -> int:
    total, power, n, sign = 0, one // x, 1, 1
    while power:
        total += sign * (power // n)
        power //= x * x
        n, sign = n + 2, -sign
    return total

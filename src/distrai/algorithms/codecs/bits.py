"""Small integers packed into bytes, lowest bits first: 12-bit ones two in three bytes, narrower ones whole
numbers of them in a byte.
"""

import torch
from torch import Tensor

from distrai.algorithms.errors import NonZeroPadding


def packed12_size(count: int) -> int:
    """Bytes that hold `count` 12-bit values."""
    return (3 * count + 1) // 2


def packed2_size(count: int) -> int:
    """Bytes that hold `count` 2-bit values."""
    return (count + 3) // 4


def pack12(values: Tensor) -> Tensor:
    """0..4095 (int64) to uint8."""
    low, high = _filled(values, 2).view(-1, 2).unbind(1)
    triples = torch.stack((low & 255, (low >> 8) | ((high & 15) << 4), high >> 4), dim=1)
    return triples.view(-1)[: packed12_size(values.numel())].to(torch.uint8)


def unpack12(data: Tensor, count: int) -> Tensor:
    """The inverse of `pack12`; refuses bits set after the last value."""
    first, middle, last = _filled(data.to(torch.int64), 3).view(-1, 3).unbind(1)
    values = torch.stack((first | ((middle & 15) << 8), (middle >> 4) | (last << 4)), dim=1).view(-1)
    return _cut(values, count)


def packed4_size(count: int) -> int:
    """Bytes that hold `count` 4-bit values."""
    return (count + 1) // 2


def packed1_size(count: int) -> int:
    """Bytes that hold `count` single bits."""
    return (count + 7) // 8


def pack4(values: Tensor) -> Tensor:
    """0..15 (uint8) to uint8."""
    low, high = _filled(values, 2).view(-1, 2).unbind(1)
    return low | (high << 4)


def unpack4(data: Tensor, count: int) -> Tensor:
    """The inverse of `pack4`; refuses bits set after the last value."""
    return _cut(torch.stack((data & 15, data >> 4), dim=1).view(-1), count)


def pack1(values: Tensor) -> Tensor:
    """0 and 1 (uint8) to uint8."""
    bits = _filled(values, 8).view(-1, 8)
    places = torch.arange(8, dtype=torch.uint8, device=values.device)
    return (bits << places).sum(dim=1, dtype=torch.int64).to(torch.uint8)


def unpack1(data: Tensor, count: int) -> Tensor:
    """The inverse of `pack1`; refuses bits set after the last value."""
    places = torch.arange(8, dtype=torch.uint8, device=data.device)
    return _cut(((data.view(-1, 1) >> places) & 1).view(-1), count)


def pack2(values: Tensor) -> Tensor:
    """0..3 (uint8) to uint8."""
    a, b, c, d = _filled(values, 4).view(-1, 4).unbind(1)
    return a | (b << 2) | (c << 4) | (d << 6)


def unpack2(data: Tensor, count: int) -> Tensor:
    """The inverse of `pack2`; refuses bits set after the last value."""
    values = torch.stack((data & 3, (data >> 2) & 3, (data >> 4) & 3, data >> 6), dim=1).view(-1)
    return _cut(values, count)


def _filled(values: Tensor, multiple: int) -> Tensor:
    missing = -values.numel() % multiple
    return torch.cat((values, values.new_zeros(missing))) if missing else values


def _cut(values: Tensor, count: int) -> Tensor:
    if bool(values[count:].any().item()):
        raise NonZeroPadding("bits after the last value are set")
    return values[:count]

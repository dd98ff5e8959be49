"""What sparse codecs share: which elements of a chunk are the largest, and the bytes of indices and values.

[table, if any] [indices, usually of 12 bits] [values]. With `value_bits` 32 there is no table, and
values are fp32. With 2 they are codes of a uniform quantiser of four bins over six sigma, four in a byte,
and the table holds the mean of each bin (fp32). With 1 they are signs, eight in a byte (0: negative), and the
table holds the means of the negative and of the other values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs import bits
from distrai.algorithms.codecs.base import as_bytes
from distrai.algorithms.codecs.fp32 import read_fp32
from distrai.algorithms.errors import IndicesNotSorted

CHUNK = 4096
"""Elements that a 12-bit index tells apart."""
RANGE_SIGMAS = 6


def values_size(count: int, value_bits: int) -> int:
    """Bytes that hold `count` values and their table."""
    return _table_size(value_bits) + -(-count * value_bits // 8)


def magnitude(x: Tensor) -> Tensor:
    """The bits of |x| (int64), which order as |x| does."""
    return (x.contiguous().view(torch.int32) & 0x7FFFFFFF).to(torch.int64)


def largest(chunks: Tensor, counts: Sequence[int]) -> Tensor:
    """Indices within their chunks of the largest `magnitude`s (chunks, elements), chunk after chunk, ascending
    within each (int64). `counts` says how many each chunk sends; a magnitude of -1 is no element.

    With the index below the magnitude every key is different, so no tie is left to the device: the lower
    index wins.
    """
    places = chunks.shape[1]
    keys = (chunks << 12) + (places - 1 - torch.arange(places, device=chunks.device))
    most = max(counts)
    indices = places - 1 - (torch.topk(keys, most, dim=1).values & (CHUNK - 1))
    if min(counts) == most:
        return indices.sort(dim=1).values.view(-1)
    wanted = torch.arange(most, device=chunks.device) < torch.tensor(counts, device=chunks.device).view(-1, 1)
    sorted_ = torch.where(wanted, indices, CHUNK).sort(dim=1).values
    return sorted_[wanted]


def ascending(keys: Tensor) -> None:
    """Raises IndicesNotSorted unless these (chunk * 4096 + index) ascend."""
    if bool((keys[1:] <= keys[:-1]).any().item()):
        raise IndicesNotSorted("the indices of a chunk do not ascend")


def written(indices: Tensor, values: Tensor, value_bits: int) -> Tensor:
    """The bytes (uint8) of indices, which are bytes already, and of their values (fp32, no -0.0)."""
    if value_bits == 32:
        return torch.cat((indices, as_bytes(values)))
    if value_bits == 1:
        codes = (values >= 0).to(torch.uint8)
        table, packed = arithmetic.bin_means(values, codes, 2), bits.pack1(codes)
    else:
        codes = arithmetic.floored_codes(values, arithmetic.quantiser_scale(values, 4, RANGE_SIGMAS), 4)
        table, packed = arithmetic.bin_means(values, codes, 4), bits.pack2(codes)
    return torch.cat((as_bytes(table), indices, packed))


def parsed(data: Tensor, index_size: int, count: int, value_bits: int) -> tuple[Tensor, Tensor]:
    """The inverse: the bytes of the indices, and values (fp32)."""
    start = _table_size(value_bits)
    cut = start + index_size
    if value_bits == 32:
        return data[:cut], read_fp32(data[cut:], "a value")
    table = read_fp32(data[:start], "a table entry")
    unpack = bits.unpack1 if value_bits == 1 else bits.unpack2
    return data[start:cut], arithmetic.looked_up(table, unpack(data[cut:], count))


def _table_size(value_bits: int) -> int:
    return 0 if value_bits == 32 else 4 << value_bits

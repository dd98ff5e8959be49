"""Top-k whose indices take 2 + log2(4096 / k) bits, fewer than 12 where many are sent (Elias and Fano's code).

The indices of a span ascend: key = 4096 * chunk + index. The lower bits of every key are written as they are,
in 4 bits. Of the upper ones, of which there are 256 for a chunk, the j-th key sets bit (upper + j) of a string
of bits, in which every key is a one and every value of the upper bits a zero. So its size is known.
"""

import torch
from torch import Tensor

from distrai.algorithms.codecs import bits
from distrai.algorithms.codecs.sparse import CHUNK, ascending
from distrai.algorithms.codecs.topk import Grid, TopK
from distrai.algorithms.errors import IndexOutOfBounds, NonCanonicalCodes

LOWER_BITS = 4
_UPPER_VALUES = CHUNK >> LOWER_BITS


class GapTopK(TopK):
    """`TopK` with shorter indices from k = 65 on: 6 bits each at k = 256."""

    @property
    def id(self) -> str:
        return f"gaps-{self.k}-{self.value_bits}bit"

    def _index_size(self, grid: Grid) -> int:
        counts = grid.counts(self.k)
        return bits.packed4_size(sum(counts)) + bits.packed1_size(_upper_length(counts))

    def _packed(self, grid: Grid, indices: Tensor) -> Tensor:
        keys = grid.owners(self.k, indices.device) * CHUNK + indices
        upper = torch.zeros(_upper_length(grid.counts(self.k)), dtype=torch.uint8, device=indices.device)
        upper[(keys >> LOWER_BITS) + torch.arange(keys.numel(), device=keys.device)] = 1
        lower = (keys & ((1 << LOWER_BITS) - 1)).to(torch.uint8)
        return torch.cat((bits.pack4(lower), bits.pack1(upper)))

    def _unpacked(self, grid: Grid, owners: Tensor, data: Tensor) -> Tensor:
        count = owners.numel()
        cut = bits.packed4_size(count)
        lower = bits.unpack4(data[:cut], count).to(torch.int64)
        ones = bits.unpack1(data[cut:], _upper_length(grid.counts(self.k))).nonzero().view(-1)
        if ones.numel() != count:
            raise NonCanonicalCodes(f"{ones.numel()} indices in a span that has {count}")
        keys = ((ones - torch.arange(count, device=ones.device)) << LOWER_BITS) | lower
        ascending(keys)
        if bool(((keys >> 12) != owners).any().item()):
            raise IndexOutOfBounds("an index is outside its chunk")
        return keys & (CHUNK - 1)


def _upper_length(counts: tuple[int, ...]) -> int:
    return sum(counts) + len(counts) * _UPPER_VALUES

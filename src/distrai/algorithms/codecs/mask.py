"""A shared random mask (SPARTA, Baioumy and Cheema, 2025): every round draws which elements are sent, the same
for all members, so that no index need be sent.

Of every piece `per_mille` thousandths are sent, rounded up: those with the smallest keys, which are integers
mixed from a hash of round and piece and from the element's place. Nobody can choose them, everybody can
compute them. Values are fp32, by ascending place.
"""

import copy
from hashlib import sha256
from typing import ClassVar, Self

import torch
from torch import Tensor

from distrai.algorithms.codecs.base import Codec, SpanValues, as_bytes
from distrai.algorithms.codecs.fp32 import read_fp32
from distrai.algorithms.layout import Layout, Piece, pieces

_PLACE_BITS = 21
"""A piece is shorter than 2^21, see `layout.pieces`."""
_HASH_MASK = 0x7FFFFFFF
_FACTORS = (0x2C1B3C6D, 0x297A2D39, 0x1B56C4E9)


class Mask(Codec):
    """Sends `per_mille` of 1000 elements, which `at` a round draws (before it: those of round 0)."""

    sparse = True
    options: ClassVar[dict[str, tuple[int, ...] | range]] = {"per_mille": range(1, 1001)}

    def __init__(self, layout: Layout, per_mille: int = 5) -> None:
        self.per_mille = per_mille
        self.round_number = 0
        self.drawn: dict[tuple[Piece, torch.device], Tensor] = {}
        super().__init__(layout)

    @property
    def id(self) -> str:
        return f"mask-{self.per_mille}"

    def at(self, round_number: int) -> Self:
        if round_number == self.round_number:
            return self
        bound = copy.copy(self)
        bound.round_number, bound.drawn = round_number, {}
        return bound

    def _pieces(self) -> tuple[Piece, ...]:
        return pieces(self.layout)

    def _count(self, piece: Piece) -> int:
        return -(-piece.numel * self.per_mille // 1000)

    def _span_size(self, piece: Piece) -> int:
        return 4 * self._count(piece)

    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        return as_bytes(x[self._where(piece, x.device)])

    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        return SpanValues(read_fp32(data, "a value"), self._where(piece, data.device))

    def synchronised(self, piece: Piece) -> Tensor:
        return self._where(piece, torch.device("cpu"))

    def _where(self, piece: Piece, device: torch.device) -> Tensor:
        key = (piece, device)
        if key not in self.drawn:
            name = self.layout.tensors[piece.tensor].name
            seed = sha256(f"mask {self.round_number} {piece.start} {name}".encode()).digest()
            self.drawn[key] = _smallest_keys(seed, piece.numel, self._count(piece)).to(device)
        return self.drawn[key]


def _smallest_keys(seed: bytes, numel: int, count: int) -> Tensor:
    """`count` of the places 0..numel-1, ascending (int64, CPU). Keys end in the place: there are no ties."""
    places = torch.arange(numel)
    mixed = places
    for at, factor in enumerate(_FACTORS):
        mixed = (mixed ^ int.from_bytes(seed[4 * at : 4 * at + 4])) & _HASH_MASK
        mixed = ((mixed ^ (mixed >> 15)) * factor) & _HASH_MASK
    keys = ((mixed ^ (mixed >> 16)) << _PLACE_BITS) + places
    smallest = torch.topk(keys, count, largest=False, sorted=False).values
    return (smallest & ((1 << _PLACE_BITS) - 1)).sort().values

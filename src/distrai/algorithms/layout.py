"""What is exchanged: the trainable tensors by name and shape, in the order in which every payload and state
lists them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

PIECE_NUMEL = 1 << 20
"""Elements per piece: big enough that a 1 KiB table is nothing, small enough that memory stays bounded."""


@dataclass(frozen=True)
class TensorSpec:
    """One trainable tensor: its name in the model and its shape (no empty tensors)."""

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise ValueError(
                f"{self.name}: shape {self.shape} holds no element; leave it out of model.trainable"
            )

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """All trainable tensors, in order. Names are unique."""

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("no tensor is trainable: widen model.trainable")
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ValueError("two trainable tensors have the same name")

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, Sequence[int]]]) -> "Layout":
        """Reads the form in which a resolved recipe holds a layout: [[name, [sizes]], ...]."""
        return cls(tuple(TensorSpec(name, tuple(shape)) for name, shape in pairs))

    def to_pairs(self) -> list[tuple[str, list[int]]]:
        """The inverse of `from_pairs`."""
        return [(tensor.name, list(tensor.shape)) for tensor in self.tensors]

    @cached_property
    def numel(self) -> int:
        """Elements in all tensors together."""
        return sum(tensor.numel for tensor in self.tensors)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts if all are laid end to end, in elements."""
        starts, at = [], 0
        for tensor in self.tensors:
            starts.append(at)
            at += tensor.numel
        return tuple(starts)


@dataclass(frozen=True)
class Piece:
    """Elements start..stop (row-major) of the tensor with this index: the unit in which memory is bounded."""

    tensor: int
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


def pieces(layout: Layout, size: int = PIECE_NUMEL) -> tuple[Piece, ...]:
    """Cuts every tensor into pieces of `size` elements, the last of a tensor taking what is left (below 2 *
    size).
    """
    found = []
    for index, tensor in enumerate(layout.tensors):
        count = max(1, tensor.numel // size)
        stops = [size * (i + 1) for i in range(count - 1)] + [tensor.numel]
        starts = [0, *stops[:-1]]
        found += [Piece(index, start, stop) for start, stop in zip(starts, stops, strict=True)]
    return tuple(found)

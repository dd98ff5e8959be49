"""The state that all peers share after a round, and its bytes: headerless little-endian fp32, one fixed size.

Order: parameters, buffers of the outer optimiser (0 to 2, such as its momentum), m and v (if moments are
shared). The bytes are canonical: NaN, Inf, -0.0 and a negative v are refused, so bytes -> state -> bytes gives
the same bytes, and one state has one root.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distrai.algorithms.codecs.base import to_bytes
from distrai.algorithms.errors import StateError
from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import Moments


@dataclass(frozen=True)
class GlobalState:
    """Tensors in the layout's order and shapes, fp32. Treat them as read-only: `step` makes new ones."""

    params: tuple[Tensor, ...]
    buffers: tuple[tuple[Tensor, ...], ...] = ()
    """What the outer optimiser keeps: for each of its buffers one tensor per tensor of the parameters."""
    moments: Moments | None = None

    def tensors(self) -> Iterator[Tensor]:
        """All tensors in the order of the bytes."""
        yield from self.params
        for buffer in self.buffers:
            yield from buffer
        if self.moments is not None:
            yield from self.moments.m
            yield from self.moments.v


@dataclass(frozen=True)
class StateFormat:
    """Which parts the states of a run have."""

    layout: Layout
    buffers: int
    moments: bool

    @property
    def size(self) -> int:
        """Bytes of every state of the run."""
        return 4 * self.layout.numel * (1 + self.buffers + 2 * self.moments)

    def to_bytes(self, state: GlobalState) -> bytes:
        data = b"".join(to_bytes(tensor) for tensor in state.tensors())
        assert len(data) == self.size, "a state of another layout"
        return data

    def from_bytes(self, data: bytes | memoryview, device: torch.device) -> GlobalState:
        """Raises StateError for anything that `to_bytes` could not have written."""
        if len(data) != self.size:
            raise StateError(f"a state of {len(data)} bytes; this recipe's have {self.size}")
        flat = torch.frombuffer(bytearray(data), dtype=torch.float32)
        parts = list(flat.view(-1, self.layout.numel).unbind(0))
        for part in parts:
            _check_canonical(part)
        if self.moments and bool((parts[-1] < 0).any().item()):
            raise StateError("a second moment of the state is negative")
        lists = [self._shaped(part.to(device)) for part in parts]
        moments = Moments(lists[-2], lists[-1]) if self.moments else None
        return GlobalState(lists[0], tuple(lists[1 : 1 + self.buffers]), moments)

    def initial(self, params: tuple[Tensor, ...]) -> GlobalState:
        """The state with these parameters (kept, not copied) and everything else 0."""
        zeros = [self.zeros(params[0].device) for _ in range(self.buffers + 2 * self.moments)]
        moments = Moments(zeros[-2], zeros[-1]) if self.moments else None
        return GlobalState(params, tuple(zeros[: self.buffers]), moments)

    def zeros(self, device: torch.device) -> tuple[Tensor, ...]:
        """A tensor of zeros for every tensor of the layout."""
        return tuple(torch.zeros(spec.shape, device=device) for spec in self.layout.tensors)

    def _shaped(self, flat: Tensor) -> tuple[Tensor, ...]:
        cut = torch.split(flat, [spec.numel for spec in self.layout.tensors])
        return tuple(part.view(spec.shape) for part, spec in zip(cut, self.layout.tensors, strict=True))


def _check_canonical(part: Tensor) -> None:
    if not bool(torch.isfinite(part).all().item()):
        raise StateError("a value of the state is NaN or infinite")
    if bool((part.view(torch.int32) == -(2**31)).any().item()):
        raise StateError("a value of the state is -0.0, which no step writes")

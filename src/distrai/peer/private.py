"""What only its own peer has, and needs again after a restart: error feedback, and an inner optimiser that is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from safetensors.torch import load, save
from torch import Tensor

from distrai.algorithms.layout import Layout
from distrai.training.inner_state import InnerState


@dataclass(frozen=True)
class PrivateState:
    """The private state at the start of a round; None where the recipe has no such thing, or not yet."""

    feedback: tuple[Tensor, ...] | None = None
    inner: InnerState | None = None

    def to_bytes(self) -> bytes:
        """Safetensors bytes."""
        return _join(_feedback_bytes(self.feedback), b"" if self.inner is None else self.inner.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> "PrivateState":
        """Read ``to_bytes``. Raises ValueError if the bytes are damaged."""
        feedback, inner = _split(data, 2)
        return cls(_feedback(feedback, layout), InnerState.from_bytes(inner, layout) if inner else None)


@dataclass(frozen=True)
class TrainedState:
    """The private state after training, while it is open whether the update will count."""

    if_counted: tuple[Tensor, ...] | None
    if_not: tuple[Tensor, ...] | None
    inner: InnerState | None

    def settle(self, counted: bool) -> PrivateState:
        """The private state that the next round starts with."""
        return PrivateState(self.if_counted if counted else self.if_not, self.inner)

    def to_bytes(self) -> bytes:
        """Safetensors bytes."""
        inner = b"" if self.inner is None else self.inner.to_bytes()
        return _join(_feedback_bytes(self.if_counted), _feedback_bytes(self.if_not), inner)

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> "TrainedState":
        """Read ``to_bytes``. Raises ValueError if the bytes are damaged."""
        counted, not_counted, inner = _split(data, 3)
        state = InnerState.from_bytes(inner, layout) if inner else None
        return cls(_feedback(counted, layout), _feedback(not_counted, layout), state)


def _feedback_bytes(tensors: Sequence[Tensor] | None) -> bytes:
    if tensors is None:
        return b""
    return save({str(at): tensor.cpu().contiguous() for at, tensor in enumerate(tensors)})


def _feedback(data: bytes, layout: Layout) -> tuple[Tensor, ...] | None:
    if not data:
        return None
    tensors = load(data)
    return tuple(tensors[str(at)] for at in range(len(layout.tensors)))


def _join(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _split(data: bytes, count: int) -> list[bytes]:
    parts, at = [], 0
    for _ in range(count):
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    if at != len(data):
        raise ValueError(
            "the file of the private state is damaged: remove it, and this peer starts a fresh one"
        )
    return parts

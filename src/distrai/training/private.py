"""What only its own peer has, and needs again after a restart.

That is its error feedback, an inner optimiser that is kept, and where its next round begins before the state of the
last one is certified.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from distrai.algorithms.layout import Layout
from distrai.training.errors import BadPrivateState
from distrai.training.inner_state import InnerState

_THE_KEPT_ONE = b"="
"""Stands for an inner state that the same bytes hold already."""


@dataclass(frozen=True)
class Onward:
    """Where the round after ``round`` begins, known as soon as the own part of ``round`` is done."""

    round: int
    params: tuple[Tensor, ...]
    """The own replica, or with a public start the state that the own update alone would lead to (fp32, CPU)."""
    inner: InnerState


@dataclass(frozen=True)
class PrivateState:
    """The private state at the start of a round; None where the recipe has no such thing, or not yet."""

    feedback: tuple[Tensor, ...] | None = None
    inner: InnerState | None = None
    onward: Onward | None = None

    def to_bytes(self) -> bytes:
        """Safetensors bytes, joined."""
        parts = (_packed(self.feedback), _inner_bytes(self.inner))
        return _join(*parts, *_onward_bytes(self.onward, self.inner))

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> "PrivateState":
        """Read ``to_bytes``. Raises BadPrivateState or BadInnerState."""
        feedback, kept, *onward = _split(data, 5)
        inner = _inner_from(kept, layout)
        return cls(_unpacked(feedback, layout), inner, _onward_from(onward, inner, layout))


@dataclass(frozen=True)
class Trained:
    """A member's part of a round, while it is open whether its update will count."""

    payload: bytes
    steps: int
    tokens: int
    loss_mean: float
    """Mean training loss over the steps (nats a token)."""
    seconds: float
    tau: int
    """Inner steps that were taken before the correction: 0, or the recipe's overlap."""
    if_counted: tuple[Tensor, ...] | None
    """The error feedback if the update counts."""
    if_not: tuple[Tensor, ...] | None
    inner: InnerState | None
    onward: Onward | None
    replica: bool
    """Whether the member goes on from ``onward`` even if the update does not count."""

    def settle(self, counted: bool) -> PrivateState:
        """The private state that the next round starts with."""
        onward = self.onward if counted or self.replica else None
        return PrivateState(self.if_counted if counted else self.if_not, self.inner, onward)

    def to_bytes(self) -> bytes:
        """All of it: JSON numbers, the payload, and safetensors bytes, joined."""
        numbers = [self.steps, self.tokens, self.loss_mean, self.seconds, self.tau, self.replica]
        return _join(
            json.dumps(numbers).encode(),
            self.payload,
            _packed(self.if_counted),
            _packed(self.if_not),
            _inner_bytes(self.inner),
            *_onward_bytes(self.onward, self.inner),
        )

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> "Trained":
        """Read ``to_bytes``. Raises BadPrivateState or BadInnerState."""
        head, payload, counted, not_counted, kept, *onward = _split(data, 8)
        try:
            steps, tokens, loss, seconds, tau, replica = json.loads(head)
        except (ValueError, TypeError):
            raise _damaged() from None
        inner = _inner_from(kept, layout)
        return cls(
            payload,
            steps,
            tokens,
            loss,
            seconds,
            tau,
            _unpacked(counted, layout),
            _unpacked(not_counted, layout),
            inner,
            _onward_from(onward, inner, layout),
            replica,
        )


def _join(*parts: bytes) -> bytes:
    """The parts, each after its length."""
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _split(data: bytes, count: int) -> list[bytes]:
    """Read ``_join``. Raises BadPrivateState if these are not exactly ``count`` parts."""
    parts, at = [], 0
    for _ in range(count):
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    if at != len(data):
        raise _damaged()
    return parts


def _packed(tensors: Sequence[Tensor] | None) -> bytes:
    """Safetensors bytes of tensors in layout order; none for None."""
    if tensors is None:
        return b""
    return save({str(at): tensor.cpu().contiguous() for at, tensor in enumerate(tensors)})


def _unpacked(data: bytes, layout: Layout) -> tuple[Tensor, ...] | None:
    """Read ``_packed``. Raises BadPrivateState."""
    if not data:
        return None
    try:
        tensors = load(data)
    except (SafetensorError, ValueError):
        raise _damaged() from None
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != {str(at): spec.shape for at, spec in enumerate(layout.tensors)}:
        raise _damaged()
    return tuple(tensors[str(at)] for at in range(len(layout.tensors)))


def _inner_bytes(state: InnerState | None) -> bytes:
    """The bytes of an inner state; none for None."""
    return b"" if state is None else state.to_bytes()


def _inner_from(data: bytes, layout: Layout) -> InnerState | None:
    """Read ``_inner_bytes``. Raises BadInnerState."""
    return InnerState.from_bytes(data, layout) if data else None


def _onward_bytes(onward: Onward | None, kept: InnerState | None) -> tuple[bytes, bytes, bytes]:
    """Three parts: round, parameters, inner state. ``kept`` is in the same file, and not written twice."""
    if onward is None:
        return b"", b"", b""
    inner = _THE_KEPT_ONE if onward.inner is kept else onward.inner.to_bytes()
    return onward.round.to_bytes(8, "little"), _packed(onward.params), inner


def _onward_from(parts: Sequence[bytes], kept: InnerState | None, layout: Layout) -> Onward | None:
    """Read ``_onward_bytes``. Raises BadPrivateState or BadInnerState."""
    number, tensors, state = parts
    if not number:
        return None
    params = _unpacked(tensors, layout)
    inner = kept if state == _THE_KEPT_ONE else _inner_from(state, layout)
    if params is None or inner is None:
        raise _damaged()
    return Onward(int.from_bytes(number, "little"), params, inner)


def _damaged() -> BadPrivateState:
    return BadPrivateState(
        "the file of the private state is damaged: remove it, and this peer starts a fresh one"
    )

"""The state of the inner optimiser between rounds: kept by its peer, reset, or everyone's averaged.

Kept states are private, but have to survive a restart: they are stored as safetensors, never pickled.
"""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import Moments
from distrai.training.errors import BadInnerState
from distrai.training.spec import InnerSpec


@dataclass(frozen=True, slots=True)
class InnerState:
    """Adam's moments (layout order, shapes of the parameters, fp32) and its step count."""

    m: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    steps: int
    """Steps that the moments have seen, for the correction of their bias."""

    @property
    def moments(self) -> Moments:
        """The moments alone: what is sent where they are averaged."""
        return Moments(self.m, self.v)

    @classmethod
    def zeros(cls, layout: Layout, steps: int = 0) -> "InnerState":
        """The state before the first step."""
        m, v = (tuple(torch.zeros(spec.shape) for spec in layout.tensors) for _ in range(2))
        return cls(m, v, steps)

    def to_bytes(self) -> bytes:
        """Safetensors bytes; equal states have equal bytes."""
        tensors = {f"m.{at}": tensor.contiguous() for at, tensor in enumerate(self.m)}
        tensors |= {f"v.{at}": tensor.contiguous() for at, tensor in enumerate(self.v)}
        return save(tensors | {"steps": torch.tensor(self.steps, dtype=torch.int64)})

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> "InnerState":
        """Read ``to_bytes``. Raises BadInnerState if the bytes are damaged or of another model."""
        try:
            tensors = load(data)
        except (SafetensorError, ValueError) as error:
            raise BadInnerState(f"these bytes are no inner optimiser state: {error}") from None
        wanted = {f"{kind}.{at}": spec.shape for kind in "mv" for at, spec in enumerate(layout.tensors)}
        found = {
            name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor.dtype == torch.float32
        }
        steps = tensors.get("steps")
        if found != wanted or len(tensors) != len(wanted) + 1 or steps is None or steps.dtype != torch.int64:
            raise BadInnerState(
                "this inner optimiser state belongs to another model; start the round with a fresh one"
            )
        m, v = (tuple(tensors[f"{kind}.{at}"] for at in range(len(layout.tensors))) for kind in "mv")
        return cls(m, v, int(steps))


def state_at_round_start(
    spec: InnerSpec,
    layout: Layout,
    round_number: int,
    kept: InnerState | None = None,
    averaged: Moments | None = None,
) -> InnerState:
    """The state that a round's inner steps start from, by the recipe's ``inner_state``.

    ``kept``: the peer's own from its last round (None before it). ``averaged``: the certified moments; the
    step count is then that of the round number, the same for everyone, whoever was absent or empty a round
    was.
    """
    if spec.inner_state == "kept" and kept is not None:
        return kept
    if spec.inner_state == "averaged":
        assert averaged is not None, "the averaged moments are part of the global state"
        return InnerState(averaged.m, averaged.v, (round_number - 1) * spec.inner_steps)
    return InnerState.zeros(layout)

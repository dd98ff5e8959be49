"""The state of the inner optimiser between rounds: kept by its peer, reset, or what everyone has in common.

Kept states are private, but have to survive a restart: they are stored as safetensors, never pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import Moments
from distrai.training.errors import BadInnerState
from distrai.training.spec import InnerSpec

Decays = Sequence[tuple[float, float]]
"""For every tensor of a layout, by what an inner step multiplies what its m and v were."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Coordinates whose m began anew at 0, though the rest of the state is older.

    Their m is biased by the few steps since, not by all those that the state has seen.
    """

    where: tuple[Tensor, ...]
    """Layout order, shapes of the parameters, bool."""
    steps: int = 0
    """Steps since."""


@dataclass(frozen=True, slots=True)
class InnerState:
    """The optimiser's moments (layout order, shapes of the parameters, fp32) and its step count.

    m is Adam's first moment, or Muon's momentum; v is Adam's second one, 0 for Muon. SGD has neither.
    """

    m: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    steps: int
    """Steps that the moments have seen, for the correction of their bias."""
    restart: Restart | None = None
    """Only within a round that starts from public moments; it is not stored."""

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
    common: Moments | None = None,
) -> InnerState:
    """The state that a round's inner steps start from, by the recipe's ``inner_state``.

    ``kept``: the peer's own from its last round (None before it). ``common``: the certified moments of the
    global state; the step count is then that of the round number, the same for everyone, whoever was absent
    or empty a round was.
    """
    if spec.inner_state == "kept" and kept is not None:
        return kept
    if spec.inner_state not in ("averaged", "public"):
        return InnerState.zeros(layout)
    assert common is not None, "the common moments are part of the global state"
    state = InnerState(common.m, common.v, (round_number - 1) * spec.inner_steps)
    return as_begun(spec, state)


def as_begun(spec: InnerSpec, state: InnerState) -> InnerState:
    """A state at the start of a round. Where an m is 0 among public moments, nobody sent it: it begins anew."""
    if spec.inner_state != "public":
        return state
    return replace(state, restart=Restart(tuple(m == 0 for m in state.m)))


def corrected(
    state: InnerState, started: InnerState, certified: InnerState, steps: int, decays: Decays
) -> InnerState:
    """What ``state`` would be had its last ``steps`` steps begun from ``certified`` and not from ``started``.

    Moments are exponential averages, linear in where they began: with the same gradients this is exact. It
    cannot know the gradients that other moments would have led to.
    """
    pairs = zip(state.m, started.m, certified.m, (m for m, _ in decays), strict=True)
    m = tuple(now + decay**steps * (after.cpu() - before.cpu()) for now, before, after, decay in pairs)
    pairs = zip(state.v, started.v, certified.v, (v for _, v in decays), strict=True)
    v = tuple(
        (now + decay**steps * (after.cpu() - before.cpu())).clamp_(min=0)
        for now, before, after, decay in pairs
    )
    restart = certified.restart and replace(certified.restart, steps=steps)
    return InnerState(m, v, certified.steps + steps, restart)

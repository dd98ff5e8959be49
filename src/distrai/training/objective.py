"""Objectives: what is minimised. A batch goes in, a loss and metrics come out; next-token is one of them.

Distillation, preferences and the like are other implementations of the same protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """What an objective says about a batch."""

    loss: Tensor
    """Scalar, differentiable: the mean over everything scored."""
    scored: int
    """How many things (tokens, pairs) the mean is over."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars to report, detached, by name."""


class Objective(Protocol):
    """Batch in, loss and metrics out."""

    @property
    def name(self) -> str:
        """What a recipe calls it."""

    def __call__(self, model: nn.Module, batch: Tensor) -> ObjectiveOutput:
        """Score ``batch``, which is ``(samples, context + 1)`` int64 on the model's device."""


class NextToken:
    """Mean cross-entropy of every token given those before it in its sample, in nats."""

    name = "next-token"

    def __call__(self, model: nn.Module, batch: Tensor) -> ObjectiveOutput:
        """See ``Objective``."""
        targets = batch[:, 1:]
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        return ObjectiveOutput(loss, targets.numel())


_OBJECTIVES: dict[str, Objective] = {"next-token": NextToken()}


def objective_named(name: str) -> Objective:
    """The objective that a recipe names (the recipe's reader has checked the name)."""
    return _OBJECTIVES[name]

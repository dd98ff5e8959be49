"""What objectives have in common: their interface, and what a model says at the entries that are scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from distrai.training.data.layouts import TOKEN_MASK, UNSCORED


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
        """Score ``batch``, which is ``(samples, width)`` int64 on the model's device (see ``data.layouts``)."""


def predictions(model: nn.Module, batch: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    """Logits ``(scored, vocabulary)`` in the model's precision, and the tokens ``(scored,)`` that were to come.

    ``batch`` is ``(samples, context + 1)``: of running text, where all is scored, or of ``rows``. Causal models need
    no attention mask for rows: padding comes after everything that is scored.
    """
    targets = batch[:, 1:]
    if not rows:
        logits: Tensor = model(input_ids=batch[:, :-1], use_cache=False).logits
        return logits.flatten(0, 1), targets.flatten()
    logits = model(input_ids=tokens_of(batch[:, :-1]), use_cache=False).logits
    scored = is_scored(targets)
    return logits[scored], targets[scored]


def tokens_of(entries: Tensor) -> Tensor:
    """The token ids of entries."""
    return entries & TOKEN_MASK


def is_scored(entries: Tensor) -> Tensor:
    """Which entries are to be predicted (bool)."""
    return entries < UNSCORED

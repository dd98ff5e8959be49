"""Objectives: what is minimised. A batch goes in, a loss and metrics come out.

Next-token is here; distillation and preferences are other implementations of the same protocol, beside this module.
"""

from torch import Tensor, nn
from torch.nn import functional

from distrai.protocol.recipe import PreferenceSection, Recipe
from distrai.training.data.layouts import layout_of
from distrai.training.distillation import Distillation
from distrai.training.preference import DirectPreference
from distrai.training.scoring import Objective, ObjectiveOutput, predictions

__all__ = ["NextToken", "Objective", "ObjectiveOutput", "build_objective", "objective_named"]


class NextToken:
    """Mean cross-entropy of every scored token given those before it in its sample, in nats."""

    name = "next-token"

    def __init__(self, rows: bool = False) -> None:
        """``rows``: samples are rows with entries that are not scored, and not running text."""
        self._rows = rows

    def __call__(self, model: nn.Module, batch: Tensor) -> ObjectiveOutput:
        """See ``Objective``."""
        logits, targets = predictions(model, batch, self._rows)
        return ObjectiveOutput(functional.cross_entropy(logits.float(), targets), targets.numel())


def build_objective(recipe: Recipe, teacher: nn.Module | None, reference: nn.Module | None) -> Objective:
    """The objective of a recipe.

    ``teacher`` is there exactly for distillation. ``reference``, for preferences, is the model as it was at the
    start; None is for a model with an adapter, which is its own reference without it.
    """
    rows = layout_of(recipe.data) == "rows"
    match recipe.training.objective:
        case "distill":
            assert teacher is not None and recipe.teacher is not None
            return Distillation(teacher, recipe.teacher.temperature, recipe.teacher.weight, rows)
        case "dpo":
            return DirectPreference((recipe.preference or PreferenceSection()).beta, reference)
        case "next-token":
            return NextToken(rows)


def objective_named(name: str) -> Objective:
    """The objective of running text that a recipe names and that needs no other model."""
    assert name == NextToken.name
    return NextToken()

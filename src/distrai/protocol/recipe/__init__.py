"""Recipes: all that a run needs, read strictly, and resolved to the bytes whose hash is on the ledger."""

from distrai.protocol.recipe.money import Contracts, Rewards, Stake
from distrai.protocol.recipe.reading import RecipeError
from distrai.protocol.recipe.resolved import ResolvedRecipe, TensorLayout, parse_recipe, recipe_bytes
from distrai.protocol.recipe.rules import stall_seconds_min
from distrai.protocol.recipe.sections import (
    ALL_LINEAR,
    AdapterSection,
    AlgorithmSection,
    DataSection,
    EvaluationSection,
    LimitsSection,
    MembershipSection,
    ModelSection,
    PreferenceSection,
    Recipe,
    RoundsSection,
    TeacherSection,
    TrainingSection,
    to_mapping,
)

__all__ = [
    "ALL_LINEAR",
    "AdapterSection",
    "AlgorithmSection",
    "Contracts",
    "DataSection",
    "EvaluationSection",
    "LimitsSection",
    "MembershipSection",
    "ModelSection",
    "PreferenceSection",
    "Recipe",
    "RecipeError",
    "ResolvedRecipe",
    "Rewards",
    "RoundsSection",
    "Stake",
    "TeacherSection",
    "TensorLayout",
    "TrainingSection",
    "parse_recipe",
    "recipe_bytes",
    "stall_seconds_min",
    "to_mapping",
]

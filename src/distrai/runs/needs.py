"""What a recipe's local run will take, told from its model and codec without training anything."""

from dataclasses import dataclass

import torch

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.layout import Layout
from distrai.protocol.recipe import Recipe
from distrai.runs.recipes import algorithm_spec
from distrai.training.model import build_model, mark_trainable, model_from_config, trainable_layout

CORPUS_BYTES = 64 << 20
"""About the built-in corpus and its relatives; other data is its user's to know."""
STATES_KEPT = 4
KEPT_BY_OTHERS = 8
"""Rounds whose updates a peer keeps that is not the archive."""


@dataclass(frozen=True)
class Needs:
    """Bytes of one update, and of disk for all peers together."""

    parameters: int
    update_bytes: int
    disk_bytes: int


def needs_of(recipe: Recipe) -> Needs:
    """What a run takes. Raises what the model's configuration does; a pretrained model is loaded to be counted."""
    algorithm = Algorithm(algorithm_spec(recipe.algorithm), _layout(recipe))
    peers, rounds = recipe.membership.peers, recipe.rounds.count
    updates = (rounds + (peers - 1) * min(rounds, KEPT_BY_OTHERS)) * peers * algorithm.payload_size
    homes = peers * (CORPUS_BYTES + STATES_KEPT * 2 * algorithm.state_size)
    return Needs(algorithm.layout.numel, algorithm.payload_size, updates + homes)


def _layout(recipe: Recipe) -> Layout:
    if recipe.model.source == "pretrained":
        return trainable_layout(build_model(recipe.model, recipe.seed))
    with torch.device("meta"):  # shapes without memory
        return mark_trainable(model_from_config(recipe.model.config), recipe.model.trainable)

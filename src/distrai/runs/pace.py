"""How long a step of training takes on this machine: tried for a moment, or estimated where that is too much."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from torch import nn

from distrai.peer.learner import needs_reference
from distrai.protocol.recipe import Recipe
from distrai.runs.recipes import resolve_algorithm
from distrai.training.data.layouts import sample_shape
from distrai.training.device import training_device
from distrai.training.frozen_weights import frozen_on
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import build_model, read_trainable, trainable_layout
from distrai.training.objective import build_objective
from distrai.training.pretrained import load_pretrained, located, located_path
from distrai.training.spec import InnerSpec

TRIED_PARAMETERS_MAX = 20_000_000
STEPS_TRIED, TRIAL_S = 4, 5.0
FLOPS_PER_PARAMETER = 6
"""Of a token's forward and backward pass."""
EFFICIENCY = 0.5
"""Of training beside one large product of matrices."""
_EDGE = 512


@dataclass(frozen=True)
class StepTime:
    """Seconds of one inner step of one peer on its own, and how that is known."""

    seconds: float
    measured: bool

    @property
    def how(self) -> str:
        """In words."""
        if self.measured:
            return "measured: some steps of this very model were tried on this machine"
        return (
            "estimated from how fast this machine multiplies matrices: the model is too large to try quickly"
        )


def step_time(recipe: Recipe, parameters: int, device: str = "auto", folder: Path | None = None) -> StepTime:
    """How long one inner step takes with so many parameters; ``folder`` is where the recipe's paths start.

    Raises what building the model does.
    """
    spec = InnerSpec.from_recipe(replace(recipe, algorithm=resolve_algorithm(recipe.algorithm)))
    where = training_device(device)
    with _one_thread():
        if parameters <= TRIED_PARAMETERS_MAX:
            return StepTime(_tried(recipe, spec, where, folder or Path()), True)
        return StepTime(
            FLOPS_PER_PARAMETER * parameters * spec.step_tokens / (EFFICIENCY * _flops(where)), False
        )


def sharing(peers: int) -> float:
    """How many times longer steps take where so many peers share this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1.0, peers / cores)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As a peer does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tried(recipe: Recipe, spec: InnerSpec, device: torch.device, folder: Path) -> float:
    """Take a few steps on drawn tokens; the first warms up and does not count."""
    section = located(recipe.model, folder)
    model = build_model(section, recipe.seed)
    reference = frozen_on(build_model(section, recipe.seed), device) if needs_reference(recipe) else None
    objective = build_objective(recipe, _teacher(recipe, folder, device), reference)
    vocabulary = int(getattr(model.config, "vocab_size", 256))
    width = sample_shape(spec.layout, spec.context).width
    drawn = torch.Generator().manual_seed(1)

    def read(_: object) -> torch.Tensor:
        return torch.randint(0, vocabulary, (spec.batch, width), generator=drawn)

    ends: list[float] = []
    start = read_trainable(model)
    loop = InnerLoop(model, replace(spec, warmup=0.0), objective, read, device)
    began = time.perf_counter()
    loop.run(
        start,
        InnerState.zeros(trainable_layout(model)),
        count(),
        1,
        steps=min(STEPS_TRIED, spec.inner_steps),
        should_stop=lambda: len(ends) >= 2 and time.perf_counter() - began > TRIAL_S,
        on_step=lambda *_: ends.append(time.perf_counter()),
    )
    return (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - began


def _teacher(recipe: Recipe, folder: Path, device: torch.device) -> nn.Module | None:
    section = recipe.teacher
    if section is None:
        return None
    path = located_path(section.path, folder)
    return frozen_on(load_pretrained(path, section.revision, "teacher"), device)


def _flops(device: torch.device) -> float:
    """Operations in a second, in a product of two matrices."""
    left = torch.ones(_EDGE, _EDGE, device=device)
    (left @ left).sum().item()
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        (left @ left).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * _EDGE**3 / best

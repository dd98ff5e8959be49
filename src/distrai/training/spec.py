"""What the inner loop takes from a recipe, and the learning rate as a function of the position."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from distrai.algorithms.schedule import Schedule
from distrai.protocol.recipe import Recipe, TrainingSection
from distrai.training.data.layouts import Layout, layout_of, sample_shape

InnerStateKind = Literal["kept", "reset", "averaged", "public"]
OptimiserKind = Literal["adamw", "muon", "sgd"]
Precision = Literal["fp32", "bf16", "auto"]
_INNER_STATES: dict[str, InnerStateKind] = {kind: kind for kind in get_args(InnerStateKind)}
_OPTIMISERS: dict[str, OptimiserKind] = {kind: kind for kind in get_args(OptimiserKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerSpec:
    """The settings of inner training."""

    rounds: int
    inner_steps: int
    """H: inner steps in a round, at most."""
    batch: int
    """Samples in a micro-batch."""
    context: int
    """Tokens predicted in a row; a sample is a row, or two of them."""
    lr: float
    accumulation: int = 1
    """Micro-batches in an inner step."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest L2 norm of a gradient; 0 clips nothing."""
    warmup: float = 0.05
    """Share of the whole run over which the learning rate rises."""
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    decay: float = 0.2
    """For ``wsd``: share of the whole run over which the learning rate falls."""
    final_fraction: float = 0.1
    precision: Precision = "auto"
    compile: bool = False
    """Whether the model is compiled for training."""
    inner_optimiser: OptimiserKind = "adamw"
    inner_state: InnerStateKind = "averaged"
    layout: Layout = "windows"

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> "InnerSpec":
        """The inner settings of a recipe whose preset is resolved."""
        algorithm, training = recipe.algorithm, recipe.training
        assert algorithm.inner_steps is not None, "resolve the preset first"
        state = _INNER_STATES.get(algorithm.inner_state or "")
        optimiser = _OPTIMISERS.get(algorithm.inner_optimiser or "")
        assert state is not None and optimiser is not None, "resolve the preset first"
        follows = algorithm.outer_schedule == "training" and optimiser == "sgd"
        if (
            follows
        ):  # the outer rate alone says how far a gradient goes, and gradients of all times weigh alike
            training = replace(training, lr=1.0, warmup=0.0, schedule="constant")
        return cls(
            rounds=recipe.rounds.count,
            inner_steps=algorithm.inner_steps,
            batch=training.batch,
            context=recipe.data.context,
            lr=training.lr,
            accumulation=training.accumulation,
            betas=training.betas,
            eps=training.eps,
            weight_decay=training.weight_decay,
            clip=training.clip,
            warmup=training.warmup,
            schedule=training.schedule,
            decay=training.decay,
            final_fraction=training.final_fraction,
            precision=training.precision,
            compile=training.compile,
            inner_optimiser=optimiser,
            inner_state=state,
            layout=layout_of(recipe.data),
        )

    def in_rounds(self, rounds: int, inner_steps: int) -> "InnerSpec":
        """The same training cut into other rounds."""
        return replace(self, rounds=rounds, inner_steps=inner_steps)

    @property
    def step_samples(self) -> int:
        """Samples in one inner step."""
        return self.batch * self.accumulation

    @property
    def sample_tokens(self) -> int:
        """Tokens predicted in a sample, scored or not: the measure of work, which all must agree on."""
        return sample_shape(self.layout, self.context).tokens

    @property
    def step_tokens(self) -> int:
        """Tokens in one inner step."""
        return self.step_samples * self.sample_tokens

    @property
    def round_samples(self) -> int:
        """Samples that are assigned to a trainer for a round."""
        return self.step_samples * self.inner_steps

    def position(self, round_number: int, step: int) -> float:
        """How far the run is (0 to 1) after inner step ``step`` of round ``round_number``, both from 1."""
        return min(1.0, (round_number - 1 + step / self.inner_steps) / self.rounds)

    def factor(self, position: float) -> float:
        """The learning rate at a position as a share of ``lr``; the same bits on every machine."""
        return Schedule(self.schedule, self.warmup, self.decay, self.final_fraction).factor(position)

    def learning_rate(self, position: float) -> float:
        """The rate at a position: linear warm-up, then what ``schedule`` says."""
        return self.lr * self.factor(position)


def schedule_of(training: TrainingSection) -> Schedule:
    """How a recipe's learning rate goes over the run; outer rates may follow it."""
    return Schedule(training.schedule, training.warmup, training.decay, training.final_fraction)

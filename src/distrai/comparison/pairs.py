"""Peers that meet in pairs: no state in common, the model is the mean of what they have (``algorithms.noloco``)."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distrai.algorithms.noloco import Slow, mean, pairs, step
from distrai.comparison.cells import Cell
from distrai.comparison.outcome import Curve, Outcome
from distrai.comparison.timetable import Job, Round
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState, state_at_round_start
from distrai.training.model import read_trainable, trainable_layout
from distrai.training.objective import objective_named
from distrai.training.spec import InnerSpec

if TYPE_CHECKING:
    from distrai.comparison.laboratory import Laboratory

SENT_BYTES = 8
"""A partner is sent slow weights and pseudo-gradients, in fp32."""


def by_pairs(lab: "Laboratory", cell: Cell, rounds: list[Round], model: nn.Module, curve: Curve) -> Outcome:
    """Everybody trains H steps from its own slow weights, and steps with the partner that the round gives it."""
    spec, count = cell.arm.spec, lab.comparison.peers
    members = _Members(lab, cell, model, len(rounds))
    outcome = Outcome(round_bytes=[SENT_BYTES * trainable_layout(model).numel])
    for number, round_ in enumerate(rounds, start=1):
        deltas = [members.train(job, number, outcome) for job in round_.begun]
        for group in pairs(count, cell.seed, number):
            slow = [members.slow[at] for at in group]
            moved = step(slow, [deltas[at] for at in group], lr=spec.outer_lr, momentum=spec.outer_momentum)
            for at, after in zip(group, moved, strict=True):
                members.slow[at] = after
            sent = outcome.round_bytes[0] * (len(group) if len(group) > 1 else 0)
            outcome.payload_up += sent
            outcome.payload_down += sent
        curve.add(number, outcome.tokens, outcome.payload_up / count, mean(members.slow))
    outcome.params = mean(members.slow)
    return outcome


class _Members:
    """Slow weights, momentum and inner optimiser of everybody."""

    def __init__(self, lab: "Laboratory", cell: Cell, model: nn.Module, rounds: int) -> None:
        self.inner = InnerSpec.from_recipe(cell.recipe(lab.comparison, rounds))
        objective, read = objective_named(cell.arm.training.objective), lab.dataset("train").batch
        self.loop = InnerLoop(model, self.inner, objective, read, lab.device)
        self.lab, self.cell, self.layout = lab, cell, trainable_layout(model)
        self.slow = [Slow.initial(read_trainable(model)) for _ in range(lab.comparison.peers)]
        self.kept: dict[int, InnerState] = {}

    def train(self, job: Job, number: int, outcome: Outcome) -> tuple[Tensor, ...]:
        """The pseudo-gradients of one peer in a round, from its own slow weights."""
        start, size = self.slow[job.peer].params, self.inner.step_samples
        samples = self.lab.samples(self.cell.seed, job.peer, job.first_step * size, job.steps * size)
        begun = state_at_round_start(self.inner, self.layout, number, self.kept.get(job.peer))
        seed = self.cell.seed + number
        done = self.loop.run(start, begun, samples, number, steps=job.steps, seed=seed)
        self.kept[job.peer] = done.state
        outcome.tokens += done.tokens
        outcome.steps += done.steps
        outcome.train_s += done.seconds
        outcome.trained_steps += done.steps
        return done.delta(start)

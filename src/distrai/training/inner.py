"""The inner loop: what one peer does between the start of a round and its update.

It starts from parameters and a state of the optimiser, takes some of the round's H inner steps on the samples assigned
to it, and returns where it arrived. On one machine the same input gives the same bits, and a round in two segments
gives those of one.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor, nn

from distrai.training.compiling import compiled, explained
from distrai.training.device import autocast, reproducible
from distrai.training.errors import Diverged, NotEnoughSamples
from distrai.training.inner_state import Decays, InnerState
from distrai.training.model import load_trainable, read_trainable, trainable_parameters
from distrai.training.objective import Objective, ObjectiveOutput
from distrai.training.optimisers import InnerOptimiser, build_optimiser, moment_decays
from distrai.training.spec import InnerSpec

ReadBatch = Callable[[Sequence[int]], Tensor]
"""Sample indices to ``(samples, width)`` int64; ``Dataset.batch`` is one."""


@dataclass(frozen=True, slots=True)
class InnerResult:
    """Where a peer arrived."""

    local: tuple[Tensor, ...]
    """Its parameters, in layout order (fp32, CPU)."""
    state: InnerState
    """The state of its optimiser."""
    losses: tuple[float, ...]
    """The training loss of every inner step done (nats a token, or a pair); fewer than asked for if it was stopped."""
    tokens: int
    seconds: float
    """Time that the steps took; for people, never for decisions that others must agree with."""

    @property
    def steps(self) -> int:
        """Inner steps done."""
        return len(self.losses)

    @property
    def loss_mean(self) -> float:
        """Mean training loss over the steps (nats a token); NaN after no step."""
        return math.fsum(self.losses) / self.steps if self.losses else math.nan

    def delta(self, start: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The pseudo-gradient: start - local, the direction of descent."""
        return tuple(before - after for before, after in zip(start, self.local, strict=True))

    def after(self, earlier: "InnerResult") -> "InnerResult":
        """Both segments of a round as one: this one followed ``earlier``."""
        return replace(
            self,
            losses=earlier.losses + self.losses,
            tokens=earlier.tokens + self.tokens,
            seconds=earlier.seconds + self.seconds,
        )


class InnerLoop:
    """Runs rounds of inner training on one model, which it moves to its device and overwrites."""

    def __init__(
        self,
        model: nn.Module,
        spec: InnerSpec,
        objective: Objective,
        read: ReadBatch,
        device: torch.device,
        backend: str = "inductor",
    ) -> None:
        self._model, self._spec, self._objective, self._read = model.to(device), spec, objective, read
        self._device = device
        self._parameters = trainable_parameters(model)
        self._forward = compiled(self._model, backend) if spec.compile else self._model

    @property
    def decays(self) -> Decays:
        """By what an inner step multiplies what the moments of each tensor were."""
        return moment_decays(self._spec, self._model)

    def run(
        self,
        start: Sequence[Tensor],
        state: InnerState,
        indices: Iterable[int],
        round_number: int,
        *,
        first_step: int = 1,
        steps: int | None = None,
        seed: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
        finish: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] | None = None,
    ) -> InnerResult:
        """Take ``steps`` inner steps (None: up to H) of round ``round_number`` from its step ``first_step`` on.

        It begins at ``start`` (parameters in layout order) and ``state``; neither is changed. ``indices`` are
        the samples of these steps, in order; ``seed`` is for dropout. ``should_stop`` is asked before every
        step, ``finish`` after it; ``on_step`` is told each step done (its number in the round) with its loss.
        Raises NotEnoughSamples, Diverged (the loss is no number), CannotCompile, WrongTensors, or what reading
        samples raises.
        """
        wanted = self._spec.inner_steps - first_step + 1 if steps is None else steps
        assert 0 < wanted <= self._spec.inner_steps - first_step + 1 and first_step >= 1 and round_number >= 1
        load_trainable(self._model, start)
        optimiser = build_optimiser(self._spec, self._model, state)
        for parameter in self._parameters:
            parameter.grad = None  # a run that raised may have left some
        self._model.train()
        began, losses, samples = perf_counter(), [], iter(indices)
        with reproducible(self._device, seed), explained():
            for step in range(first_step, first_step + wanted):
                if should_stop():
                    break
                torch.manual_seed(_step_seed(seed, step))
                rate = self._spec.learning_rate(self._spec.position(round_number, step))
                losses.append(self._step(optimiser, rate, samples))
                if on_step:
                    on_step(step, losses[-1])
                if finish():
                    break
        return self._result(optimiser, state, losses, perf_counter() - began)

    def _step(self, optimiser: InnerOptimiser, rate: float, samples: Iterator[int]) -> float:
        """One step on the mean over everything scored in its micro-batches: of rows more in one than in another.

        How much that is, is known at the end; until then they are weighed against the first. Where all score alike,
        as in running text, nothing is weighed.
        """
        loss, first, scored = 0.0, 0, 0
        for _ in range(self._spec.accumulation):
            output = self._objective_of(samples)
            first = first or output.scored
            divisor = self._spec.accumulation * first / output.scored
            (output.loss / divisor).backward()  # type: ignore[no-untyped-call]
            loss += output.loss.item() / divisor
            scored += output.scored
        right = self._spec.accumulation * first / scored
        if right != 1:
            loss *= right
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(right)
        if not math.isfinite(loss):
            raise Diverged(f"the training loss became {loss}; lower lr in [training], or raise its warmup")
        if self._spec.clip > 0:
            nn.utils.clip_grad_norm_(self._parameters, self._spec.clip)
        optimiser.step(rate)
        return loss

    def _objective_of(self, samples: Iterator[int]) -> ObjectiveOutput:
        indices = list(islice(samples, self._spec.batch))
        if len(indices) < self._spec.batch:
            raise NotEnoughSamples(
                f"a step reads {self._spec.step_samples} samples, but no more were assigned"
            )
        batch = self._read(indices).to(self._device, non_blocking=True)
        with autocast(self._spec.precision, self._device):
            return self._objective(self._forward, batch)

    def _result(
        self, optimiser: InnerOptimiser, before: InnerState, losses: Sequence[float], seconds: float
    ) -> InnerResult:
        m, v = optimiser.moments()
        steps, restart = len(losses), before.restart
        if restart is not None:
            restart = replace(restart, steps=restart.steps + steps)
        return InnerResult(
            local=read_trainable(self._model),
            state=InnerState(m, v, before.steps + steps, restart),
            losses=tuple(losses),
            tokens=steps * self._spec.step_tokens,
            seconds=seconds,
        )


def _step_seed(seed: int, step: int) -> int:
    """What a step draws from: its own, so that a round may be cut anywhere. Torch wants 64 bits, well mixed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:8], "little")

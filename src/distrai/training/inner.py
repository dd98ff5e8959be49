"""The inner loop: what one peer does between the start of a round and its update.

It starts from the round's global parameters, takes up to H steps of AdamW on the samples assigned to it, and
returns where it arrived. On one machine the same input gives the same bits.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor, nn

from distrai.training.device import autocast, reproducible
from distrai.training.errors import Diverged, NotEnoughSamples
from distrai.training.inner_state import InnerState
from distrai.training.model import load_trainable, read_trainable, trainable_parameters
from distrai.training.objective import Objective
from distrai.training.spec import InnerSpec

ReadBatch = Callable[[Sequence[int]], Tensor]
"""Sample indices to ``(samples, context + 1)`` int64; ``Dataset.batch`` is one."""


@dataclass(frozen=True, slots=True)
class InnerResult:
    """Where a peer arrived."""

    local: tuple[Tensor, ...]
    """Its parameters, in layout order (fp32, CPU)."""
    state: InnerState
    """The state of its optimiser."""
    steps: int
    """Inner steps done; fewer than asked for if it was stopped."""
    tokens: int
    loss_mean: float
    """Mean training loss over the steps (nats a token); NaN after no step."""
    seconds: float
    """Time that the steps took; for people, never for decisions that others must agree with."""

    def delta(self, start: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The pseudo-gradient: start - local, the direction of descent."""
        return tuple(before - after for before, after in zip(start, self.local, strict=True))


class InnerLoop:
    """Runs rounds of inner training on one model, which it moves to its device and overwrites."""

    def __init__(
        self, model: nn.Module, spec: InnerSpec, objective: Objective, read: ReadBatch, device: torch.device
    ) -> None:
        self._model, self._spec, self._objective, self._read = model.to(device), spec, objective, read
        self._device = device
        self._parameters = trainable_parameters(model)

    def run(
        self,
        start: Sequence[Tensor],
        state: InnerState,
        indices: Iterable[int],
        round_number: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] | None = None,
    ) -> InnerResult:
        """Take ``steps`` (H if None) inner steps of round ``round_number``, beginning at ``start`` and ``state``.

        ``start`` is parameters in layout order; neither it nor ``state`` is changed. ``indices`` are the
        samples assigned, in order; ``seed`` is for dropout. ``should_stop`` is asked before every step,
        ``on_step`` is told each step done (from 1) with its loss.
        Raises NotEnoughSamples, Diverged (the loss is no number), WrongTensors, or what reading samples raises.
        """
        wanted = self._spec.inner_steps if steps is None else steps
        assert 0 < wanted <= self._spec.inner_steps and round_number >= 1
        load_trainable(self._model, start)
        optimiser = self._optimiser(state)
        optimiser.zero_grad(set_to_none=True)  # a run that raised may have left some
        self._model.train()
        began, losses, samples = perf_counter(), [], iter(indices)
        with reproducible(self._device, seed):
            for step in range(1, wanted + 1):
                if should_stop():
                    break
                rate = self._spec.learning_rate(self._spec.position(round_number, step))
                losses.append(self._step(optimiser, rate, samples))
                if on_step:
                    on_step(step, losses[-1])
        return self._result(optimiser, state.steps, losses, perf_counter() - began)

    def _step(self, optimiser: torch.optim.AdamW, rate: float, samples: Iterator[int]) -> float:
        loss = 0.0
        for _ in range(self._spec.accumulation):
            output = self._objective_of(samples)
            (output / self._spec.accumulation).backward()  # type: ignore[no-untyped-call]
            loss += output.item() / self._spec.accumulation
        if not math.isfinite(loss):
            raise Diverged(f"the training loss became {loss}; lower lr in [training], or raise its warmup")
        if self._spec.clip > 0:
            nn.utils.clip_grad_norm_(self._parameters, self._spec.clip)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    def _objective_of(self, samples: Iterator[int]) -> Tensor:
        indices = list(islice(samples, self._spec.batch))
        if len(indices) < self._spec.batch:
            raise NotEnoughSamples(
                f"a step reads {self._spec.step_samples} samples, but no more were assigned"
            )
        batch = self._read(indices).to(self._device, non_blocking=True)
        with autocast(self._spec.precision, self._device):
            return self._objective(self._model, batch).loss

    def _optimiser(self, state: InnerState) -> torch.optim.AdamW:
        """AdamW (Loshchilov and Hutter 2019) going on from ``state``; weight decay on matrices only."""
        groups = [
            {
                "params": [item for item in self._parameters if item.ndim >= 2],
                "weight_decay": self._spec.weight_decay,
            },
            {"params": [item for item in self._parameters if item.ndim < 2], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self._spec.lr,
            betas=self._spec.betas,
            eps=self._spec.eps,
            fused=True,
        )
        for parameter, m, v in zip(self._parameters, state.m, state.v, strict=True):
            # Copies: the optimiser writes into its state, and load_state_dict would alias ours.
            optimiser.state[parameter] = {
                "step": torch.tensor(float(state.steps), device=self._device),
                "exp_avg": m.to(self._device, torch.float32, copy=True),
                "exp_avg_sq": v.to(self._device, torch.float32, copy=True),
            }
        return optimiser

    def _result(
        self, optimiser: torch.optim.AdamW, steps_before: int, losses: Sequence[float], seconds: float
    ) -> InnerResult:
        states = [optimiser.state[item] for item in self._parameters]
        m, v = (tuple(item[key].cpu() for item in states) for key in ("exp_avg", "exp_avg_sq"))
        steps = len(losses)
        return InnerResult(
            local=read_trainable(self._model),
            state=InnerState(m, v, steps_before + steps),
            steps=steps,
            tokens=steps * self._spec.step_tokens,
            loss_mean=math.fsum(losses) / steps if steps else math.nan,
            seconds=seconds,
        )

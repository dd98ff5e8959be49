"""Data-parallel training, the baseline: gradients averaged over all peers before every AdamW step.

The average over peers of the gradients of their batches is the gradient accumulated over those batches, so
this is the inner loop with one optimiser and ``peers`` times the accumulation; nothing is encoded, and every
peer is bit for bit the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn

from distrai.training.inner import InnerLoop, ReadBatch
from distrai.training.inner_state import InnerState
from distrai.training.model import read_trainable, trainable_layout
from distrai.training.objective import Objective
from distrai.training.spec import InnerSpec

GRADIENT_BYTES = 4
"""Data-parallel sends 4 bytes per parameter and step up, by definition."""


@dataclass(frozen=True, slots=True)
class BaselineRound:
    """What is known after as many steps as a round has."""

    round: int
    params: tuple[Tensor, ...]
    loss_mean: float
    bytes_up: int
    """Bytes that a peer has sent since the start."""


def data_parallel(
    model: nn.Module,
    spec: InnerSpec,
    objective: Objective,
    read: ReadBatch,
    samples_of: Callable[[int, int, int], Sequence[int]],
    peers: int,
    device: torch.device,
    on_round: Callable[[BaselineRound], None] | None = None,
) -> BaselineRound:
    """Train ``model`` for all rounds of ``spec`` as ``peers`` data-parallel peers would.

    ``samples_of(round, step, peer)`` (from 1, 1, 0) gives the ``spec.step_samples`` sample indices that a
    peer reads in a step.
    """
    loop = InnerLoop(model, replace(spec, accumulation=spec.accumulation * peers), objective, read, device)
    layout = trainable_layout(model)
    params, state = read_trainable(model), InnerState.zeros(layout)
    done = BaselineRound(0, params, float("nan"), 0)
    for number in range(1, spec.rounds + 1):
        steps = range(1, spec.inner_steps + 1)
        blocks = (samples_of(number, step, peer) for step in steps for peer in range(peers))
        result = loop.run(done.params, state, chain.from_iterable(blocks), number, seed=number)
        state = result.state
        sent = done.bytes_up + GRADIENT_BYTES * layout.numel * result.steps
        done = BaselineRound(number, result.local, result.loss_mean, sent)
        if on_round:
            on_round(done)
    return done

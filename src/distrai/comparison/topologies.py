"""How the peers of a run meet: everybody in every certificate, every gradient averaged, or pairs.

Nothing here stands in for the real thing. What one peer does in a round is ``training.contribution``, payloads are
encoded, aggregated and stepped by ``algorithms``; only the network is left out, since it changes no bits.
"""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from torch import nn

from distrai.algorithms.algorithm import Algorithm, Entry
from distrai.algorithms.selftest import consensus_device
from distrai.algorithms.state import GlobalState
from distrai.comparison.cells import Cell
from distrai.comparison.outcome import Curve, Outcome
from distrai.comparison.pairs import by_pairs
from distrai.comparison.timetable import Job, Round
from distrai.training.baseline import BaselineRound, data_parallel
from distrai.training.contribution import Contributor, Trained
from distrai.training.errors import Diverged
from distrai.training.inner import InnerLoop
from distrai.training.model import read_trainable, trainable_layout
from distrai.training.objective import objective_named
from distrai.training.private import PrivateState
from distrai.training.spec import InnerSpec, schedule_of

if TYPE_CHECKING:
    from distrai.comparison.laboratory import Laboratory

Topology = Callable[["Laboratory", Cell, list[Round], nn.Module, Curve], Outcome]
"""Trains a cell on a model by a timetable. Raises Diverged."""


def topology_of(cell: Cell) -> Topology:
    """The one that a cell's algorithm asks for."""
    if cell.arm.averages_gradients:
        return by_gradients
    return by_certificates if cell.arm.spec.global_state else by_pairs


def by_certificates(
    lab: "Laboratory", cell: Cell, rounds: list[Round], model: nn.Module, curve: Curve
) -> Outcome:
    """Every certificate lists updates of anybody, and leads to one state for all."""
    inner = InnerSpec.from_recipe(cell.recipe(lab.comparison, len(rounds)))
    schedule = schedule_of(cell.arm.training)
    algorithm = Algorithm(
        cell.arm.spec,
        trainable_layout(model),
        consensus_device(lab.device),
        rate=lambda number: schedule.factor(number / len(rounds)),
    )
    peers = _Peers(lab, cell, algorithm, inner, model)
    state = algorithm.initial_state(read_trainable(model))
    outcome = Outcome(round_bytes=list(algorithm.payload_sizes))
    for number, round_ in enumerate(rounds, start=1):
        peers.train(number, round_.begun, state, outcome)
        if round_.listed:
            entries = [peers.entry(job, number) for job in round_.listed]
            result = algorithm.step(state, entries, round=number)
            if not all(result.weights):
                reasons = "; ".join(sorted({reason for reason in result.reasons if reason}))
                raise Diverged(f"updates of round {number} did not count: {reasons}")
            state = result.state
        peers.settle(round_, outcome)
        curve.add(number, outcome.tokens, outcome.payload_up / lab.comparison.peers, state.params)
    outcome.params = state.params
    return outcome


class _Peers:
    """What every peer has to itself, and what it has under way."""

    def __init__(
        self, lab: "Laboratory", cell: Cell, algorithm: Algorithm, inner: InnerSpec, model: nn.Module
    ) -> None:
        read = lab.dataset("train").batch
        loop = InnerLoop(model, inner, objective_named(cell.arm.training.objective), read, lab.device)
        self.contributor = Contributor(algorithm, inner, loop)
        self.lab, self.cell, self.inner = lab, cell, inner
        self.private = [PrivateState() for _ in range(lab.comparison.peers)]
        self.under_way: dict[int, Trained] = {}

    def train(self, number: int, jobs: Sequence[Job], state: GlobalState, outcome: Outcome) -> None:
        """Train what begins in round ``number``."""
        for job in jobs:
            trained = self.contributor.train(
                number,
                state,
                self.private[job.peer],
                self._samples(job),
                steps=job.steps,
                seed=self.cell.seed + number,
            )
            assert trained is not None, "nobody stops it"
            self.under_way[job.peer] = trained
            outcome.train_s += trained.seconds
            outcome.trained_steps += trained.steps

    def entry(self, job: Job, number: int) -> Entry:
        """What the certificate of round ``number`` says of an update."""
        trained = self.under_way[job.peer]
        age = number - (job.base + 1)
        return Entry(bytes([job.peer]) * 32, trained.tokens, trained.payload, staleness=age)

    def settle(self, round_: Round, outcome: Outcome) -> None:
        """Every peer learns whether its update counted."""
        listed = [self._settled(job, counted=True) for job in round_.listed]
        total = sum(len(trained.payload) for trained in listed)
        outcome.payload_up += total
        outcome.payload_down += total * (self.lab.comparison.peers - 1)
        outcome.tokens += sum(trained.tokens for trained in listed)
        outcome.steps += sum(trained.steps for trained in listed)
        dropped = [self._settled(job, counted=False) for job in round_.dropped]
        outcome.steps_dropped += sum(trained.steps for trained in dropped)

    def _settled(self, job: Job, *, counted: bool) -> Trained:
        trained = self.under_way.pop(job.peer)
        self.private[job.peer] = trained.settle(counted)
        return trained

    def _samples(self, job: Job) -> Iterator[int]:
        step = self.inner.step_samples
        return self.lab.samples(self.cell.seed, job.peer, job.first_step * step, job.steps * step)


def by_gradients(
    lab: "Laboratory", cell: Cell, rounds: list[Round], model: nn.Module, curve: Curve
) -> Outcome:
    """Data-parallel: gradients averaged over everybody before each step; a round is only where it is looked at."""
    del rounds
    most = max(1, cell.steps // curve.wanted)
    unit = max(size for size in range(1, most + 1) if cell.steps % size == 0)
    inner = InnerSpec.from_recipe(cell.recipe(lab.comparison, cell.steps))
    inner = inner.in_rounds(cell.steps // unit, unit)
    peers, outcome = lab.comparison.peers, Outcome()
    curve.rounds = inner.rounds

    def samples_of(number: int, step: int, peer: int) -> list[int]:
        first = ((number - 1) * unit + step - 1) * inner.step_samples
        return list(lab.samples(cell.seed, peer, first, inner.step_samples))

    began = perf_counter()

    def on_round(done: BaselineRound) -> None:
        nonlocal began
        outcome.train_s += perf_counter() - began
        outcome.trained_steps = done.round * unit * peers
        outcome.params, outcome.payload_up = done.params, done.bytes_up * peers
        outcome.steps = outcome.trained_steps
        outcome.tokens = outcome.steps * inner.step_tokens
        curve.add(done.round, outcome.tokens, done.bytes_up, done.params)
        began = perf_counter()

    read = lab.dataset("train").batch
    data_parallel(
        model,
        inner,
        objective_named(cell.arm.training.objective),
        read,
        samples_of,
        peers,
        lab.device,
        on_round,
    )
    outcome.payload_down = outcome.payload_up
    outcome.round_bytes = [outcome.payload_up // max(1, outcome.steps)]
    return outcome

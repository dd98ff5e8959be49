"""What one member does in a round: inner steps, a payload, and what it keeps to itself until the next round.

The worker of a peer and ``compare`` both use it, so there is one engine. Where a round may begin before the last one
is certified (``overlap`` tau), its first tau inner steps run from a guess: the state that the own update alone leads
to, or the own replica. At inner step tau the certified state is there, and what was guessed wrong is put right. That
the place is fixed makes the result a function of what was published and not of the clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.state import GlobalState
from distrai.training.inner import InnerLoop, InnerResult
from distrai.training.inner_state import InnerState, as_begun, corrected, state_at_round_start
from distrai.training.private import Onward, PrivateState, Trained
from distrai.training.spec import InnerSpec

__all__ = ["Ahead", "Contributor", "Trained"]
StepReport = Callable[[int, float], None]
"""Told the number of an inner step in its round, and its loss."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Ahead:
    """The first inner steps of a round, taken before the state it starts from was certified."""

    onward: Onward
    """What they started from; they are steps of round ``onward.round + 1``."""
    result: InnerResult


class Contributor:
    """Takes a member's part in rounds of one run. It has no memory of its own: states go in and come out."""

    def __init__(self, algorithm: Algorithm, inner: InnerSpec, loop: InnerLoop) -> None:
        self.algorithm, self.inner, self.loop = algorithm, inner, loop
        self._tau = algorithm.spec.overlap
        self._replica = algorithm.spec.start == "replica"

    def ahead(
        self,
        onward: Onward,
        samples: Iterable[int],
        *,
        seed: int = 0,
        should_stop: Callable[[], bool] = _never,
        on_step: StepReport | None = None,
    ) -> Ahead | None:
        """The first tau inner steps of round ``onward.round + 1``; None if it was stopped before their end.

        ``samples`` and ``seed`` are those that ``train`` will be given. Raises what ``InnerLoop.run`` raises.
        """
        started = as_begun(self.inner, onward.inner)
        if self._tau == 0:
            return Ahead(onward, InnerResult(onward.params, started, (), 0, 0.0))
        result = self.loop.run(
            onward.params,
            started,
            samples,
            onward.round + 1,
            steps=self._tau,
            seed=seed,
            should_stop=should_stop,
            on_step=on_step,
        )
        return Ahead(onward, result) if result.steps == self._tau else None

    def train(
        self,
        round: int,
        state: GlobalState,
        private: PrivateState,
        samples: Iterable[int],
        *,
        steps: int | None = None,
        ahead: Ahead | None = None,
        seed: int = 0,
        should_stop: Callable[[], bool] = _never,
        finish: Callable[[], bool] = _never,
        on_step: StepReport | None = None,
    ) -> Trained | None:
        """The member's part of a round that starts from ``state``; None if it was stopped before the end.

        ``samples`` are those of the whole round; ``steps`` are at most H (None: H), but never fewer than were
        taken ahead. ``ahead`` are steps of this round that were taken already; if there are none, or they
        belong to something else, they are taken now, with the same bits. ``finish`` is asked after every step
        from the correction on: then that is enough. Raises what ``InnerLoop.run`` raises.
        """
        indices, onward = iter(samples), private.onward
        if onward is None or onward.round != round - 1:
            begun, tau = self._afresh(round, state, private), 0
        else:
            if ahead is not None and _same(ahead.onward, onward):
                read = self._tau * self.inner.step_samples
                next(islice(indices, read, read), None)
            else:
                ahead = self.ahead(onward, indices, seed=seed, should_stop=should_stop, on_step=on_step)
            if ahead is None:
                return None
            begun, tau = self._joined(ahead, state), self._tau
        done = begun
        wanted = self.inner.inner_steps if steps is None else steps
        if tau < wanted and not (tau and finish()):
            rest = self.loop.run(
                begun.local,
                begun.state,
                indices,
                round,
                first_step=tau + 1,
                steps=wanted - tau,
                seed=seed,
                should_stop=should_stop,
                finish=finish,
                on_step=on_step,
            )
            done = rest.after(begun)
        if should_stop() or not done.steps:
            return None
        return self._contributed(round, state, private, done, tau)

    def _afresh(self, round: int, state: GlobalState, private: PrivateState) -> InnerResult:
        """A start from the certified state alone: nothing done yet."""
        layout = self.algorithm.layout
        inner = state_at_round_start(self.inner, layout, round, private.inner, state.moments)
        return InnerResult(state.params, inner, (), 0, 0.0)

    def _joined(self, ahead: Ahead, state: GlobalState) -> InnerResult:
        """What was done ahead, put right by the certified ``state``."""
        round, result, onward = ahead.onward.round + 1, ahead.result, ahead.onward
        if self._replica:
            merged = self.algorithm.merge(result.local, state, round - 1)
            return _moved(result, merged, result.state)
        shifts = zip(result.local, state.params, onward.params, strict=True)
        local = tuple(now + (right.cpu() - guess) for now, right, guess in shifts)
        if state.moments is None:
            return _moved(result, local, result.state)
        certified = state_at_round_start(self.inner, self.algorithm.layout, round, None, state.moments)
        inner = corrected(result.state, onward.inner, certified, result.steps, self.loop.decays)
        return _moved(result, local, inner)

    def _contributed(
        self, round: int, state: GlobalState, private: PrivateState, done: InnerResult, tau: int
    ) -> Trained:
        delta = self.algorithm.delta(state.params, done.local, round)
        encoded = self.algorithm.encode(delta, done.state.moments, private.feedback, round)
        inner = done.state if self.inner.inner_state == "kept" else None
        return Trained(
            encoded.payload,
            done.steps,
            done.tokens,
            done.loss_mean,
            done.seconds,
            tau,
            encoded.pending_feedback,
            encoded.carried_feedback,
            inner,
            self._onward(round, state, encoded.payload, done),
            self._replica,
        )

    def _onward(self, round: int, state: GlobalState, payload: bytes, done: InnerResult) -> Onward | None:
        """Where the next round begins: the replica, or what the own payload alone makes of the state."""
        if not self._replica and not self._tau:
            return None
        params, common = done.local, None
        if not self._replica:
            predicted = self.algorithm.predict(state, payload, round)
            params, common = _cpu(predicted.params), predicted.moments
        layout = self.algorithm.layout
        inner = state_at_round_start(self.inner, layout, round + 1, done.state, common)
        return Onward(round, params, inner)


def _moved(result: InnerResult, local: Iterable[Tensor], state: InnerState) -> InnerResult:
    return InnerResult(_cpu(local), state, result.losses, result.tokens, result.seconds)


def _cpu(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.cpu() for tensor in tensors)


def _same(one: Onward, other: Onward) -> bool:
    """Whether steps from the one are steps from the other."""
    return one is other or (
        one.round == other.round
        and all(torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True))
    )

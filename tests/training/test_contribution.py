"""A few members that train and meet without a network: what they do in a round, fresh and ahead."""

from dataclasses import replace

import pytest
import torch

from distrai.algorithms.algorithm import Algorithm, Entry
from distrai.algorithms.presets import resolve_preset
from distrai.training.contribution import Contributor, Trained
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import build_model, read_trainable, trainable_layout
from distrai.training.objective import NextToken
from distrai.training.private import PrivateState
from training.tiny import GPT2, GRANITE, model_section

CPU = torch.device("cpu")
MEMBERS = 2
H, ROUND = 4, 8
"""Inner steps of a round, and the samples that they read."""


class Bench:
    """Members of one run who meet after every round."""

    def __init__(self, train, inner, preset="diloco", config=GRANITE, **changes):
        algorithm = resolve_preset(preset, {"inner_steps": H, "inner_state": "kept"} | changes)
        self.model = build_model(model_section(config), seed=1)
        self.inner = replace(inner, inner_state=algorithm.inner_state, inner_steps=algorithm.inner_steps)
        self.algorithm = Algorithm(algorithm, trainable_layout(self.model))
        self.loop = InnerLoop(self.model, self.inner, NextToken(), train.batch, CPU)
        self.contributor = Contributor(self.algorithm, self.inner, self.loop)
        self.state = self.algorithm.initial_state(read_trainable(self.model))
        self.round = 1
        self.private = [PrivateState() for _ in range(MEMBERS)]

    def samples(self, member, number=None):
        first = ((number or self.round) * MEMBERS + member) * ROUND
        return iter(range(first, first + ROUND))

    def seed(self, number=None):
        return 100 + (number or self.round)

    def train(self, member, **more):
        return self.contributor.train(
            self.round,
            self.state,
            self.private[member],
            self.samples(member),
            seed=self.seed(),
            **more,
        )

    def ahead(self, trained, member, **more):
        number = self.round + 1
        samples, seed = self.samples(member, number), self.seed(number)
        return self.contributor.ahead(trained.onward, samples, seed=seed, **more)

    def meet(self, trained, counted=None):
        """Certify the updates of these members (all if None)."""
        listed = range(len(trained)) if counted is None else counted
        entries = [Entry(bytes([at]) * 32, trained[at].tokens, trained[at].payload) for at in listed]
        self.state = self.algorithm.step(self.state, entries, round=self.round).state
        self.private = [each.settle(at in listed) for at, each in enumerate(trained)]
        self.round += 1

    def rounds(self, count, members=MEMBERS):
        """Train and meet; what was trained in the last round."""
        for _ in range(count):
            trained = [self.train(at) for at in range(members)]
            self.meet(trained)
        return trained


@pytest.fixture
def bench(train, spec):
    def made(preset="diloco", **changes):
        return Bench(train, spec, preset, **changes)

    return made


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def close(first, second, **bounds):
    return all(torch.allclose(a, b, **bounds) for a, b in zip(first, second, strict=True))


AHEAD = {
    "kept": {"overlap": 2},
    "averaged": {"overlap": 2, "inner_state": "averaged"},
    "reset": {"overlap": 3, "inner_state": "reset"},
    "muon": {"overlap": 2, "inner_state": "averaged"},
    "replica": {"overlap": 2, "start": "replica", "merge_alpha": 0.5},
    "public": {
        "preset": "sparseloco",
        "overlap": 2,
        "inner_state": "public",
        "codec_options": {"k": 256},
    },
}


def test_a_round_from_the_certified_state_is_inner_steps_and_an_encoded_delta(bench):
    run = bench()
    trained = run.train(1)
    result = run.loop.run(
        run.state.params, InnerState.zeros(run.algorithm.layout), run.samples(1), 1, seed=101
    )
    delta = run.algorithm.delta(run.state.params, result.local)
    assert trained.payload == run.algorithm.encode(delta).payload
    assert (trained.steps, trained.tokens, trained.tau, trained.onward) == (4, 128, 0, None)
    assert trained.loss_mean == result.loss_mean
    assert same(trained.inner.m, result.state.m) and trained.settle(True).inner is trained.inner


def test_error_feedback_is_settled_by_what_counts(bench):
    run = bench("sparseloco", codec_options={"k": 64})
    trained = [run.train(at) for at in range(2)]
    run.meet(trained, counted=[0])
    assert same(run.private[0].feedback, trained[0].if_counted)
    assert same(run.private[1].feedback, trained[1].if_not)
    again = run.train(1)
    run.private[1] = replace(run.private[1], feedback=None)
    assert again.payload != run.train(1).payload


@pytest.mark.parametrize("kind", AHEAD)
def test_ahead_or_in_one_go_or_after_a_restart_it_is_the_same(bench, spec, train, kind):
    inner = replace(spec, inner_optimiser="muon") if kind == "muon" else spec
    # Dropout: what is drawn has to go on where the round is cut.
    run = Bench(train, inner, config=GPT2 | {"resid_pdrop": 0.2}, **AHEAD[kind])
    first = [run.train(at) for at in range(MEMBERS)]
    assert first[0].tau == 0 and first[0].steps == H
    early = run.ahead(first[0], 0)
    run.meet(first)
    told = []
    one_go = run.train(0, on_step=lambda step, _: told.append(step))
    assert one_go.tau == run.algorithm.spec.overlap and told == [1, 2, 3, 4]
    assert (one_go.steps, one_go.tokens) == (H, 128)
    after_ahead = run.train(0, ahead=early)
    stored = PrivateState.from_bytes(run.private[0].to_bytes(), run.algorithm.layout)
    run.private[0] = stored
    restarted = run.train(0, ahead=early)
    layout = run.algorithm.layout
    read = Trained.from_bytes(first[0].to_bytes(), layout).settle(True)
    run.private[0] = read
    for other in (after_ahead, restarted, run.train(0)):
        comparable = replace(other, seconds=one_go.seconds)
        assert comparable.to_bytes() == one_go.to_bytes()


@pytest.mark.parametrize("kind", ["kept", "averaged", "public"])
def test_for_a_lone_member_training_ahead_changes_no_bit(bench, kind):
    """It guessed right: what is certified is the own update alone."""
    alone = bench(**AHEAD[kind])
    synchronous = bench(**AHEAD[kind] | {"overlap": 0})
    ahead, plain = (run.rounds(3, members=1)[0] for run in (alone, synchronous))
    assert (ahead.tau, plain.tau) == (2, 0)
    assert ahead.payload == plain.payload
    assert same(alone.state.tensors(), synchronous.state.tensors())


@pytest.mark.parametrize("kind", ["kept", "averaged", "reset", "public"])
def test_at_step_tau_parameters_and_common_moments_are_put_right(bench, kind):
    run = bench(**AHEAD[kind])
    first = [run.train(at) for at in range(MEMBERS)]
    tau, onward = run.algorithm.spec.overlap, first[0].onward
    guess = run.algorithm.predict(run.state, first[0].payload, 1)
    assert same(onward.params, guess.params)
    early = run.ahead(first[0], 0).result
    run.meet(first)
    trained = run.train(0, steps=tau)
    assert (trained.steps, trained.tau) == (tau, tau)
    shifted = [
        now + (right - was)
        for now, right, was in zip(early.local, run.state.params, guess.params, strict=True)
    ]
    right = early.state.m
    if run.state.moments is not None:
        assert same(onward.inner.m, guess.moments.m)
        correction = zip(run.state.moments.m, guess.moments.m, strict=True)
        shifts = [run.inner.betas[0] ** tau * (after - before) for after, before in correction]
        right = [now + shift for now, shift in zip(right, shifts, strict=True)]
        assert not close(right, early.state.m, rtol=1e-3)
    seen = {}
    run.contributor.loop = _Watched(run.loop, seen)
    longer = run.train(0)
    assert longer.steps == H and seen["first_step"] == tau + 1
    assert same(seen["start"], shifted)
    assert close(seen["state"].m, right, rtol=1e-6, atol=1e-9)
    delta = run.algorithm.delta(run.state.params, shifted, 2)
    encoded = run.algorithm.encode(delta, seen["state"].moments, run.private[0].feedback, 2)
    assert trained.payload == encoded.payload


class _Watched:
    """An inner loop that shows what its last segment started from."""

    def __init__(self, loop, seen):
        self._loop, self._seen, self.decays = loop, seen, loop.decays

    def run(self, start, state, *args, **more):
        self._seen |= {"start": start, "state": state} | more
        return self._loop.run(start, state, *args, **more)


def test_a_replica_that_takes_over_everything_at_once_is_diloco(bench):
    plain, replica = bench(), bench(start="replica", merge_alpha=0.0)
    ended = [run.rounds(3)[1] for run in (plain, replica)]
    assert ended[0].payload == ended[1].payload
    assert plain.algorithm.state_bytes(plain.state) == replica.algorithm.state_bytes(replica.state)


def test_a_replica_that_takes_over_nothing_trains_as_if_it_were_alone(bench):
    run = bench(start="replica", merge_alpha=1.0, outer="sgd", outer_lr=1.0, outer_momentum=0.0)
    trained = run.rounds(3)
    assert trained[1].tau == 0
    params, state = (
        read_trainable(build_model(model_section(), seed=1)),
        InnerState.zeros(run.algorithm.layout),
    )
    for number in (1, 2, 3):
        result = run.loop.run(params, state, run.samples(1, number), number, seed=run.seed(number))
        params, state = result.local, result.state
    assert same(trained[1].onward.params, params) and same(trained[1].inner.v, state.v)
    means = [(a + b) / 2 for a, b in zip(trained[0].onward.params, params, strict=True)]
    assert close(run.state.params, means, rtol=1e-5, atol=1e-6)


def test_only_the_fragment_of_a_round_is_sent_and_merged(bench):
    run = bench(
        config=GRANITE | {"num_hidden_layers": 2}, start="replica", fragments=2, merge_alpha=0.0, overlap=2
    )
    first = [run.train(at) for at in range(MEMBERS)]
    assert [len(each.payload) for each in first] == [run.algorithm.payload_sizes[0]] * 2
    early = run.ahead(first[0], 0).result
    run.meet(first)
    seen = {}
    run.contributor.loop = _Watched(run.loop, seen)
    second = run.train(0)
    assert len(second.payload) == run.algorithm.payload_sizes[1]
    held = run.algorithm.fragments[0].tensors
    for at, tensor in enumerate(seen["start"]):
        assert torch.equal(tensor, run.state.params[at] if at in held else early.local[at])
    assert same(seen["state"].m, early.state.m)


def test_without_an_own_update_that_counted_a_public_start_is_fresh(bench):
    """Likewise after a missed round; what was taken ahead is thrown away."""
    run = bench(**AHEAD["averaged"])
    first = [run.train(at) for at in range(MEMBERS)]
    early = run.ahead(first[1], 1)
    run.meet(first, counted=[0])
    fresh = run.train(1, ahead=early)
    assert fresh.tau == 0 and fresh.steps == H
    run.private[1] = PrivateState()
    assert replace(run.train(1), seconds=fresh.seconds).to_bytes() == fresh.to_bytes()
    run.private[1] = replace(run.private[1], onward=first[1].onward)
    assert run.train(1).tau == 2
    run.round = 3
    assert run.train(1).tau == 0


def test_a_replica_goes_on_even_if_its_update_did_not_count_but_not_after_a_missed_round(bench):
    run = bench(**AHEAD["replica"])
    first = [run.train(at) for at in range(MEMBERS)]
    run.meet(first, counted=[0])
    assert run.private[1].onward.params is first[1].onward.params and run.train(1).tau == 2
    run.round = 3
    missed = run.train(1)
    run.private[1] = PrivateState(None, run.private[1].inner, None)
    assert missed.tau == 0 and missed.payload == run.train(1).payload


def test_steps_ahead_of_something_else_are_taken_again(bench):
    run = bench(**AHEAD["kept"])
    first = [run.train(at) for at in range(MEMBERS)]
    foreign = run.ahead(first[1], 1)
    run.meet(first)
    assert run.train(0, ahead=foreign).payload == run.train(0).payload


def test_it_seals_what_is_there_when_it_is_told_to_finish(bench):
    run, seen = bench(**AHEAD["kept"]), []
    early = run.train(0, finish=lambda: len(seen) >= 3, on_step=lambda *step: seen.append(step))
    assert (early.steps, early.tokens) == (3, 3 * run.inner.step_tokens)
    assert early.payload == run.train(0, steps=3).payload
    assert run.train(0, finish=lambda: True).steps == 1
    run.meet([early, run.train(1)])
    second = run.train(0, finish=lambda: True)
    assert (second.steps, second.tokens, second.tau) == (2, 2 * run.inner.step_tokens, 2)
    assert second.payload == run.train(0, steps=1).payload


def test_it_throws_everything_away_when_it_is_stopped(bench):
    run = bench(**AHEAD["kept"])
    first = [run.train(at) for at in range(MEMBERS)]
    assert run.train(0, should_stop=lambda: True) is None
    assert run.ahead(first[0], 0, should_stop=lambda: True) is None
    run.meet(first)
    for end in (1, 3):
        seen = []
        stopped = run.train(
            0,
            should_stop=lambda seen=seen, end=end: len(seen) >= end,
            on_step=lambda *step, seen=seen: seen.append(step),
        )
        assert stopped is None and len(seen) == end

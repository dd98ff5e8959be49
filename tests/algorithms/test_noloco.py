"""NoLoCo's step as a function: no state in common, random pairs, a pull to the partner."""

import numpy as np
import pytest
import torch

from algorithms.oracle import algorithm, flat, tensors
from distrai.algorithms import Entry, Layout
from distrai.algorithms.noloco import Slow, mean, pairs, step

SMALL = Layout.from_pairs([("matrix", (6, 7)), ("bias", (4,))])


def test_everybody_meets_one_other_and_pairs_change():
    seen = set()
    for round_number in range(1, 40):
        drawn = pairs(5, 7, round_number)
        assert sorted(m for pair in drawn for m in pair) == [0, 1, 2, 3, 4]
        assert sorted(map(len, drawn)) == [1, 2, 2]
        assert drawn == pairs(5, 7, round_number)
        seen |= set(drawn)
    assert len(seen) == 10 + 5, "every pair and everybody alone"
    assert [pairs(5, 8, r) for r in range(9)] != [pairs(5, 7, r) for r in range(9)]


def test_one_step_of_a_pair_is_the_formula():
    rng = np.random.default_rng(3)
    phi, delta, gradient = rng.normal(size=(3, 2, 5))
    group = [Slow((torch.tensor(p),), (torch.tensor(d),)) for p, d in zip(phi, delta, strict=True)]
    after = step(group, [(torch.tensor(g),) for g in gradient], lr=0.7, momentum=0.5, pull=0.9)
    for i in range(2):
        moved = 0.5 * delta[i] - 0.7 * gradient.mean(0) - 0.9 * (phi[i] - phi.mean(0))
        np.testing.assert_allclose(after[i].momentum[0].numpy(), moved, rtol=1e-12)
        np.testing.assert_allclose(after[i].params[0].numpy(), phi[i] + moved, rtol=1e-12)


def test_a_group_of_everybody_is_all_reduce_with_momentum():
    algo = algorithm("diloco", SMALL, outer="sgd", outer_momentum=0.5, inner_state="kept")
    state = algo.initial_state(tensors(0, SMALL, scale=1.0))
    members = [Slow.initial(state.params)] * 4
    for round_number in range(1, 6):
        deltas = [tensors(10 * round_number + i, SMALL) for i in range(4)]
        listed = [Entry(bytes([i]) * 32, 9, algo.encode(d).payload) for i, d in enumerate(deltas)]
        state = algo.step(state, listed, round=round_number).state
        members = step(members, deltas, lr=0.7, momentum=0.5)
    for member in members:
        for got, expected in zip(member.params, state.params, strict=True):
            np.testing.assert_allclose(flat(got), flat(expected), atol=1e-6)


def test_pairs_pull_slow_weights_together():
    members = [Slow.initial(tensors(seed, SMALL, scale=1.0)) for seed in range(6)]
    still = tuple(torch.zeros_like(t) for t in members[0].params)
    centre = mean(members)

    def spread():
        return max(float((m.params[0] - mean(members)[0]).norm()) for m in members)

    before = spread()
    for round_number in range(30):
        for group in pairs(len(members), 1, round_number):
            moved = step([members[i] for i in group], [still] * len(group), lr=0.7, momentum=0.5)
            for i, slow in zip(group, moved, strict=True):
                members[i] = slow
    assert spread() < before / 100
    assert float((mean(members)[0] - centre[0]).norm()) == pytest.approx(0, abs=1e-4)

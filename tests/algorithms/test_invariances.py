"""What must hold between algorithms (design: "Invariances every engine must show"), on this layer alone.

The inner training is a linear model on known data: nothing here needs a network or a transformer.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import algorithm, entries, flat, tensors
from distrai.algorithms import Entry, Layout
from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.presets import resolve_preset

SMALL = Layout.from_pairs([("matrix", (66, 70)), ("bias", (40,))])
LAYERS = Layout.from_pairs([("layers.0.w", (64, 65)), ("layers.1.w", (64, 65)), ("head", (40,))])
PLAIN = {"outer": "sgd", "outer_momentum": 0.0, "outer_lr": 1.0, "inner_state": "kept"}
MEMBERS = 3


def gradient(params, member, step):
    """Of |A w - b|^2 / 2 with A and b of this member and step, for the first tensor; the others have none."""
    rng = np.random.default_rng(1000 * member + step)
    w = params[0]
    a = torch.from_numpy(rng.standard_normal((16, w.shape[0])).astype(np.float32)) / w.shape[0] ** 0.5
    b = torch.from_numpy(rng.standard_normal((16, w.shape[1])).astype(np.float32))
    return [a.T @ (a @ w - b), *(torch.zeros_like(x) for x in params[1:])]


def descended(params, member, first, steps, lr=0.3):
    """Plain SGD from `params`."""
    local = [x.clone() for x in params]
    for step in range(first, first + steps):
        local = [x - lr * g for x, g in zip(local, gradient(local, member, step), strict=True)]
    return local


def run(algo, rounds, steps, layout=SMALL, ages=lambda member, round_number: 0):
    """Rounds of everybody from the common state, with feedback and without absence."""
    state = algo.initial_state(tensors(0, layout, scale=1.0))
    feedback = [None] * MEMBERS
    for number in range(1, rounds + 1):
        listed = []
        for member in range(MEMBERS):
            local = descended(state.params, member, number * steps, steps)
            encoded = algo.encode(
                algo.delta(state.params, local, round=number), feedback=feedback[member], round=number
            )
            feedback[member] = encoded.feedback(accepted=True)
            listed.append(Entry(bytes([member]) * 32, 64, encoded.payload, ages(member, number)))
        state = algo.step(state, listed, round=number).state
    return state


def test_one_step_of_sgd_a_round_with_outer_sgd_is_data_parallel_sgd():
    state = run(algorithm("fedavg", SMALL, inner_state="kept", inner_steps=1), 12, 1)
    params = tensors(0, SMALL, scale=1.0)
    for step in range(1, 13):
        mean = [
            sum(g) / MEMBERS for g in zip(*(gradient(params, m, step) for m in range(MEMBERS)), strict=True)
        ]
        params = [x - 0.3 * g for x, g in zip(params, mean, strict=True)]
    for got, expected in zip(state.params, params, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aggregate", ["token-weighted-mean", "contributors-mean-norm-clip"])
def test_topk_of_everything_is_diloco_with_outer_sgd_bit_for_bit(aggregate):
    changes = {"inner_steps": 5, "inner_state": "kept", "aggregate": aggregate}
    dense = algorithm("fedavg", SMALL, **changes)
    sparse = algorithm("fedavg", SMALL, **changes, codec="topk", codec_options={"k": 4096, "value_bits": 32})
    assert dense.state_bytes(run(dense, 4, 5)) == sparse.state_bytes(run(sparse, 4, 5))


def replicas(algo, rounds, steps, layout):
    """Members that keep their own parameters and merge; returns the common state and the replicas."""
    state = algo.initial_state(tensors(0, layout, scale=1.0))
    own = [state.params] * MEMBERS
    for number in range(1, rounds + 1):
        listed = []
        for member in range(MEMBERS):
            own[member] = descended(own[member], member, number * steps, steps)
            payload = algo.encode(algo.delta(state.params, own[member], round=number), round=number).payload
            listed.append(Entry(bytes([member]) * 32, 64, payload))
        state = algo.step(state, listed, round=number).state
        own = [algo.merge(local, state, round=number) for local in own]
    return state, own


def test_one_fragment_merged_whole_is_diloco_bit_for_bit():
    replica = algorithm("diloco", SMALL, start="replica", inner_state="kept", inner_steps=5)
    common = algorithm("diloco", SMALL, inner_state="kept", inner_steps=5)
    state, own = replicas(replica, 4, 5, SMALL)
    assert replica.state_bytes(state) == common.state_bytes(run(common, 4, 5))
    assert all(torch.equal(a, b) for local in own for a, b in zip(local, state.params, strict=True))


def test_alpha_one_leaves_the_local_parameters_alone_as_lo_fi_does():
    algo = algorithm("lo-fi", LAYERS, inner_steps=5)
    state, own = replicas(algo, 4, 5, LAYERS)
    start = tensors(0, LAYERS, scale=1.0)
    alone = [descended(start, member, 5, 20) for member in range(MEMBERS)]
    for local, expected in zip(own, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(local, expected, strict=True))
    for at, got in enumerate(state.params):
        np.testing.assert_allclose(flat(got), sum(flat(x[at]) for x in alone) / MEMBERS, atol=1e-5)


def test_asynchronous_rounds_of_fresh_updates_are_synchronous_bit_for_bit():
    changes = {"inner_steps": 5, "inner_state": "kept"}
    for aggregate in ("token-weighted-mean", "token-weighted-mean-norm-clip", "coordinate-median"):
        late = algorithm("diloco", SMALL, **changes, aggregate=aggregate, staleness=4, quorum=MEMBERS)
        sync = algorithm("diloco", SMALL, **changes, aggregate=aggregate)
        assert late.state_bytes(run(late, 4, 5)) == sync.state_bytes(run(sync, 4, 5))
    aged = run(late, 4, 5, ages=lambda member, _: member)
    assert late.state_bytes(aged) != sync.state_bytes(run(sync, 4, 5))


def test_an_outer_rate_that_follows_the_training_is_that_rate_in_every_round():
    half = Algorithm(resolve_preset("fedavg", {"outer_schedule": "training"}), SMALL, rate=lambda r: 0.5**r)
    state = half.initial_state(tensors(0, SMALL))
    for number in (1, 2, 3):
        listed = entries(half, 2, seed=10 * number)
        fixed = algorithm("fedavg", SMALL, outer_lr=0.5**number)
        expected = fixed.step(state, listed, round=number).state
        state = half.step(state, listed, round=number).state
        assert half.state_bytes(state) == fixed.state_bytes(expected)
    unscheduled = Algorithm(resolve_preset("fedavg", {}), SMALL, rate=lambda r: 0.5)
    assert unscheduled.state_bytes(unscheduled.step(state, listed).state) == fixed.state_bytes(
        algorithm("fedavg", SMALL).step(state, listed).state
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_sums_of_coefficients_are_inverted_once_and_mean_the_same(seed, members):
    """DCT: the aggregate in the domain is the aggregate of the inverses, where nothing is left out of the mean."""
    algo = algorithm(
        "demo", SMALL, aggregate="token-weighted-mean", outer="sgd", outer_schedule="constant", outer_lr=1.0,
        outer_weight_decay=0.0,
    )  # fmt: skip
    listed = [
        Entry(bytes([i + 1]) * 32, 10 + i, algo.encode(tensors(seed + i, SMALL)).payload)
        for i in range(members)
    ]
    zero = algo.initial_state([torch.zeros(t.shape) for t in SMALL.tensors])
    after = algo.step(zero, listed).state
    total = sum(e.tokens for e in listed)
    for at, got in enumerate(after.params):
        mean = sum(e.tokens * flat(algo.decode(e.payload)[at]) for e in listed) / total
        np.testing.assert_allclose(-flat(got), mean, atol=1e-7)


def test_a_mask_is_all_that_a_replica_merges_and_moves_from_round_to_round():
    algo = algorithm("sparta", SMALL)
    state = algo.initial_state(tensors(0, SMALL))
    own = [tensors(member + 1, SMALL) for member in range(MEMBERS)]
    seen = []
    for number in (1, 2):
        listed = [
            Entry(
                bytes([m]) * 32,
                5,
                algo.encode(algo.delta(state.params, x, round=number), round=number).payload,
            )
            for m, x in enumerate(own)
        ]
        after = algo.step(state, listed, round=number).state
        merged = algo.merge(own[0], after, round=number)
        where = [a != b for a, b in zip(after.params, state.params, strict=True)]
        seen.append(where[0])
        for at, mask in enumerate(where):
            mean = sum(x[at] for x in own) / MEMBERS
            torch.testing.assert_close(merged[at][mask], mean[mask], atol=1e-6, rtol=1e-5)
            assert torch.equal(merged[at][~mask], own[0][at][~mask])
        share = sum(int(m.sum()) for m in where) / SMALL.numel
        assert 0.003 < share < 0.01
    assert not torch.equal(*seen)


def test_signs_move_every_parameter_by_the_rate_of_the_round():
    algo = Algorithm(
        resolve_preset("demo", {"outer_weight_decay": 0.0}), SMALL, rate=lambda round_number: 0.25
    )
    state = algo.initial_state([torch.ones(t.shape) for t in SMALL.tensors])
    after = algo.step(state, entries(algo, 3)).state
    for tensor in after.params:
        moves = (tensor - 1).unique().tolist()
        assert moves == pytest.approx([-0.001, 0.001], abs=1e-7) or moves == pytest.approx(
            [-0.001, 0, 0.001], abs=1e-7
        )

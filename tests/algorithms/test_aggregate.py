"""Aggregates: robust statistics against numpy, damping by age, bounded memory."""

import mmap
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import algorithm, entries, flat, grid_norm, tensors
from distrai.algorithms import Algorithm, Entry, Layout, resolve_preset
from distrai.algorithms.contributions import damping, duplicates

SMALL = Layout.from_pairs([("matrix", (66, 70)), ("bias", (40,))])
PLAIN = {"outer": "sgd", "outer_momentum": 0.0, "outer_lr": 1.0, "inner_state": "kept"}
LATE = {**PLAIN, "staleness": 4, "aggregate": "token-weighted-mean"}


def step_of(listed, layout=SMALL, preset="diloco", **changes):
    """The aggregate of a list: what a plain step from 0 moves."""
    algo = algorithm(preset, layout, **PLAIN | changes)
    zero = algo.initial_state([torch.zeros(t.shape) for t in layout.tensors])
    result = algo.step(zero, listed)
    return np.concatenate([-flat(x) for x in result.state.params]), result


def made(updates, layout=SMALL, tokens=lambda i: 100):
    algo = algorithm("diloco", layout, **PLAIN)
    return [
        Entry(bytes([i + 1]) * 32, tokens(i), algo.encode(update).payload) for i, update in enumerate(updates)
    ]


def rows(updates):
    return np.stack([np.concatenate([flat(x) for x in update]) for update in updates])


def trimmed(x):
    cut = len(x) // 3
    return np.sort(x, axis=0)[cut : len(x) - cut].mean(0)


def centred(x, layout):
    """Three clipped means around the median; norms on the grid of each tensor, as the engine takes them."""
    cuts = np.cumsum([t.numel for t in layout.tensors])[:-1]
    centre = np.median(x, axis=0)
    for _ in range(3):
        away = x - centre
        norms = np.array([np.hypot.reduce([grid_norm(part) for part in np.split(a, cuts)]) for a in away])
        factors = np.minimum(1, np.sort(norms)[(len(x) - 1) // 2] / norms)
        centre = centre + (factors[:, None] * away).mean(0)
    return centre


ROBUST = {
    "coordinate-median": lambda x: np.median(x, axis=0),
    "trimmed-mean": trimmed,
    "centred-clip": lambda x: centred(x, SMALL),
}


@pytest.mark.parametrize("count", [2, 3, 6, 9])
@pytest.mark.parametrize("rule", ROBUST)
def test_robust_statistics_match_the_float64_oracle(rule, count):
    updates = [tensors(i, SMALL) for i in range(count)]
    found, result = step_of(made(updates, tokens=lambda i: 1 + i), aggregate=rule)
    np.testing.assert_allclose(found, ROBUST[rule](rows(updates)), atol=2e-7)
    assert result.weights == (1,) * count, "tokens buy no influence"


@pytest.mark.parametrize("rule", ROBUST)
def test_a_hostile_third_moves_a_robust_aggregate_little(rule):
    base = tensors(0, SMALL)
    honest = [[b + 0.01 * x for b, x in zip(base, tensors(i, SMALL), strict=True)] for i in range(1, 5)]
    hostile = [[torch.full_like(b, height) for b in base] for height in (1e6, 2e6)]
    centre = rows([base])[0]

    def error(listed, aggregate):
        return np.linalg.norm(step_of(made(listed), aggregate=aggregate)[0] - centre)

    assert error(honest + hostile, rule) < 0.5 * np.linalg.norm(centre)
    assert error(honest + hostile, "mean") > 1e5


def test_one_update_is_its_own_statistic():
    for rule in ROBUST:
        found, _ = step_of(made([tensors(3, SMALL)]), aggregate=rule)
        np.testing.assert_array_equal(found, rows([tensors(3, SMALL)])[0])


def test_the_clipped_weighted_mean():
    updates = [[x * (1 + 9 * (i == 2)) for x in tensors(i, SMALL)] for i in range(3)]
    found, result = step_of(made(updates, tokens=lambda i: 10 + i), aggregate="token-weighted-mean-norm-clip")
    x = rows(updates)
    norms = np.linalg.norm(x, axis=1)
    factors = np.minimum(1, np.median(norms) / norms) * np.array([10, 11, 12])
    np.testing.assert_allclose(found, (factors[:, None] * x).sum(0) / 33, rtol=1e-3, atol=1e-6)
    assert result.weights == (10, 11, 12)


def test_damping_is_the_inverse_root_on_a_grid():
    assert damping(0) == 1.0
    for age in range(1, 8):
        assert damping(age) == pytest.approx((1 + age) ** -0.5, abs=2**-23)
        assert (damping(age) * 2**24).is_integer()
    assert all(a > b for a, b in pairwise(map(damping, range(8))))


def test_a_lone_late_update_is_damped():
    listed = made([tensors(1, SMALL)])
    fresh, _ = step_of(listed, **LATE)
    late, result = step_of([Entry(e.member, e.tokens, e.payload, 3) for e in listed], **LATE)
    np.testing.assert_allclose(late, fresh / 2, atol=1e-9)
    assert result.weights == (100,)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 4)), min_size=1, max_size=5))
def test_ages_scale_updates_and_leave_the_divisor(members):
    tiny = Layout.from_pairs([("x", (5,))])
    updates = [tensors(i, tiny) for i in range(len(members))]
    listed = [
        Entry(e.member, e.tokens, e.payload, age)
        for e, (_, age) in zip(made(updates, tiny, lambda i: members[i][0]), members, strict=True)
    ]
    found, _ = step_of(listed, tiny, **LATE)
    tokens = np.array([t for t, _ in members], float)
    scale = tokens * np.array([(1 + age) ** -0.5 for _, age in members])
    expected = (scale[:, None] * rows(updates)).sum(0) / tokens.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_late_moments_weigh_less_but_their_mean_stays_a_mean():
    algo = Algorithm(resolve_preset("prime", {"staleness": 4}, checks=1), SMALL)
    state = algo.initial_state(tensors(0, SMALL))
    listed = entries(algo, 2)
    own = [algo.decode_moments(e.payload).v[0].double() for e in listed]
    late = [Entry(listed[0].member, 100, listed[0].payload, 3), listed[1]]
    got = algo.step(state, late).state.moments.v[0].double()
    assert torch.allclose(got, (0.5 * own[0] + own[1]) / 1.5, rtol=1e-5)
    for age in (0, 2):
        alone = algo.step(state, [Entry(listed[0].member, 100, listed[0].payload, age)]).state.moments
        assert torch.equal(alone.v[0], algo.decode_moments(listed[0].payload).v[0])


@pytest.mark.parametrize("age", [-1, 1, 5])
def test_an_age_that_the_recipe_does_not_allow_is_refused(age):
    spare = {"staleness": 4} if age == 5 else {}
    (entry,) = made([tensors(1, SMALL)])
    with pytest.raises(ValueError, match="staler"):
        step_of([Entry(entry.member, 1, entry.payload, age)], **spare)


def test_copies_are_found_in_views_too():
    a, b = bytes(1000), bytes([1]) * 1000
    assert duplicates([memoryview(x) for x in (a, b, bytearray(a), b[:999] + b"\0")]) == {0, 2}


@pytest.mark.parametrize("aggregate", ["token-weighted-mean-norm-clip", "mean"])
def test_memory_is_bounded_by_spans_however_many_payloads_there_are(tmp_path, aggregate, monkeypatch):
    """Twelve payloads of 8 MB in mapped files: only spans (4 MB) of them are ever copied."""
    layout = Layout.from_pairs([("x", (2, 1 << 20))])
    algo = algorithm("diloco", layout, **PLAIN | {"aggregate": aggregate})
    copied, held = [], []
    listed = []
    for i in range(12):
        path = tmp_path / str(i)
        path.write_bytes(algo.encode([torch.full((2, 1 << 20), float(i + 1))]).payload)
        with path.open("rb") as file:
            held.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        listed.append(Entry(bytes([i]) * 32, 1, memoryview(held[-1])))
    state = algo.initial_state([torch.zeros(2, 1 << 20)])

    from distrai.algorithms import contributions

    exact = contributions.to_uint8
    monkeypatch.setattr(
        contributions, "to_uint8", lambda data, device: copied.append(len(data)) or exact(data, device)
    )
    tracemalloc.start()
    after = algo.step(state, listed).state
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(copied) == 4 << 20
    assert len(copied) == 12 * 2 * (2 if "clip" in aggregate else 1)
    assert peak < 6 << 20, "Python holds one span at a time"
    expected = {"mean": -6.5}.get(aggregate, -(sum(range(1, 7)) + 6 * 6) / 12)
    assert torch.allclose(after.params[0], torch.full((2, 1 << 20), expected))
    for entry in listed:
        entry.payload.release()
    for view in held:
        view.close()


def test_moments_are_read_span_by_span_too(monkeypatch):
    """Three payloads of 6 MB, two of them moments: no copy is longer than the span of a piece."""
    from distrai.algorithms.codecs import base

    layout = Layout.from_pairs([("x", (2, 1 << 20))])
    algo = algorithm("prime", layout)
    state = algo.initial_state([torch.zeros(2, 1 << 20)])
    made = algo.encode([torch.ones(2, 1 << 20)], state.moments).payload
    listed = [Entry(bytes([i]) * 32, 1, memoryview(bytes([i]) + made[1:])) for i in range(3)]
    copied, exact = [], base.to_uint8
    monkeypatch.setattr(
        base, "to_uint8", lambda data, device: copied.append(len(data)) or exact(data, device)
    )
    assert algo.step(state, listed).weights == (1, 1, 1)
    assert len(copied) == 3 * 2 * 2  # each piece twice: first to see how large it is
    assert max(copied) <= (2 << 20) + 8 * 4096

"""The facade: aggregation, outer step, duplicates, checks, state bytes."""

import math
import struct

import numpy as np
import pytest
import torch

from algorithms.oracle import LAYOUT, algorithm, entries, flat, grid_norm, moments, tensors
from distrai.algorithms import Entry, Layout, Moments, StateError
from distrai.algorithms.errors import NormAboveCeiling, WrongPayloadSize

SMALL = Layout.from_pairs([("matrix", (66, 70)), ("bias", (40,))])
DENSE = {"outer": "sgd", "outer_momentum": 0.0, "outer_lr": 1.0, "inner_state": "kept"}
CASES = {
    "diloco": ("diloco", {"inner_state": "kept"}),
    "prime": ("prime", {}),
    "sparseloco": ("sparseloco", {}),
    "sparse-mean": ("sparseloco", {"aggregate": "mean", "inner_state": "averaged"}),
    "dense-clip": ("prime", {"aggregate": "contributors-mean-norm-clip"}),
}


def ulps(a, b):
    """Distance in units in the last place of b."""
    return float(
        np.abs((a.double() - b.double()).numpy() / np.spacing(np.abs(b.numpy())).astype(np.float64)).max()
    )


def clip_factors(parts):
    norms = [math.sqrt(math.fsum(grid_norm(flat(t)) ** 2 for t in part)) for part in parts]
    middle = sorted(norms)[(len(norms) - 1) // 2]
    return [min(1.0, middle / norm) for norm in norms]


def expected_gradient(algo, listed, rule):
    """The aggregate in float64 from decoded updates."""
    parts = [algo.decode(e.payload) for e in listed]
    weights = [1 if rule == "mean" else e.tokens for e in listed]
    clips = clip_factors(parts) if "clip" in rule else [1.0] * len(parts)
    out = []
    for at in range(len(algo.layout.tensors)):
        total = sum(w * c * flat(p[at]) for w, c, p in zip(weights, clips, parts, strict=True))
        sent = np.full(total.shape, float(sum(weights)))
        if "contributors" in rule and algo.codec.sparse:
            sent = sum(w * (flat(p[at]) != 0) for w, p in zip(weights, parts, strict=True))
        out.append(np.divide(total, sent, out=np.zeros_like(total), where=sent > 0))
    return out


@pytest.mark.parametrize("count", [3, 5, 7])
@pytest.mark.parametrize("case", CASES)
def test_one_step_matches_the_float64_oracle(case, count):
    preset, changes = CASES[case]
    algo = algorithm(preset, **changes)
    state = algo.initial_state(tensors(99, scale=0.1))
    listed = entries(algo, count, tokens=lambda i: 1000 + 7 * i)
    before = algo.state_bytes(state)
    result = algo.step(state, listed)
    assert algo.state_bytes(state) == before, "step changes no state in place"
    spec = algo.spec
    for at, g in enumerate(expected_gradient(algo, listed, spec.aggregate)):
        factor = spec.outer_lr * (1 + (spec.outer_momentum if spec.outer == "nesterov" else 0))
        np.testing.assert_allclose(
            flat(result.state.params[at]), flat(state.params[at]) - factor * g, rtol=1e-5, atol=3e-7
        )
        if spec.outer_momentum:
            np.testing.assert_allclose(flat(result.state.buffers[0][at]), g, rtol=1e-4, atol=1e-7)
    assert result.weights == tuple(1 if spec.aggregate == "mean" else e.tokens for e in listed)
    assert result.reasons == ("",) * count


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_the_list_changes_no_bit(case):
    preset, changes = CASES[case]
    algo = algorithm(preset, SMALL, **changes)
    state = algo.initial_state(tensors(9, SMALL))
    listed = entries(algo, 5, tokens=lambda i: 10 + i)
    forward, backward = algo.step(state, listed), algo.step(state, listed[::-1])
    assert algo.state_bytes(forward.state) == algo.state_bytes(backward.state)
    assert forward.weights == backward.weights[::-1]


def test_equal_work_makes_the_weighted_mean_the_plain_mean():
    weighted, plain = (algorithm("prime", SMALL, aggregate=a) for a in ("token-weighted-mean", "mean"))
    state = weighted.initial_state(tensors(9, SMALL))
    listed = entries(weighted, 3, tokens=lambda _: 20480)
    a, b = weighted.step(state, listed), plain.step(state, listed)
    assert weighted.state_bytes(a.state) == plain.state_bytes(b.state)


@pytest.mark.parametrize(("outer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("nesterov", 0.9)])
def test_outer_step_agrees_with_torch_within_two_ulp_and_with_unfused_numpy_bit_for_bit(outer, momentum):
    lr = 0.7
    algo = algorithm("diloco", SMALL, outer=outer, outer_momentum=momentum, outer_lr=lr, inner_state="kept")
    # Values of one magnitude, so that an ulp of the parameter is what rounding may cost, not cancellation.
    state = algo.initial_state([x.abs() + 1 for x in tensors(0, SMALL)])
    params = [torch.nn.Parameter(x.clone()) for x in state.params]
    torch_sgd = torch.optim.SGD(params, lr=lr, momentum=momentum, nesterov=outer == "nesterov")
    own, buffers = [x.numpy() for x in state.params], [np.zeros(x.shape, np.float32) for x in state.params]
    mu, rate = np.float32(momentum), np.float32(lr)
    for step in range(4):
        delta = tensors(step + 1, SMALL)
        listed = [Entry(bytes(32), 5, algo.encode(delta).payload)]
        for p, x, g in zip(params, state.params, delta, strict=True):
            p.grad = g
            assert ulps(p.detach(), x) <= 2
            p.data.copy_(x)
        state = algo.step(state, listed).state
        torch_sgd.step()
        for at, g in enumerate(x.numpy() for x in delta):
            buffers[at] = mu * buffers[at] + g if momentum else g
            direction = g + mu * buffers[at] if outer == "nesterov" else buffers[at]
            own[at] = own[at] - rate * direction
            assert np.array_equal(own[at], state.params[at].numpy())
    assert all(ulps(p.detach(), x) <= 2 for p, x in zip(params, state.params, strict=True))


def test_topk_of_everything_unquantised_is_dense_averaging_bit_for_bit():
    options = {"k": 4096, "value_bits": 32}
    sparse = algorithm(
        "sparseloco", error_feedback=0.0, codec_options=options, aggregate="token-weighted-mean"
    )
    dense = algorithm("diloco", **DENSE)
    state = dense.initial_state(tensors(50))
    for seed in range(3):
        a = sparse.step(state, entries(sparse, 3, seed=10 * seed)).state
        b = dense.step(state, entries(dense, 3, seed=10 * seed)).state
        assert dense.state_bytes(a) == dense.state_bytes(b)
        state = a


def test_a_coordinate_that_one_member_sent_is_not_diluted_but_clipped():
    algo = algorithm(
        "sparseloco",
        Layout.from_pairs([("x", (4096,))]),
        error_feedback=0.0,
        codec_options={"k": 1, "value_bits": 32},
    )
    state = algo.initial_state([torch.zeros(4096)])
    spikes = []
    for at, height in ((10, 1.0), (10, 3.0), (20, 2.0)):
        x = torch.zeros(4096)
        x[at] = height
        spikes.append(x)
    listed = [Entry(bytes([i]) * 32, 1, algo.encode([x]).payload) for i, x in enumerate(spikes)]
    out = algo.step(state, listed).state.params[0]
    assert {i: out[i].item() for i in out.nonzero().flatten().tolist()} == {10: -1.5, 20: -2.0}


def test_copies_get_no_weight_whatever_moments_they_carry():
    algo = algorithm("prime", SMALL)
    state = algo.initial_state(tensors(9, SMALL))
    listed = entries(algo, 4)
    other = algo.encode(tensors(0, SMALL), moments(77, SMALL)).payload
    copied = [*listed, Entry(b"\xff" * 32, 100, other)]
    result = algo.step(state, copied)
    assert result.weights == (0, 100, 100, 100, 0)
    assert [bool(reason) for reason in result.reasons] == [True, False, False, False, True]
    without = algo.step(state, listed[1:])
    assert algo.state_bytes(result.state) == algo.state_bytes(without.state)


def test_a_round_in_which_nothing_counts_leaves_the_state():
    algo = algorithm("prime", SMALL)
    state = algo.step(algo.initial_state(tensors(9, SMALL)), entries(algo, 3)).state
    twice = [Entry(bytes([i]) * 32, 5, entries(algo, 1)[0].payload) for i in (1, 2)]
    for listed in ([], twice):
        result = algo.step(state, listed)
        assert algo.state_bytes(result.state) == algo.state_bytes(state)
        assert result.weights == (0,) * len(listed)


def test_a_step_that_would_overflow_leaves_the_state_and_says_so():
    algo = algorithm("diloco", SMALL, **DENSE)
    state = algo.initial_state([torch.full(t.shape, -3e38) for t in SMALL.tensors])
    payload = algo.encode([torch.full(t.shape, 3e38) for t in SMALL.tensors]).payload
    result = algo.step(state, [Entry(bytes(32), 1, payload)])
    assert result.weights == (0,)
    assert "fp32" in result.reasons[0]
    assert algo.state_bytes(result.state) == algo.state_bytes(state)


def test_step_refuses_a_member_twice_no_tokens_and_wrong_sizes():
    algo = algorithm("prime", SMALL)
    state = algo.initial_state(tensors(9, SMALL))
    one = entries(algo, 2)
    with pytest.raises(ValueError, match="twice"):
        algo.step(state, [one[0], Entry(one[0].member, 5, one[1].payload)])
    with pytest.raises(ValueError, match="tokens"):
        algo.step(state, [Entry(bytes(32), 0, one[0].payload)])
    with pytest.raises(WrongPayloadSize):
        algo.step(state, [Entry(bytes(32), 1, one[0].payload[:-1])])


@pytest.mark.parametrize("preset", ["diloco", "prime", "sparseloco"])
def test_check_accepts_up_to_the_ceiling_and_refuses_above(preset):
    algo = algorithm(preset)
    payload = algo.encode(tensors(1), moments(1)).payload
    length = algo.update_norm(payload)
    expected = math.sqrt(sum(math.fsum(flat(t) ** 2) for t in algo.decode(payload)))
    assert length == pytest.approx(expected, rel=1e-3)
    algo.check(payload, length * 1.0001)
    with pytest.raises(NormAboveCeiling):
        algo.check(payload, length * 0.9999)
    with pytest.raises(WrongPayloadSize):
        algo.check(payload + b"\0", 1e9)


def test_the_average_of_moments_is_part_of_the_state_and_zero_at_the_start():
    algo = algorithm("prime", SMALL)
    start = algo.initial_state(tensors(9, SMALL))
    assert start.moments is not None
    assert not any(bool(t.any()) for t in (*start.moments.m, *start.moments.v))
    found = moments(3, SMALL)
    given_moments = Moments(found.m, tuple(m * m + v for m, v in zip(found.m, found.v, strict=True)))
    listed = [
        Entry(bytes([i]) * 32, 5, algo.encode(tensors(i, SMALL), given_moments).payload) for i in range(3)
    ]
    after = algo.step(start, listed).state
    for got, expected in zip(after.moments.m, given_moments.m, strict=True):
        np.testing.assert_allclose(flat(got), flat(expected), atol=float(expected.abs().max()) / 250)


def test_encode_needs_moments_only_where_they_are_averaged():
    with pytest.raises(ValueError, match="moments"):
        algorithm("prime", SMALL).encode(tensors(0, SMALL))
    kept = algorithm("prime", SMALL, inner_state="kept")
    assert kept.encode(tensors(0, SMALL), moments(0, SMALL)).payload == kept.encode(tensors(0, SMALL)).payload
    assert (kept.codec_id, algorithm("prime", SMALL).codec_id) == ("int8", "int8+m8v8")


@pytest.mark.parametrize("case", CASES)
def test_state_bytes_round_trip_and_have_the_size_known_beforehand(case):
    preset, changes = CASES[case]
    algo = algorithm(preset, SMALL, **changes)
    state = algo.step(algo.initial_state(tensors(9, SMALL)), entries(algo, 3)).state
    data = algo.state_bytes(state)
    assert len(data) == algo.state_size
    assert algo.state_bytes(algo.state_from_bytes(data)) == data
    assert data[: 4 * 66 * 70] == state.params[0].numpy().tobytes(), "parameters come first"


def test_state_bytes_that_no_step_writes_are_refused():
    algo = algorithm("prime", SMALL)
    data = algo.state_bytes(algo.initial_state(tensors(9, SMALL)))
    with pytest.raises(StateError, match="bytes"):
        algo.state_from_bytes(data[:-4])
    for at, value in ((0, math.nan), (4, math.inf), (0, -0.0), (len(data) - 4, -1.0)):
        bad = data[:at] + struct.pack("<f", value) + data[at + 4 :]
        with pytest.raises(StateError):
            algo.state_from_bytes(bad)


def test_initial_state_is_a_copy_without_negative_zeros():
    algo = algorithm("diloco", SMALL, **DENSE)
    params = [torch.full(t.shape, -0.0) for t in SMALL.tensors]
    state = algo.initial_state(params)
    params[0].fill_(5.0)
    assert algo.state_bytes(state) == bytes(algo.state_size)


def test_delta_is_start_minus_local():
    algo = algorithm("diloco", SMALL, **DENSE)
    start, local = tensors(1, SMALL), tensors(2, SMALL)
    for got, a, b in zip(algo.delta(start, local), start, local, strict=True):
        assert torch.equal(got, a - b)


def test_one_step_of_sgd_everywhere_is_data_parallel_sgd():
    """H = 1, SGD inside, outer SGD 1: the state is that of one process with the mean gradient."""
    algo = algorithm("diloco", SMALL, inner_steps=1, **DENSE)
    state = algo.initial_state(tensors(0, SMALL, scale=1.0))
    gradients = [tensors(10 + i, SMALL) for i in range(3)]
    listed = []
    for i, gradient in enumerate(gradients):
        local = [p - 0.1 * g for p, g in zip(state.params, gradient, strict=True)]
        listed.append(Entry(bytes([i]) * 32, 7, algo.encode(algo.delta(state.params, local)).payload))
    after = algo.step(state, listed).state
    for at, p in enumerate(state.params):
        mean = sum(flat(g[at]) for g in gradients) / 3
        np.testing.assert_allclose(flat(after.params[at]), flat(p) - 0.1 * mean, atol=1e-6)


def test_a_replay_from_the_bytes_of_a_state_gives_the_same_bits():
    algo = algorithm("prime", SMALL)
    state = again = algo.initial_state(tensors(9, SMALL))
    for round_number in range(3):
        listed = entries(algo, 3, seed=10 * round_number)
        state = algo.step(state, listed).state
        again = algo.step(algo.state_from_bytes(algo.state_bytes(again)), listed).state
    assert algo.state_bytes(state) == algo.state_bytes(again)


def test_moments_of_another_shape_are_refused():
    algo = algorithm("prime", SMALL)
    wrong = Moments(tuple(tensors(0, LAYOUT)), tuple(tensors(0, LAYOUT)))
    with pytest.raises(ValueError, match="first moment"):
        algo.encode(tensors(0, SMALL), wrong)

"""Outer steps against float64 oracles, and what holds between them."""

import numpy as np
import pytest
import torch

from algorithms.oracle import flat
from distrai.algorithms.outer import KINDS, Outer


def delayed_nesterov(theta, gradients, lr, mu, period):
    """arXiv:2401.09135 with momentum activation 0, in float64."""
    m, held = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients):
        held += g
        if (t + 1) % period == 0:
            m = mu * m + held / period
            theta = theta - lr * (mu * m + g / period)
            held[:] = 0
        else:
            theta = theta - lr * g / period
    return theta


def momentum(theta, gradients, lr, mu, nesterov):
    b = np.zeros_like(theta)
    for g in gradients:
        b = mu * b + g
        theta = theta - lr * (g + mu * b if nesterov else b)
    return theta


def walked(outer, theta, gradients, **keys):
    buffers = tuple(torch.zeros_like(theta) for _ in range(outer.buffers))
    for turn, g in enumerate(gradients):
        theta, buffers = outer.step(theta, g, buffers, turn=turn, **keys)
    return theta


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.standard_normal(200).astype(np.float32)) for _ in range(count)]


ORACLES = {
    "sgd": (Outer("sgd", 0.5, 0.0), lambda t, gs: t - 0.5 * sum(gs)),
    "momentum": (Outer("sgd", 0.5, 0.9), lambda t, gs: momentum(t, gs, 0.5, 0.9, nesterov=False)),
    "nesterov": (Outer("nesterov", 0.7, 0.9), lambda t, gs: momentum(t, gs, 0.7, 0.9, nesterov=True)),
    "sign": (Outer("sign", 0.25, 0.0), lambda t, gs: t - 0.25 * sum(np.sign(g) for g in gs)),
    "delayed": (
        Outer("delayed-nesterov", 0.07, 0.9, delay=3),
        lambda t, gs: delayed_nesterov(t, gs, 0.07, 0.9, 3),
    ),
}


@pytest.mark.parametrize("case", ORACLES)
def test_seven_steps_match_the_float64_oracle(case):
    outer, oracle = ORACLES[case]
    theta, *gradients = drawn(8)
    got = walked(outer, theta, gradients)
    np.testing.assert_allclose(flat(got), oracle(flat(theta), [flat(g) for g in gradients]), atol=2e-5)


def test_delayed_by_one_round_is_nesterov_bit_for_bit():
    theta, *gradients = drawn(6)
    nesterov = walked(Outer("nesterov", 0.7, 0.9), theta, gradients)
    assert torch.equal(walked(Outer("delayed-nesterov", 0.7, 0.9, delay=1), theta, gradients), nesterov)


def test_the_sign_of_nothing_is_nothing():
    theta, g = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([-0.0, 2.0**-149, -3e38])
    after, buffers = Outer("sign", 0.5, 0.0).step(theta, g, ())
    assert after.tolist() == [1.0, 0.5, 1.5]
    assert buffers == ()


def test_only_matrices_decay_and_by_the_rate_of_the_round():
    outer = Outer("sgd", 0.5, 0.0, weight_decay=0.1)
    theta, zero = torch.ones(3), torch.zeros(3)
    assert torch.equal(outer.step(theta, zero, (), matrix=False)[0], theta)
    assert torch.allclose(outer.step(theta, zero, ())[0], torch.full((3,), 0.95))
    assert torch.allclose(outer.step(theta, zero, (), rate=0.2)[0], torch.full((3,), 0.99))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "noloco"])
def test_nothing_given_is_changed_and_no_zero_is_negative(kind):
    outer = Outer(kind, 1.0, 0.0 if kind == "sign" else 0.5, weight_decay=0.5, delay=2)
    theta, g = torch.tensor([-0.5, 2.0]), torch.tensor([-0.25, 0.0])
    buffers = tuple(torch.tensor([0.5, 0.0]) for _ in range(outer.buffers))
    before = [x.clone() for x in (theta, g, *buffers)]
    for turn in (0, 1):
        after, kept = outer.step(theta, g, buffers, turn=turn)
        for tensor in (after, *kept):
            assert not bool((torch.signbit(tensor) & (tensor == 0)).any())
    assert all(torch.equal(a, b) for a, b in zip(before, (theta, g, *buffers), strict=True))


def test_noloco_has_no_step_of_a_common_state():
    with pytest.raises(ValueError, match="noloco"):
        Outer("noloco", 0.7, 0.5).step(torch.ones(1), torch.ones(1), ())

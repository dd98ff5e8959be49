from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from distrai.algorithms.layout import Layout, TensorSpec
from distrai.training.errors import BadInnerState
from distrai.training.inner_state import InnerState, as_begun, corrected, state_at_round_start

LAYOUT = Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (4,))))


def some(steps=7):
    m, v = (tuple(torch.rand(spec.shape) for spec in LAYOUT.tensors) for _ in range(2))
    return InnerState(m, v, steps)


def same(first, second):
    pairs = zip((*first.m, *first.v), (*second.m, *second.v), strict=True)
    return first.steps == second.steps and all(torch.equal(a, b) for a, b in pairs)


def test_a_state_comes_back_from_its_bytes():
    state = some()
    assert same(InnerState.from_bytes(state.to_bytes(), LAYOUT), state)
    copy = InnerState(tuple(item.clone() for item in state.m), tuple(item.clone() for item in state.v), 7)
    assert copy.to_bytes() == state.to_bytes()


def test_bytes_of_something_else_are_refused():
    good = some()
    tensors = {
        f"{kind}.{at}": item
        for kind, items in (("m", good.m), ("v", good.v))
        for at, item in enumerate(items)
    }
    count = {"steps": torch.tensor(3)}
    assert InnerState.from_bytes(save(tensors | count), LAYOUT).steps == 3
    for wrong in (
        save(tensors),
        save(tensors | count | {"extra": torch.zeros(1)}),
        save(tensors | count | {"extra": torch.tensor(1)}),
        save(tensors | count | {"v.1": torch.zeros(5)}),
        save(tensors | count | {"v.1": torch.zeros(4, dtype=torch.float64)}),
        save(tensors | {"steps": torch.tensor(3.0)}),
        good.to_bytes()[:-1],
        b"",
        b"\x80\x04K\x01.",
    ):
        with pytest.raises(BadInnerState):
            InnerState.from_bytes(wrong, LAYOUT)


def test_the_recipe_says_what_a_round_starts_from(spec):
    kept = some()
    start = state_at_round_start(replace(spec, inner_state="kept"), LAYOUT, 3, kept)
    assert start is kept
    for kind in ("kept", "reset"):
        zero = state_at_round_start(
            replace(spec, inner_state=kind), LAYOUT, 3, None if kind == "kept" else kept
        )
        assert same(zero, InnerState.zeros(LAYOUT))


def test_averaged_moments_have_seen_the_steps_of_all_rounds_before(spec):
    averaged = some().moments
    for number in (1, 3):
        start = state_at_round_start(replace(spec, inner_state="averaged"), LAYOUT, number, some(), averaged)
        assert same(start, InnerState(averaged.m, averaged.v, (number - 1) * spec.inner_steps))


def test_public_moments_begin_anew_where_nobody_sent_them(spec):
    public = some()
    public.m[0][0, 1] = public.m[1][2] = 0.0
    start = state_at_round_start(replace(spec, inner_state="public"), LAYOUT, 3, some(), public.moments)
    assert same(start, InnerState(public.m, public.v, 2 * spec.inner_steps))
    assert [where.nonzero().tolist() for where in start.restart.where] == [[[0, 1]], [[2]]]
    assert start.restart.steps == 0
    averaged = replace(spec, inner_state="averaged")
    assert state_at_round_start(averaged, LAYOUT, 3, None, public.moments).restart is None


def averages(state, decays, gradients):
    """The state after steps by these gradients."""
    m, v = list(state.m), list(state.v)
    for grads in gradients:
        for at, ((first, second), grad) in enumerate(zip(decays, grads, strict=True)):
            m[at] = first * m[at] + (1 - first) * grad
            v[at] = second * v[at] + (1 - second) * grad**2
    return InnerState(tuple(m), tuple(v), state.steps + len(gradients))


def test_a_correction_gives_what_the_certified_moments_would_have_become():
    decays, right, guess = [(0.9, 0.95), (0.5, 0.0)], some(12), some(12)
    gradients = [[torch.randn(spec.shape) for spec in LAYOUT.tensors] for _ in range(5)]
    ahead = averages(guess, decays, gradients)
    put_right, wanted = corrected(ahead, guess, right, 5, decays), averages(right, decays, gradients)
    assert put_right.steps == wanted.steps == 17
    for mine, theirs in zip((*put_right.m, *put_right.v), (*wanted.m, *wanted.v), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ahead.m[0], wanted.m[0], atol=1e-3)


def test_a_correction_leaves_no_negative_v_and_takes_over_what_began_anew(spec):
    public = replace(spec, inner_state="public")
    zero, guess = InnerState.zeros(LAYOUT, 7), some()
    ahead = InnerState(zero.m, zero.v, 9)
    certified = as_begun(public, zero)
    put_right = corrected(ahead, as_begun(public, guess), certified, 2, [(0.9, 0.95)] * 2)
    assert all(not v.any() and not torch.signbit(v).any() for v in put_right.v)
    assert put_right.restart.steps == 2
    assert all(where.all() for where in put_right.restart.where)

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from distrai.algorithms.layout import Layout, TensorSpec
from distrai.training.errors import BadInnerState
from distrai.training.inner_state import InnerState, state_at_round_start

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

from dataclasses import replace

import pytest
import torch

from distrai.algorithms.layout import Layout, TensorSpec
from distrai.training.errors import BadInnerState, BadPrivateState
from distrai.training.inner_state import InnerState
from distrai.training.private import Onward, PrivateState, Trained

LAYOUT = Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (4,))))


def some():
    return tuple(torch.rand(spec.shape) for spec in LAYOUT.tensors)


def inner(steps=7):
    return InnerState(some(), some(), steps)


def plain(value):
    """Anything of these classes as something that can be compared."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, InnerState):
        return plain((value.m, value.v, value.steps))
    if isinstance(value, Onward):
        return plain((value.round, value.params, value.inner))
    return value


def fields(value):
    return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}


KEPT = inner()
STATES = [
    PrivateState(),
    PrivateState(some()),
    PrivateState(None, KEPT),
    PrivateState(some(), KEPT, Onward(3, some(), KEPT)),
    PrivateState(None, None, Onward(3, some(), inner())),
]


@pytest.mark.parametrize("state", STATES)
def test_a_private_state_comes_back_from_its_bytes(state):
    again = PrivateState.from_bytes(state.to_bytes(), LAYOUT)
    assert fields(again) == fields(state)
    assert again.to_bytes() == state.to_bytes()


def test_an_inner_state_is_written_once():
    onward = Onward(3, some(), KEPT)
    shared = PrivateState(None, KEPT, onward)
    twice = PrivateState(None, KEPT, replace(onward, inner=inner()))
    assert len(twice.to_bytes()) > len(shared.to_bytes()) + len(KEPT.to_bytes()) - 10
    again = PrivateState.from_bytes(shared.to_bytes(), LAYOUT)
    assert again.onward.inner is again.inner


def trained(**changes):
    made = Trained(
        b"payload", 5, 80, 2.5, 0.25, 2, some(), some(), KEPT, Onward(4, some(), KEPT), replica=False
    )
    return replace(made, **changes)


def test_a_training_comes_back_from_its_bytes():
    for made in (trained(), trained(if_counted=None, if_not=None, inner=None, onward=None, replica=True)):
        again = Trained.from_bytes(made.to_bytes(), LAYOUT)
        assert fields(again) == fields(made)


def test_what_follows_depends_on_whether_the_update_counts():
    made = trained()
    assert made.settle(True) == PrivateState(made.if_counted, made.inner, made.onward)
    assert made.settle(False) == PrivateState(made.if_not, made.inner, None)
    assert replace(made, replica=True).settle(False).onward is made.onward


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: data[:20] + b"\xff" + data[21:],
    ],
)
def test_damaged_bytes_are_refused(damage):
    for data, read in ((STATES[3].to_bytes(), PrivateState), (trained().to_bytes(), Trained)):
        with pytest.raises((BadPrivateState, BadInnerState)):
            read.from_bytes(damage(data), LAYOUT)


def test_those_of_another_model_are_refused():
    other = Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (5,))))
    with pytest.raises(BadPrivateState, match="remove it"):
        PrivateState.from_bytes(STATES[1].to_bytes(), other)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.oracle import algorithm, tensors
from distrai.algorithms import Layout
from distrai.algorithms.feedback import carry, settle

SMALL = Layout.from_pairs([("matrix", (66, 70)), ("bias", (40,))])
NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4).map(lambda v: (torch.tensor(v),))


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_transition_is_the_formula_and_pure(e, delta, decoded):
    before = e[0].clone()
    carried = carry(delta, e, 0.5)
    assert np.array_equal(carried[0].numpy(), np.float32(0.5) * e[0].numpy() + delta[0].numpy())
    assert torch.equal(settle(carried, decoded, accepted=True)[0], carried[0] - decoded[0])
    assert torch.equal(settle(carried, decoded, accepted=False)[0], carried[0])
    assert torch.equal(e[0], before)
    assert torch.equal(carry(delta, None, 0.5)[0], delta[0])


def test_encode_offers_both_futures():
    algo = algorithm("sparseloco", SMALL)
    held, delta = tensors(1, SMALL), tensors(2, SMALL)
    encoded = algo.encode(delta, feedback=held)
    out = algo.decode(encoded.payload)
    for at in range(2):
        owed = held[at] * torch.tensor([0.95]) + delta[at]
        assert torch.equal(encoded.carried_feedback[at], owed)
        assert torch.equal(encoded.pending_feedback[at], owed - out[at])
    assert encoded.feedback(accepted=True) is encoded.pending_feedback
    assert encoded.feedback(accepted=False) is encoded.carried_feedback


def test_without_feedback_nothing_is_kept():
    encoded = algorithm("sparseloco", SMALL, error_feedback=0.0).encode(tensors(1, SMALL))
    assert (encoded.pending_feedback, encoded.carried_feedback) == (None, None)


@pytest.mark.parametrize("bits", [2, 32])
def test_what_is_not_sent_is_sent_later(bits):
    """With a constant delta the mean of what was sent comes near it, which a codec without feedback never does."""
    algo = algorithm("sparseloco", SMALL, error_feedback=0.999, codec_options={"k": 512, "value_bits": bits})
    delta, feedback = tensors(3, SMALL), None
    sent = torch.zeros(66, 70)
    for _ in range(60):
        encoded = algo.encode(delta, feedback=feedback)
        feedback = encoded.feedback(accepted=True)
        sent += algo.decode(encoded.payload)[0]
    error = float((sent / 60 - delta[0]).norm() / delta[0].norm())
    once = float((algo.decode(algo.encode(delta).payload)[0] - delta[0]).norm() / delta[0].norm())
    assert error < 0.15 < once

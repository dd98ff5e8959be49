"""The choice of learning rates: from a valley of losses to its bottom, with no run too many."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.comparison.sweep import Rates, rung, tune

RUNGS = (2.0, 4.0, 8.0)


def chosen(best, rungs=RUNGS, extend=4, loss=None):
    """Every rate that was asked for, and what was chosen, if the best inner rate is ``best``."""
    known = {}

    def measure(lr, outer_lr):
        return known.get((lr, outer_lr))

    while (rates := tune((3.0, 1.0), rungs, (), extend, measure)).wanted:
        for lr, outer_lr in rates.wanted:
            assert (lr, outer_lr) not in known, "nothing is measured twice"
            known[lr, outer_lr] = loss(lr) if loss else abs(math.log(lr / best))
    return sorted(lr for lr, _ in known), rates


@pytest.mark.parametrize(
    ("best", "measured"),
    [(4.0, [2.0, 4.0, 8.0]), (16.0, [2.0, 4.0, 8.0, 16.0, 32.0]), (1.0, [0.5, 1.0, 2.0, 4.0, 8.0])],
)
def test_a_ladder_grows_past_its_end_while_that_is_best(best, measured):
    assert chosen(best) == (measured, Rates(best, 1.0))


def test_a_ladder_grows_so_far_and_says_that_its_best_is_at_the_edge():
    measured, rates = chosen(1000.0, extend=2)
    assert measured[-1] == rates.lr == 32.0
    assert rates.at_edge
    assert not chosen(4.0, extend=0)[1].at_edge
    assert not chosen(4.0, rungs=(4.0,), extend=0)[1].at_edge, "one rung is no ladder"


def test_what_diverges_is_left_downwards():
    assert chosen(0, loss=lambda rate: math.inf if rate > 1 else rate)[1].lr == 0.125


def test_the_inner_rate_comes_first_and_the_outer_one_after_it():
    asked = []

    def measure(lr, outer_lr):
        asked.append((lr, outer_lr))
        return abs(math.log(lr / 4)) + abs(math.log(outer_lr / 0.7))

    assert tune((3.0, 1.0), RUNGS, (0.7, 1.0), 0, measure) == Rates(4.0, 0.7, (), at_edge=True)
    assert asked == [(2.0, 1.0), (4.0, 1.0), (8.0, 1.0), (4.0, 0.7), (4.0, 1.0)]


def test_all_that_is_missing_of_a_ladder_is_wanted_at_once():
    assert tune((3.0, 1.0), RUNGS, (0.5,), 4, lambda *_: None).wanted == ((2.0, 1.0), (4.0, 1.0), (8.0, 1.0))


def test_no_rungs_leave_the_rates_as_they_are():
    assert tune((3.0, 0.7), (), (), 4, lambda *_: None) == Rates(3.0, 0.7)


@given(best=st.integers(-6, 8))
def test_the_bottom_of_any_valley_within_reach_is_found(best):
    assert chosen(rung(RUNGS, best), extend=6)[1].lr == rung(RUNGS, best)

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.algorithms.schedule import Schedule, cosine_of_half_turns

SHARES = st.floats(0, 1)
SCHEDULES = st.builds(Schedule, st.sampled_from(["constant", "cosine", "wsd"]), SHARES, SHARES, SHARES)


@given(SHARES)
def test_the_own_cosine_is_the_cosine(turns):
    assert cosine_of_half_turns(turns) == pytest.approx(math.cos(math.pi * turns), abs=1e-15)
    assert cosine_of_half_turns(1 - turns) == pytest.approx(-cosine_of_half_turns(turns), abs=1e-15)
    assert [cosine_of_half_turns(x) for x in (0.0, 0.5, 1.0)] == [1.0, 0.0, -1.0]


@given(SCHEDULES, SHARES)
def test_factors_are_shares(schedule, position):
    assert 0 <= schedule.factor(position) <= 1


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Schedule("constant", 0.1), {0: 0, 0.05: 0.5, 0.1: 1, 1: 1}),
        (Schedule("cosine", 0.2, final_fraction=0.1), {0.1: 0.5, 0.2: 1, 0.6: 0.55, 1: 0.1, 1.5: 0.1}),
        (Schedule("wsd", 0.1, 0.2, 0.1), {0.1: 1, 0.8: 1, 0.9: 0.55, 1: 0.1}),
        (Schedule("wsd", 0.5, 0.8, 0.0), {0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0}),
        (Schedule("wsd", 0.0, 0.0, 0.0), {0: 1, 1: 1}),
        (Schedule("cosine", 1.0), {0.5: 0.5, 1: 1}),
        (Schedule("cosine", 0.0, final_fraction=0.0), {0: 1, 0.5: 0.5, 1: 0}),
    ],
)
def test_shapes(schedule, points):
    assert {at: schedule.factor(at) for at in points} == pytest.approx(points)


def test_the_bits_are_frozen():
    """Outer rates follow it: if these change, old runs cannot be replayed."""
    schedule = Schedule("cosine", 0.05, 0.2, 0.1)
    assert [schedule.factor(k / 7).hex() for k in range(8)] == FROZEN


FROZEN = [
    "0x0.0p+0",
    "0x1.f538f1fb39a01p-1",
    "0x1.bd7a0408d2df1p-1",
    "0x1.61d4f764869ccp-1",
    "0x1.ecba602b05680p-2",
    "0x1.253ada0b237bdp-2",
    "0x1.31be3c59ce2bdp-3",
    "0x1.999999999999ap-4",
]

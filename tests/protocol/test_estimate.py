"""What taking part may bring: exact arithmetic on what the last rounds showed."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.estimate import SeenRound, estimate
from distrai.protocol.primitives import MemberId
from distrai.protocol.rewards import (
    MILLION,
    Allowance,
    Earnings,
    RewardTerms,
    WorkedRound,
    settle,
)

A, B, C = (MemberId(bytes([number]) * 32) for number in (1, 2, 3))
TERMS = RewardTerms(price=3 * MILLION, cap=900, max_members=4, min_round_seconds=10)


def seen(number: int, time: int, tokens: dict[MemberId, int] | None, trainers: int = 3) -> SeenRound:
    return SeenRound(number, trainers, time, tokens, empty=tokens == {})


def test_by_hand() -> None:
    rounds = [
        seen(1, 100, {A: 100, B: 200, C: 400}),
        seen(2, 160, {A: 100, B: 200}),
        seen(3, 220, {}),
        seen(4, 280, {A: 100}),
    ]
    made = estimate(TERMS, rounds, peers=3, round_tokens=10)
    assert made.pay == Fraction(300 + 600 + 900 + 300 + 600 + 300, 6), "1200 is cut down to the cap of 900"
    assert made.acceptance == Fraction(6, 9)
    assert made.per_round == made.pay * Fraction(6, 9)
    assert made.worked_per_hour == Fraction(2 * 3600, 180), (
        "two non-empty rounds in the three minutes after the first"
    )
    assert made.per_hour == made.per_round * 40
    assert made.per_day == made.per_hour * 24
    assert (made.peers, made.rounds, made.listed, made.assumed) == (3, 4, 3, False)


def test_rounds_that_come_faster_than_is_paid_do_not_count() -> None:
    rounds = [seen(number, 100 + number, {A: 100}, trainers=1) for number in range(1, 6)]
    assert estimate(TERMS, rounds, 1, 10).worked_per_hour == 360
    rounds = [seen(number, 100, {A: 100}, trainers=1) for number in range(1, 6)]
    assert estimate(TERMS, rounds, 1, 10).worked_per_hour == 360


def test_where_no_list_is_known_all_inner_steps_are_assumed_and_that_is_said() -> None:
    made = estimate(TERMS, [seen(1, 100, None), seen(2, 200, None)], 3, round_tokens=50)
    assert made.assumed and made.pay == 150 and made.acceptance == 1
    assert made.worked_per_hour == 36
    young = estimate(TERMS, [], 0, round_tokens=50)
    assert young.assumed and young.per_round == 150
    assert young.per_hour is None and young.per_day is None


def test_more_updates_than_trainers_that_were_counted_is_no_more_than_all() -> None:
    made = estimate(TERMS, [seen(1, 100, {A: 1, B: 1}, trainers=1)], 2, 10)
    assert made.acceptance == 1


@given(
    st.lists(st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 1000)), min_size=2, max_size=8),
    st.integers(1, 10 * MILLION),
    st.integers(1, 2000),
)
def test_what_it_expects_is_what_was_paid_for_those_rounds(
    tokens: list[dict[MemberId, int]], price: int, cap: int
) -> None:
    """Three members in every round: what a member earned on average is what the estimate says of such rounds."""
    terms = RewardTerms(price, cap, 3, 1)
    worked = [WorkedRound(number, listed) for number, listed in enumerate(tokens, 1) if listed]
    earned = settle(
        Earnings(),
        worked,
        terms,
        paid=len(worked),
        escrow=len(tokens) * terms.rate,
        allowances=[Allowance(member, 1) for member in (A, B, C)],
    )
    rounds = [seen(number, 100 * number, listed) for number, listed in enumerate(tokens, 1)]
    made = estimate(terms, rounds, 3, 10)
    if worked:
        total = Fraction(sum(earned.millionths.values()), MILLION)
        assert made.per_round == total / (3 * len(worked))

"""How many inner steps a peer takes where slower ones may take fewer."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.peer.pace import MARGIN, TOLERANCE, Pace
from helpers.messages import Author
from helpers.rounds import authors, started, update_of

H = 40


class Watched:
    """As much of a round as a pace looks at; it began at 0."""

    def __init__(self, count: int = 4) -> None:
        self.people = authors(count)
        self.standing = started(self.people)
        self.member = self.people[0].member
        self.began_at = 0.0
        self.own = SimpleNamespace(update=None)
        self.book = SimpleNamespace(updates={})

    def announce(self, author: Author, steps: int = H) -> None:
        message = update_of(author, self.standing, inner_steps=steps)
        self.book.updates[author.member] = SimpleNamespace(message=message)


def lived(pace: Pace, own_s: float, others: dict[int, float], own_steps: int = H, steps: int = H) -> Watched:
    """One round: the others (by number) announce at their times, then this peer is done after ``own_s``."""
    round_ = Watched(len(others) + 1)
    pace.begin_round(round_)
    for number, at in sorted(others.items(), key=lambda item: item[1]):
        round_.announce(round_.people[number], steps)
        pace.watch(round_, at)
    pace.trained(round_.member, 1, own_steps, own_s)
    return round_


def test_everybody_takes_all_steps_until_something_was_measured() -> None:
    assert Pace(H, measured=True).steps(Watched()) == H


def test_fixed_pace_never_takes_fewer() -> None:
    pace = Pace(H, measured=False)
    round_ = lived(pace, 80.0, {1: 10.0, 2: 10.0, 3: 10.0})
    assert pace.steps(round_) == H


def test_eight_times_slower_takes_about_an_eighth() -> None:
    pace = Pace(H, measured=True)
    round_ = lived(pace, 80.0, {1: 10.0, 2: 10.5, 3: 11.0})
    assert pace.steps(round_) == math.floor(H * MARGIN * 10.5 / 80.0) == 4


def test_it_is_not_misled_by_its_own_fewer_steps() -> None:
    pace = Pace(H, measured=True)
    round_ = lived(
        pace, 10.0, {1: 10.0, 2: 10.5, 3: 11.0}, own_steps=5
    )  # five steps in ten seconds: all take eighty
    assert pace.steps(round_) == 4


def test_fast_peers_are_not_hurried_by_a_slow_one_that_took_few_steps() -> None:
    pace, round_ = Pace(H, measured=True), Watched()
    pace.begin_round(round_)
    for number, at, steps in ((3, 5.0, 4), (1, 10.0, H), (2, 10.5, H)):
        round_.announce(round_.people[number], steps)
        pace.watch(round_, at)
    pace.trained(round_.member, 1, H, 10.2)
    assert pace.steps(round_) == H


@given(st.floats(1.0, TOLERANCE * 10.0))
def test_small_differences_do_not_count(own_s: float) -> None:
    pace = Pace(H, measured=True)
    round_ = lived(pace, own_s, {1: 10.0, 2: 10.0, 3: 10.0})
    assert pace.steps(round_) == H


def test_the_slower_of_two_takes_fewer() -> None:
    pace = Pace(H, measured=True)
    round_ = lived(pace, 80.0, {1: 10.0})
    assert pace.steps(round_) == 4


def test_who_hears_too_few_learns_nothing() -> None:
    pace, round_ = Pace(H, measured=True), Watched(6)
    pace.begin_round(round_)
    round_.announce(round_.people[1])
    pace.watch(round_, 10.0)
    pace.trained(round_.member, 1, H, 80.0)
    assert pace.steps(round_) == H


def test_it_is_asked_once_to_come_to_an_end_when_most_others_have_waited_a_while() -> None:
    pace, round_ = Pace(H, measured=True), Watched(6)
    pace.begin_round(round_)
    for number in (1, 2, 3):
        assert pace.due_at(round_) == math.inf
        round_.announce(round_.people[number])
        assert not pace.watch(round_, 10.0)
    assert pace.due_at(round_) == pytest.approx(TOLERANCE * 10.0)
    assert not pace.watch(round_, TOLERANCE * 10.0 - 0.1)
    assert pace.watch(round_, TOLERANCE * 10.0)
    assert not pace.watch(round_, TOLERANCE * 10.0 + 1.0)
    assert pace.due_at(round_) == math.inf


def test_nobody_is_asked_to_end_who_is_done_or_has_a_fixed_pace_or_is_not_waited_for() -> None:
    done, fixed = Watched(), Watched()
    done.own.update = object()
    late = Pace(H, measured=True, waited_for=False)
    for pace, round_ in ((Pace(H, measured=True), done), (Pace(H, measured=False), fixed), (late, Watched())):
        pace.begin_round(round_)
        for number in (1, 2, 3):
            round_.announce(round_.people[number])
        assert not pace.watch(round_, 10.0)
        assert not pace.watch(round_, 1000.0)


def test_an_update_that_comes_rounds_later_is_counted_from_its_own_round() -> None:
    pace, first = Pace(H, measured=True, waited_for=False), Watched(2)
    pace.begin_round(first)
    pace.trained(first.member, 1, H, 10.0)
    second = Watched(2)
    second.standing = replace(second.standing, round=1)
    second.began_at = 15.0
    pace.begin_round(second)
    late = update_of(first.people[1], first.standing, inner_steps=H)
    second.book.updates["late"] = SimpleNamespace(message=late)
    pace.watch(second, 80.0)
    assert pace.full_s[late.member] == 80.0
    assert not pace.announced

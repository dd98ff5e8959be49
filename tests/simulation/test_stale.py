"""Whole networks whose rounds do not wait for everybody: what is late counts later, once."""

from dataclasses import replace

from distrai.peer.book import RoundBook
from distrai.peer.identity import Timing
from distrai.protocol import standing
from distrai.simulation import SCENARIOS, Report, simulate
from distrai.simulation.scenario import Scenario


def check(scenario: Scenario, seed: int) -> Report:
    report = simulate(scenario, seed)
    assert not report.violations, str(report)
    return report


def broken(scenario: Scenario, *seeds: int) -> str:
    return "\n".join("\n".join(simulate(scenario, seed).violations) for seed in seeds)


def test_where_all_are_waited_for_and_nobody_is_late_the_states_are_those_of_a_synchronous_run() -> None:
    scenario = replace(SCENARIOS["calm"], rounds=6)
    synchronous = check(scenario, 3)
    late = check(replace(scenario, staleness=3, quorum=scenario.peers), 3)
    assert late.state_roots == synchronous.state_roots and late.round_s == synchronous.round_s
    other = check(replace(scenario, staleness=3, quorum=2), 3)
    assert other.state_roots != synchronous.state_roots


def test_a_slow_peer_costs_the_others_no_time_and_its_work_counts() -> None:
    """It needs four times as long; rounds close with four updates of five, and its own may come four rounds late."""
    timing = Timing(d0_s=1.0, cut_s=20.0, hard_s=40.0)
    slow = replace(
        SCENARIOS["stale-slow"], slow_factor=4.0, quorum=4, rounds=10, train_s=(2.0, 2.2), timing=timing
    )
    report = check(slow, 1)
    waiting = check(replace(slow, staleness=0, quorum=0), 1)
    assert sum(report.round_s) < sum(waiting.round_s) / 2
    assert report.dropped == 0, "it is in one of five lists"


def test_an_update_that_counts_twice_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(standing, "spent_after", lambda *_: frozenset())
    scenario = replace(SCENARIOS["stale-many-at-once"], faults_s=0, rounds=6)
    assert "lists an update of a member and a base again" in broken(scenario, 1)


def test_an_update_that_is_too_old_or_of_another_chain_is_noticed(monkeypatch) -> None:
    younger = standing.younger
    monkeypatch.setattr(
        standing, "younger", lambda bases, number, staleness: younger(bases, number, staleness + 3)
    )
    assert "of another round" in broken(replace(SCENARIOS["stale-many-at-once"], faults_s=0, rounds=6), 1)


def test_work_that_two_thirds_hold_and_nobody_lists_is_noticed(monkeypatch) -> None:
    """Seats that forget what was not listed at once, and rounds that end without it."""
    allowed, authors = RoundBook.allowed, []

    def but_one(book: RoundBook) -> list:
        names = allowed(book)
        authors.extend(book.updates[name].message.member for name in names)
        return [name for name in names if book.updates[name].message.member != min(authors)]

    monkeypatch.setattr(RoundBook, "allowed", but_one)
    assert "was held by two thirds and never listed" in broken(replace(SCENARIOS["stale-calm"], rounds=10), 0)

"""Whole networks under faults: whatever the seed, nothing that must hold breaks. A failure prints what replays it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from distrai.peer import book
from distrai.peer.book import RoundBook
from distrai.peer.events import Persist, Send
from distrai.peer.following import Following
from distrai.peer.identity import Timing
from distrai.peer.mailbox import Mailbox
from distrai.peer.round import Round
from distrai.protocol import standing
from distrai.protocol.errors import WrongKey
from distrai.protocol.keccak import keccak
from distrai.simulation import SCENARIOS, Links, Report, Scenario, compute, effects, heads, ledger, simulate, toy
from distrai.simulation.campaign import NAMES, plan, run_one
from distrai.simulation.contract import Limits
from distrai.simulation.disk import Disk
from distrai.simulation.peer import SimulatedPeer

SEEDS = int(os.environ.get("DISTRAI_SEEDS", "100"))
"""Runs over all scenarios: each gets its share of the seeds."""


def check(scenario: Scenario, seed: int) -> Report:
    report = simulate(scenario, seed)
    assert not report.violations, str(report)
    return report


@pytest.mark.parametrize("name", NAMES)
def test_nothing_breaks(name: str) -> None:
    for run in plan(0, SEEDS):
        if run[0] == name:
            report, _ = run_one(run)
            assert not report.violations, str(report)


def test_without_faults_everybody_is_in_every_list_and_nobody_proposes() -> None:
    report = check(SCENARIOS["calm"], 0)
    assert report.rounds >= 3 and set(report.listed) == {4} and report.proposals == 0
    assert report.empty_rounds == 0 and max(report.round_s) < 8
    roots = set(report.state_roots.values())
    assert len({root[:3] for root in roots}) == 1 and len(set(next(iter(roots)))) == len(next(iter(roots)))


def test_one_peer_alone_makes_rounds() -> None:
    assert set(check(replace(SCENARIOS["calm"], peers=1), 1).listed) == {1}


def test_a_silent_seat_is_dropped_after_four_lists_and_rounds_are_fast_again() -> None:
    scenario = replace(SCENARIOS["silent"], limits=Limits(), peers=5, rounds=8, faults_s=0)
    report = check(scenario, 0)
    assert max(report.round_s[6:]) < min(report.round_s[:4])


def test_with_too_few_updates_rounds_are_empty_and_the_state_stays() -> None:
    """Two trainings of four end after T_hard: fewer than the three updates that a round needs."""
    scenario = replace(SCENARIOS["calm"], min_updates=3, slow_peers=2, slow_factor=100.0, train_s=(1.0, 2.0))
    report = check(scenario, 0)
    assert report.empty_rounds == report.rounds >= 3 and report.roll_calls == 0
    assert all(len(set(roots)) == 1 for roots in report.state_roots.values())


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    scenario = SCENARIOS["everything"]
    first, second, other = simulate(scenario, 3), simulate(scenario, 3), simulate(scenario, 4)
    assert first == second and str(first) == str(second)
    assert first.state_roots != other.state_roots


def test_the_replay_command_gives_the_same_run_in_another_process() -> None:
    report = simulate(SCENARIOS["bad-proposals"], 5)
    command = [sys.executable, *report.replay.split()[1:]]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == str(report)


def test_a_failing_report_prints_the_command_that_replays_it() -> None:
    report = Report("lossy", 17, violations=["something"])
    assert "BROKEN something" in str(report) and str(report).endswith(
        "replay: python -m distrai.simulation lossy 17"
    )


@pytest.mark.parametrize(
    "liars", [("garbage", "copies"), ("equivocates", "withholds"), ("not-finite", "silent")]
)
def test_pairs_of_liars_among_seven(liars: tuple[str, str]) -> None:
    scenario = Scenario("pair", peers=7, liars=liars, limits=Limits(7), links=Links(lost=0.05), faults_s=20)
    check(scenario, 2)


# The simulator notices what is broken


def broken(name: str, *seeds: int) -> str:
    reports = [simulate(SCENARIOS[name], seed) for seed in seeds]
    return "\n".join(str(report) for report in reports if report.violations)


def test_a_peer_that_forgets_what_it_said_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Disk, "own_records", lambda disk: [])
    assert "sent two different messages of kind" in broken("power-cuts", 0)


def test_a_message_that_is_sent_before_it_is_on_disk_is_noticed(monkeypatch) -> None:
    say = Round.say

    def hasty(round_: Round, *args, **kwargs):
        signed = say(round_, *args, **kwargs)
        assert isinstance(round_.effects[-2], Persist) and isinstance(round_.effects[-1], Send)
        round_.effects[-2:] = [round_.effects[-1], round_.effects[-2]]
        return signed

    monkeypatch.setattr(Round, "say", hasty)
    assert "that was not persisted" in broken("calm", 0)


def test_a_proposer_that_never_rotates_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(Timing, "attempt_at", lambda timing, since: (0, 0.0, 1e9))
    assert "did not close within" in broken("silent", 0)


def test_counting_an_update_whose_key_is_unknown_is_noticed(
    monkeypatch,
) -> None:
    monkeypatch.setattr(RoundBook, "is_open", lambda book, update: update in book.updates)
    assert "the engine raised KeyError" in broken("keyless", 0)


def test_another_state_than_the_certified_one_is_noticed(monkeypatch) -> None:
    save = Disk.save_applied
    monkeypatch.setattr(Disk, "save_applied", lambda disk, apply, root: save(disk, apply, keccak(root)))
    assert "holds other states than the ledger" in broken("calm", 0)


def test_a_peer_that_computes_another_state_is_noticed(monkeypatch) -> None:
    compute, odd = effects.state_root_of, []

    def differently(before, certified, blobs):
        odd.append(blobs)
        root = compute(before, certified, blobs)
        return keccak(root) if blobs is odd[0] else root

    monkeypatch.setattr(effects, "state_root_of", differently)
    assert "leads to another state than was certified" in broken("calm", 0)


def test_an_update_that_is_not_finite_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(toy, "NOT_FINITE", b"")
    assert "is not finite" in broken("not-finite", 0)


def test_a_queue_without_bound_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(book, "UPDATES_PER_AUTHOR", 1000)
    assert "above the bound of" in broken("garbage", 0)


def test_a_lost_list_is_noticed(monkeypatch) -> None:
    """No peer answers for the list of a round that is over."""
    monkeypatch.setattr(effects, "_offer", lambda peer, offer: None)
    assert "a certified round is lost" in broken("splits", 0)


def test_an_honest_message_that_is_refused_is_noticed(monkeypatch) -> None:
    take = Round.take

    def picky(round_, signed, now):
        if signed.message.kind == "key":
            raise WrongKey("none is right")
        take(round_, signed, now)

    monkeypatch.setattr(Round, "take", picky)
    assert "refused a key of peer" in broken("calm", 0)

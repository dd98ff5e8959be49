"""Whole networks under faults: whatever the seed, nothing that must hold breaks. A failure prints what replays it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from distrai.simulation import SCENARIOS, Links, Report, Scenario, simulate
from distrai.simulation.__main__ import main
from distrai.simulation.campaign import NAMES, plan, run_campaign, run_one
from distrai.simulation.contract import Limits
from distrai.simulation.disk import Disk
from distrai.simulation.peer import SimulatedPeer
from distrai.simulation.scenario import Churn, Loss

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


# Members that come and go


def test_after_the_loss_of_half_of_the_seats_a_roll_call_lets_training_go_on() -> None:
    report = check(SCENARIOS["mass-loss"], 0)
    lost = report.listed.index(3)
    assert report.roll_calls == 1 and set(report.listed[:lost]) == {6} and set(report.listed[lost:]) == {3}
    assert max(report.round_s) > 2 * SCENARIOS["mass-loss"].limits.stall_seconds - 1
    assert max(report.round_s[-2:]) < 10


def test_with_fewer_than_a_roll_call_needs_the_run_stops_and_says_so() -> None:
    report = check(replace(SCENARIOS["mass-loss"], losses=(Loss(12.0, 0.7),)), 0)
    assert report.stopped and report.roll_calls == 0


def test_joiners_begin_from_snapshots_become_seats_and_everybody_agrees() -> None:
    report = check(replace(SCENARIOS["joins"], rounds=18), 1)
    assert report.snapshots == 3 and report.promoted == 3
    assert len(report.state_roots) == 7 and {roots[-1] for roots in report.state_roots.values()} == {
        report.state_roots["peer 0"][-1]
    }


def test_twenty_guests_cost_the_others_two_seconds_a_round_at_most() -> None:
    """What is waited for trainers without a seat: 5/3 ``d0_s``."""
    scenario = SCENARIOS["guests"]
    alone = check(replace(scenario, churn=Churn()), 0)
    report = check(scenario, 0)
    assert report.roll_calls == 0 and report.promoted == 0
    typical, before = sorted(report.round_s)[report.rounds // 2], sorted(alone.round_s)[alone.rounds // 2]
    assert typical < before + 2.0


def test_new_keys_reach_the_seats_by_certificates_without_any_loss() -> None:
    report = check(SCENARIOS["rotations"], 1)
    assert report.promoted >= 2 and report.dropped == 0 and set(report.listed) == {4}


def test_reorgs_take_heads_back_and_every_round_lands_in_the_end() -> None:
    report = check(SCENARIOS["reorgs"], 3)
    assert report.reorgs > 2 and report.reverted > 2 and report.rounds > 3


# Campaigns


def test_a_campaign_goes_over_all_scenarios_in_turn_and_goes_on_where_it_was(tmp_path, capsys) -> None:
    assert [name for name, _ in plan(7, len(NAMES))] == [*NAMES[7:], *NAMES[:7]]
    path = tmp_path / "figures.json"
    first = run_campaign([("calm", 0), ("silent", 1)], 1, path, "made by a test")
    again = run_campaign([("calm", 0), ("silent", 1), ("calm", 2)], 1, path, "made by a test")
    assert first.rows["calm"].seeds == [0] and again.rows["calm"].seeds == [0, 2]
    assert again.rows["calm"].totals["rounds"] >= 6 and again.broken == 0
    assert json.loads(path.read_text())["total"]["seeds"] == 3
    lines = again.table().splitlines()
    assert lines[0].split()[:2] == ["scenario", "seeds"] and lines[-1].split()[:2] == ["all", "3"]


def test_what_the_simulator_raises_is_a_violation_of_its_seed(monkeypatch) -> None:
    monkeypatch.setattr(SimulatedPeer, "start", lambda peer: 1 / 0)
    report, _ = run_one(("calm", 0))
    assert "ZeroDivisionError" in report.violations[0]


def test_the_command_line_says_what_broke_and_how_to_replay_it(monkeypatch, capsys, tmp_path) -> None:
    assert main(["calm", "0"]) == 0
    monkeypatch.setattr(Disk, "own_records", lambda disk: [])
    assert main(["power-cuts", "0", "2"]) == 1
    said = capsys.readouterr().out
    assert "BROKEN" in said and "replay: python -m distrai.simulation power-cuts 0" in said

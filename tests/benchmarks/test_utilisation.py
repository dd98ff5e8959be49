"""The arithmetic of the utilisation benchmark, on accounts of runs that were never made."""

import json
from dataclasses import replace

import pytest

import utilisation_arms
import utilisation_figures as figures
import utilisation_network as network
from bench_check import Report, measured
from distrai.algorithms.section import algorithm_spec
from distrai.peer.journal import Spent, Trained
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.recipe import RecipeError, parse_recipe
from distrai.runs.logs import AppliedRound, PeerLog
from targets import TARGETS

ROUNDS, TOKENS = 6, 1000
WINDOW = figures.Window(2, ROUNDS)
BOTH = frozenset(MemberId(bytes([number]) * 32) for number in (1, 2))
ALONE = [
    {"tokens": 2000.0, "seconds": 10.0, "cpu_s": 8.0},
    {"tokens": 2000.0, "seconds": 20.0, "cpu_s": 20.0},
]


def account(number, round_s=10.0, inner_s=7.0):
    """A peer whose rounds end every ``round_s``, the first two much later."""
    member = MemberId(bytes([number]) * 32)
    log = PeerLog(f"peer-{number}", member, [(0.0, 1.0)])
    for each in range(1, ROUNDS + 1):
        ended = 100.0 * min(each, 2) + round_s * max(0, each - 2)
        log.trained[each] = Trained(1.0, 10, TOKENS, inner_s, ended - inner_s, ended)
        log.applied[each] = AppliedRound(ended + 1, Hash(bytes(32)), Hash(bytes([each]) * 32), BOTH)
        log.spent[each] = Spent(each * 5.0, each * 4.5)
    return log


def test_the_rounds_of_the_window_alone_count_from_last_step_to_last_step():
    logs = [account(1, 10.0), account(2, 20.0)]
    assert figures.tokens_per_s(logs[0], WINDOW) == TOKENS / 10
    found = figures.figures(logs, WINDOW, ALONE, ALONE)
    assert found["utilisation"] == pytest.approx((100 + 50) / (200 + 100))
    assert found["utilisation_at_least"] == pytest.approx(150 / (250 + 100), abs=1e-4)
    assert found["by_round"] == [0.5] * 4
    assert found["busy_share"] == pytest.approx((0.7 + 0.35) / 2)
    assert found["round_s"] == 15
    assert found["cpu_s_beside_model"] == pytest.approx(0.5)


def test_tokens_of_an_update_that_is_in_no_certificate_do_not_count():
    log = account(1)
    log.applied[4] = replace(log.applied[4], members=BOTH - {log.member})
    assert figures.tokens_per_s(log, WINDOW) == pytest.approx(0.75 * TOKENS / 10)
    assert figures.by_round([log], WINDOW, 100.0) == [1.0, 0.0, 1.0, 1.0]


def test_what_was_reached_alone_is_the_mean_of_before_and_after():
    faster = [one | {"seconds": one["seconds"] / 2} for one in ALONE]
    found = figures.figures([account(1)], WINDOW, ALONE, faster)
    assert found["alone_per_s"] == [300, 600]
    assert found["utilisation"] == pytest.approx(100 / 450, abs=1e-4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: log.sessions.append((2.0, 3.0)),
        lambda log: log.trained.pop(3),
        lambda log: log.applied.pop(ROUNDS),
        lambda log: log.applied.update({5: replace(log.applied[5], state_root=Hash(bytes(32)))}),
    ],
)
def test_runs_with_a_restart_a_gap_or_two_states_are_no_measurement(spoil):
    logs = [account(1), account(2)]
    figures.check_steady(logs, ROUNDS)
    spoil(logs[1])
    with pytest.raises(figures.Unsteady):
        figures.check_steady(logs, ROUNDS)


@pytest.mark.parametrize(
    ("foreign", "alone", "disturbed"),
    [(0.01, (100, 104), False), (0.06, (100, 100), True), (0.01, (106, 100), True), (0.01, (100, 106), True)],
)
def test_a_run_beside_other_work_is_called_disturbed(foreign, alone, disturbed):
    assert figures.is_disturbed(foreign, alone) is disturbed


def arm(name, *runs):
    keys = ("utilisation", "utilisation_at_least", "disturbed")
    told = [dict(zip(keys, run, strict=True)) for run in runs]
    return {"arm": name, "inner_state": "kept", "runs": told, "utilisation": figures.summary(told)}


def test_disturbed_runs_count_only_with_what_they_reached_at_least():
    mixed = arm("mixed", (0.9, 0.89, False), (0.92, 0.9, False), (2.2, 0.4, True))
    assert mixed["utilisation"] == {"mean": 0.91, "min": 0.9, "max": 0.92, "runs": 2, "disturbed": 0}
    assert figures.best([mixed, arm("noise", (2.2, 0.8, True))])["arm"] == "mixed"
    found = figures.best([mixed, arm("noise", (2.2, 0.95, True))])
    assert (found["arm"], found["utilisation"], found["disturbed"]) == ("noise", 0.95, True)
    assert figures.best([]) is None


def test_the_link_lets_rounds_compute_for_the_share_that_is_aimed_for():
    mbit = figures.link_mbit(1_000_000, 4.0, 0.5)
    assert mbit == pytest.approx(2.0)
    assert figures.link_mbit(1_000_000, 4.0, 0.25) == pytest.approx(0.66), "two digits, never faster"


def test_every_arm_is_an_algorithm_and_overlaps_by_less_than_a_round():
    refused = set()
    for each in utilisation_arms.ARMS:
        made = parse_recipe(utilisation_arms.recipe(each, 200, 4, 2, ROUNDS))
        try:
            spec = algorithm_spec(made.algorithm)
        except RecipeError:
            refused.add(each.name)
            continue
        assert spec.overlap == made.algorithm.overlap or not spec.overlap
        assert spec.overlap < 200 == spec.inner_steps
        assert bool(spec.overlap) == (each.tau > 0), each.name
    assert not refused
    names = [each.name for each in utilisation_arms.ARMS]
    assert len({*names}) == len(names)
    assert names[0] == utilisation_arms.PLAIN, "the link is chosen by the first arm"


def test_a_peer_is_started_in_its_place():
    place = network.Place(("ip", "netns", "exec", "there"), "10.0.0.7", 1)
    job = network.Job({"name": "x"}, "folder", "10.0.0.1", {"peer-1": place})
    assert network.Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    command = network.placed(["distrai.peer", "--host", "10.0.0.1", "--port", "0"], place)
    assert command[:2] == ["utilisation_place", "1"]
    assert command[2:6] == list(place.enter)
    assert command[-5:] == ["distrai.peer", "--host", "10.0.0.7", "--port", "0"]


def test_the_targets_are_where_the_report_has_them(tmp_path):
    part = {"inner_steps": 200, "arms": [arm("diloco", (0.5, 0.5, False)), arm("x", (0.96, 0.9, False))]}
    part["best"] = figures.best(part["arms"])
    data = {"settings": [part], "best_of_any_inner_steps": part["best"] | {"inner_steps": 200}}
    report = Report(tmp_path / "utilisation_cpu_2026-01-02.json", data)
    values = [measured(report, target) for target in TARGETS if target.benchmark == "utilisation"]
    assert values == [0.5, 0.96, 0.96]

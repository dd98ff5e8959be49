"""Who trains when: the rules of rounds, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.algorithms.presets import resolve_preset
from distrai.comparison.plan import Arm
from distrai.comparison.sections import AbsenceSection
from distrai.comparison.timetable import Job, job_steps, timetable
from distrai.protocol.recipe import TrainingSection


def arm(speeds=(1.0,) * 4, absent=(), preset="async-diloco", **algorithm):
    spec = resolve_preset(preset, {"inner_steps": 10} | algorithm)
    return Arm("it", spec, TrainingSection(batch=2, lr=1e-3), (), (), "", tuple(speeds), tuple(absent))


def listed(rounds):
    return [[(job.peer, job.base) for job in round_.listed] for round_ in rounds]


def test_synchronous_rounds_list_everybody_from_the_newest_head():
    rounds = timetable(arm(preset="diloco"), 10, 120)
    assert listed(rounds) == [[(peer, base) for peer in range(4)] for base in range(3)]
    assert [job.first_step for job in rounds[2].begun] == [20] * 4
    assert all(round_.begun == round_.listed for round_ in rounds)


def test_with_a_quorum_of_one_nobody_waits_for_a_slow_peer():
    rounds = timetable(arm((1.0, 1.0, 1.0, 2.5), pace="fixed", quorum=1, staleness=4), 10, 130)
    assert listed(rounds)[:4] == [
        [(0, 0), (1, 0), (2, 0)],
        [(0, 1), (1, 1), (2, 1)],
        [(3, 0)],  # after 25 of a fast peer's steps: two rounds late
        [(0, 2), (1, 2), (2, 2)],
    ]


def test_an_update_that_is_too_old_is_dropped_and_its_peer_begins_again():
    rounds = timetable(arm((1.0, 1.0, 1.0, 9.0), pace="fixed", quorum=1, staleness=1), 10, 100)
    assert next(job for round_ in rounds for job in round_.dropped) == Job(3, 0, 10, 0)
    assert rounds[1].dropped, "round 3 could not list what was made for round 1"
    assert rounds[2].begun[-1] == Job(3, 2, 10, 10), "it goes on with other samples"


@pytest.mark.parametrize(("quorum", "staleness"), [(0, 4), (4, 4), (0, 0)])
def test_waiting_for_everybody_is_synchronous_whatever_the_speeds(quorum, staleness):
    slow = arm((1.0, 2.0, 3.0, 8.0), pace="fixed", quorum=quorum, staleness=staleness)
    assert timetable(slow, 10, 200) == timetable(arm(preset="diloco"), 10, 200)


def test_a_measured_pace_gives_each_as_much_as_the_fastest_leaves_time_for():
    assert job_steps(arm((1.0, 1.5, 8.0, 100.0), pace="measured"), 10) == (10, 6, 1, 1)
    assert job_steps(arm((1.0, 1.5, 8.0, 100.0), pace="fixed"), 10) == (10,) * 4


def test_absent_peers_and_joiners():
    away = [
        AbsenceSection(peer=1, every=2),
        AbsenceSection(peer=2, start=3),
        AbsenceSection(peer=3, every=2, start=2),
    ]
    rounds = timetable(arm(absent=away, preset="diloco"), 10, 100)
    assert [[job.peer for job in round_.listed] for round_ in rounds] == [
        [0, 1],
        [0, 3],
        [0, 1, 2],
        [0, 2, 3],
    ]
    assert rounds[2].listed[1].first_step == 10, "its second block of samples, though it is round 3"


@given(
    speeds=st.lists(st.integers(1, 9).map(float), min_size=1, max_size=6),
    quorum=st.integers(0, 6),
    staleness=st.integers(0, 4),
    pace=st.sampled_from(["fixed", "measured"]),
)
def test_every_update_is_listed_in_time_or_dropped_and_each_peer_reads_every_sample_once(
    speeds, quorum, staleness, pace
):
    spec = arm(speeds, pace=pace, quorum=quorum, staleness=staleness)
    rounds = timetable(spec, 10, 400)
    begun = [job for round_ in rounds for job in round_.begun]
    ended = [(number, job) for number, round_ in enumerate(rounds, 1) for job in round_.listed]
    dropped = [job for round_ in rounds for job in round_.dropped]
    assert len({*(job for _, job in ended), *dropped}) == len(ended) + len(dropped), "nothing counts twice"
    assert all(job.base < number <= job.base + 1 + staleness for number, job in ended)
    for peer in range(len(speeds)):
        own = [job for job in begun if job.peer == peer]
        assert [job.first_step for job in own] == [
            sum(job.steps for job in own[:at]) for at in range(len(own))
        ]
    assert sum(round_.steps for round_ in rounds[:-1]) < 400 <= sum(round_.steps for round_ in rounds)

"""Simulated wall time, against sums by hand."""

from dataclasses import replace

import pytest

from distrai.comparison.cells import Cell
from distrai.comparison.links import wall_of
from distrai.comparison.sections import LinkSection

LINK = LinkSection(name="it", up_mbit=8, down_mbit=16, latency_ms=100)  # 1 and 2 MB/s
MB = 1_000_000


def wall(arm, steps, sizes, link=LINK):
    cell = Cell(arm, 1, "held_out", steps)
    return wall_of(cell, cell.rounds(4), sizes, link, 1.0)


def test_a_round_computes_then_sends_once_and_receives_the_others(arm):
    found = wall(arm("diloco", {"inner_steps": 4}), 12, [MB])
    assert found.total_s == pytest.approx(3 * (4 + 1.5 + 0.4)), "3 MB down take longer than 1 MB up"
    assert found.utilisation == pytest.approx(12 / found.total_s)


def test_gradients_are_sent_at_every_step(arm):
    assert wall(arm("ddp"), 12, [MB]).total_s == pytest.approx(12 * (1 + 1 + 0.2))


def test_overlap_hides_up_to_tau_steps_of_the_transfer(arm):
    half = wall(arm("fedavg", {"inner_steps": 4, "overlap": 1}), 12, [MB])
    whole = wall(arm("fedavg", {"inner_steps": 4, "overlap": 3}), 12, [MB])
    assert half.total_s == pytest.approx(12 + 3 * 1.9 - 2 * 1)
    assert whole.total_s == pytest.approx(12 + 1.9), "only the last one is waited for"


def test_a_slow_peer_delays_those_who_wait_for_it(arm):
    slow = {"speeds": [1.0, 1.0, 1.0, 8.0]}
    fixed = wall(arm("diloco", {"inner_steps": 4}, **slow), 12, [0])
    measured = wall(arm("diloco", {"inner_steps": 4, "pace": "measured"}, **slow), 12, [0])
    assert fixed.total_s == pytest.approx(3 * (32 + 0.4))
    assert measured.total_s == pytest.approx(4 * (8 + 0.4)), "one step of it lasts as long as eight"


def test_fragments_take_turns_and_links_may_say_how_long_a_step_takes(arm):
    plain = arm("fedavg", {"inner_steps": 4})
    found = wall(plain, 8, [MB, 2 * MB], replace(LINK, step_s=0.5, latency_ms=0.0))
    assert found.total_s == pytest.approx(8 * 0.5 + 1.5 + 3)

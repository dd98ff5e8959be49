"""Training cells: the same engine for every algorithm, with the same bits each time."""

import copy
import math
from dataclasses import replace

import pytest

from comparison.small import figures, samples_read
from distrai.algorithms.presets import PRESETS
from distrai.comparison import topologies
from distrai.comparison.cells import Cell, with_rates
from distrai.comparison.laboratory import Laboratory
from distrai.training.contribution import Trained

SYNC = {"inner_steps": 4, "inner_state": "averaged"}


@pytest.fixture
def train(plan):
    """Trains one arm for 12 steps and gives the figures."""

    def run(preset, algorithm=None, steps=12, seed=1, **keys):
        one = {"name": "it", "preset": preset, "algorithm": algorithm or {}, **keys}
        comparison = plan(arms=[one])
        return Laboratory(comparison, "cpu").train(Cell(comparison.arms[0], seed, "held_out", steps))

    return run


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_counts_its_bytes(preset, train):
    rounds = (
        {}
        if PRESETS[preset].inner_steps == 1
        else {"inner_steps": 2, "overlap": PRESETS[preset].overlap // 4}
    )
    found = train(preset, rounds, steps=4)
    assert found["why"] == ""
    assert 0 < found["bits_per_byte"] < 8.6
    assert found["tokens"] == 4 * 4 * 2 * 16
    assert found["payload_up"] > 0 and found["payload_down"] > 0
    assert len(found["curve"]) == 2


def test_the_same_cell_has_the_same_bits_and_another_seed_has_not(train):
    once, again, other = (train("prime", SYNC, steps=8, seed=seed) for seed in (1, 1, 2))
    assert figures(once) == figures(again)
    assert once["loss"] != other["loss"]


def test_asynchronous_rounds_that_wait_for_everybody_are_synchronous_bit_for_bit(train):
    outer = SYNC | {"outer": "delayed-nesterov", "outer_lr": 0.3, "outer_momentum": 0.9, "outer_delay": 2}
    waiting = outer | {"staleness": 4, "quorum": 4, "pace": "fixed"}
    speeds = [1.0, 2.0, 3.0, 5.0]
    synchronous = train("diloco", outer, steps=8)
    assert figures(synchronous) == figures(train("diloco", waiting, steps=8, speeds=speeds))
    hasty = train("diloco", waiting | {"quorum": 1}, steps=8, speeds=speeds)
    assert synchronous["loss"] != hasty["loss"]


def test_stale_updates_count_with_their_age(train, monkeypatch):
    ages, entry = [], topologies.Entry
    monkeypatch.setattr(topologies, "Entry", lambda *a, **k: ages.append(k["staleness"]) or entry(*a, **k))
    train("async-diloco", {"inner_steps": 2, "pace": "fixed"}, steps=5, speeds=[1.0, 1.0, 1.0, 2.5])
    assert ages == [0] * 6 + [2] + [1] * 3, (
        "the slow peer's first comes two heads late, and makes the next ones late"
    )


def test_an_update_that_came_too_late_is_not_settled_as_one_that_counted(train, monkeypatch):
    told, settle = [], Trained.settle
    monkeypatch.setattr(
        Trained, "settle", lambda self, counted: told.append(counted) or settle(self, counted)
    )
    algorithm = {"inner_steps": 2, "quorum": 1, "pace": "fixed", "staleness": 1}
    found = train("async-diloco", algorithm, steps=6, speeds=[1.0, 1.0, 1.0, 9.0])
    assert told == [*[True] * 6, False] * 2, "two rounds of three, then the slow one is too old"
    assert (found["steps"], found["steps_dropped"]) == (24, 4)
    assert found["payload_up"] == 12 * found["round_bytes"][0]


def test_data_parallel_with_one_peer_is_plain_adamw_and_equals_one_long_round(plan):
    """H steps of one peer, averaged with nobody and taken over in full, are H steps of training."""
    alone = [
        {"name": "ddp", "preset": "ddp"},
        {"name": "it", "preset": "fedavg", "algorithm": {"inner_steps": 12, "inner_state": "kept"}},
    ]
    comparison = plan(arms=alone, peers=1)
    lab = Laboratory(comparison, "cpu")
    ddp, rounds = (lab.train(Cell(arm, 1, "held_out", 12)) for arm in comparison.arms)
    assert math.isclose(ddp["loss"], rounds["loss"], rel_tol=1e-5)


@pytest.mark.parametrize("inner_steps", [1, 3, 12])
def test_arms_read_the_same_samples_in_the_same_order_whatever_their_rounds(plan, monkeypatch, inner_steps):
    read = samples_read(plan, monkeypatch, "diloco", inner_steps)
    ddp = samples_read(plan, monkeypatch, "ddp", 1)
    assert sorted(read) == sorted(ddp)
    assert len(set(ddp)) == len(ddp) == 12 * 4 * 2, "each once"


def test_an_absent_peer_sends_nothing_and_the_others_do_its_share(train):
    found = train("diloco", {"inner_steps": 3}, absent=[{"peer": 3, "every": 2}])
    assert found["rounds"] == 5, "4 + 3 + 4 + 3 + 4 blocks of 3 steps: 48 steps at least"
    assert found["steps"] == 18 * 3
    assert found["payload_up"] == 18 * found["round_bytes"][0]
    assert found["payload_down"] == 18 * 3 * found["round_bytes"][0]


def test_a_run_that_diverges_says_so(plan):
    comparison = plan()
    arm = with_rates(comparison.arm("diloco"), 10.0, 100.0)
    arm = replace(arm, training=replace(arm.training, clip=0.0, warmup=0.0))
    found = Laboratory(comparison, "cpu").train(Cell(arm, 1, "tuning", 12))
    assert found["bits_per_byte"] is None or found["bits_per_byte"] > 20
    assert found["why"] or found["bits_per_byte"]


def test_adapters_are_compared_like_models(plan):
    """Only what is trained is exchanged, in every arm."""
    model = copy.deepcopy(plan().source[0]["model"]) | {"adapter": {"r": 2}}
    whole, comparison = Laboratory(plan(), "cpu"), plan(model=model)
    lab = Laboratory(comparison, "cpu")
    lab.check()
    assert 0 < lab.parameters < whole.parameters
    found = lab.train(Cell(comparison.arms[1], 1, "tuning", 12))
    assert found["why"] == "" and found["bits_per_byte"] < 9

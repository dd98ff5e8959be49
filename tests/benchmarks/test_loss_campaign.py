import math

import pytest

import common
from loss_against_payload import ARMS, DDP_START, INNER_LADDER, Campaign, around, climb
from loss_cells import PEERS, Cell
from loss_report import paired_excess, summary, table
from loss_training import block_of, sample_order

LADDER = (1.0, 2.0, 4.0, 8.0, 16.0)


@pytest.mark.parametrize(
    ("best", "measured"),
    [(4.0, [2.0, 4.0, 8.0]), (16.0, [2.0, 4.0, 8.0, 16.0]), (1.0, [1.0, 2.0, 4.0, 8.0])],
)
def test_a_sweep_goes_on_past_its_edge_while_that_is_best(best, measured):
    asked = []

    def measure(rate):
        asked.append(rate)
        return abs(math.log(rate / best))

    assert climb(LADDER, (2.0, 4.0, 8.0), measure) == best
    assert sorted(asked) == measured, "nothing twice, nothing beyond a valley"


def test_a_sweep_leaves_what_diverges():
    assert climb(LADDER, (2.0, 4.0, 8.0), lambda rate: math.inf if rate > 3 else rate) == 1.0


def test_neighbours_end_with_the_ladder():
    assert around(LADDER, 4.0) == (2.0, 4.0, 8.0)
    assert around(LADDER, 1.0) == (1.0, 2.0)
    assert around(LADDER, 16.0) == (8.0, 16.0)


def test_data_parallel_is_tuned_over_four_rates_at_least():
    assert len(set(DDP_START)) >= 4
    assert set(DDP_START) <= set(INNER_LADDER)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_of_a_seed_sees_the_same_samples_equally_often(arm):
    cell = Cell(arm, 1e-3, 1.0, 1, 240, "held_out")
    inner = cell.inner_spec("kept")
    positions = [
        at
        for number in range(1, cell.rounds + 1)
        for peer in range(PEERS)
        for step in range(inner.inner_steps)
        for at in block_of(number, peer, inner).step_positions(step, inner.step_samples)
    ]
    assert sorted(positions) == list(range(240 * PEERS * inner.step_samples))


def test_orders_of_two_seeds_differ():
    first, again, other = (sample_order(seed, 500) for seed in (1, 1, 2))
    positions = range(500)
    assert [first.sample_at(at) for at in positions] == [again.sample_at(at) for at in positions]
    assert [first.sample_at(at) for at in positions] != [other.sample_at(at) for at in positions]


def test_cells_that_differ_have_different_names():
    cells = [
        Cell(arm, lr, outer, seed, steps, split)
        for arm in ARMS
        for lr in (1e-3, 2e-3)
        for outer in (0.5, 0.7)
        for seed in (1, 2)
        for steps in (10, 20)
        for split in ("tuning", "held_out")
    ]
    names = {cell.name for cell in cells}
    without_outer = len([cell for cell in cells if cell.arm.preset == "ddp"]) // 2
    assert len(names) == len(cells) - without_outer, "data-parallel has no outer rate"


def test_excess_is_taken_within_each_seed():
    found = paired_excess([1.1, 2.2, 3.0], [1.0, 2.0, 3.0])
    assert found["each"] == [10.0, 10.0, 0.0]
    assert (found["min"], found["max"]) == (0.0, 10.0)
    assert found["mean"] == pytest.approx(20 / 3, abs=1e-3)
    assert found["stdev"] == pytest.approx(10 / math.sqrt(3), abs=1e-3)


def final(bits, payload):
    return {"bits_per_byte": bits, "payload_bytes_per_peer": payload}


def test_the_table_shows_ratios_and_says_what_diverged():
    finals = {
        "ddp": [final(2.0, 1000), final(4.0, 1000)],
        "diloco": [final(2.2, 100), final(4.2, 100)],
        "prime": [final(2.2, 50), final(None, 0)],
    }
    rows = summary(finals, dict.fromkeys(finals, (0.001, 0.7)))
    by_name = {row["arm"]: row for row in rows}
    assert by_name["diloco"]["excess_over_ddp_percent"]["each"] == [10.0, 5.0]
    assert by_name["diloco"]["payload_times_smaller_than_ddp"] == 10.0
    assert by_name["prime"]["excess_over_diloco_percent"] is None
    shown = table(rows).splitlines()
    assert "+7.50 % (+5.0..+10.0)" in shown[2]
    assert "diverged" in shown[3]


class FakeLab:
    """Trains nothing: the loss of a cell is a function of its rates."""

    def __init__(self):
        self.trained = []

    def train(self, cell):
        self.trained.append(cell.name)
        bits = (
            2
            + abs(math.log(cell.lr / 6e-3))
            + (cell.arm.preset != "ddp") * abs(math.log(cell.outer_lr / 0.5))
        )
        return {
            "cell": {"arm": {"name": cell.arm.name}, "lr": cell.lr, "outer_lr": cell.outer_lr},
            "bits_per_byte": bits,
            "payload_bytes_per_peer": 1,
            "steps": cell.steps,
            "wall_s": 0.0,
        }


def test_a_campaign_tunes_each_arm_on_the_tuning_split_and_goes_on_where_it_was_stopped(tmp_path):
    lab = FakeLab()
    found = Campaign(lab, tmp_path, 240, (1, 2)).run()
    assert {(row["lr"], row["outer_lr"]) for row in found["arms"]} == {(6e-3, None), (6e-3, 0.5)}
    held_out = [name for name in lab.trained if name.startswith("held_out")]
    assert len(held_out) == 2 * len(ARMS), "once for each arm and seed"
    assert lab.trained[-len(held_out) :] == held_out, "after all that was tuned"
    assert all(name.endswith("steps80_seed101") for name in lab.trained if name.startswith("tuning"))
    assert len(found["sweeps"]) == len(lab.trained) - len(held_out)
    again = FakeLab()
    assert Campaign(again, tmp_path, 240, (1, 2)).run() == found
    assert again.trained == []


def test_runs_of_other_settings_are_not_taken_over(tmp_path):
    common.check_settings(tmp_path, {"steps": 10, "seeds": (1, 2)})
    common.check_settings(tmp_path, {"steps": 10, "seeds": (1, 2)})
    with pytest.raises(SystemExit, match="other settings"):
        common.check_settings(tmp_path, {"steps": 20, "seeds": (1, 2)})


def test_names_of_files_have_only_plain_letters():
    assert common.slug("AMD EPYC 9B14 (96-Core)") == "amd-epyc-9b14-96-core"

"""From runs to the table: which runs are missing, ratios within each seed, and what did not go well."""

import copy
import io
import json
import math

import pytest
from rich.console import Console

from comparison.conftest import FILE
from distrai.comparison.campaign import Campaign, Trainer
from distrai.comparison.cells import Figures, OtherSettings
from distrai.comparison.pictures import draw, write_png
from distrai.comparison.report import paired_excess, report
from distrai.comparison.table import tables
from distrai.protocol.recipe import RecipeError

PARAMS = 1000
KEYS = {
    "name", "preset", "seeds", "loss_mean", "loss_spread", "bits_per_byte_mean", "payload_up_per_peer",
    "payload_down_per_peer", "ratio_to_ddp", "swept", "bits_per_byte", "excess_over_ddp_percent", "curve", "wall_s",
    "inner_state", "cpu_s",
}  # fmt: skip


class FakeLab:
    """Trains nothing: losses are a function of arm, rates and seed; an arm of sparseloco diverges with seed 2."""

    def __init__(self, comparison, stop_after=math.inf):
        self.comparison, self.trained, self.stop_after = comparison, [], stop_after

    def train(self, cell):
        if len(self.trained) >= self.stop_after:
            raise KeyboardInterrupt
        self.trained.append(cell.name)
        extra = {"ddp": 0.0, "diloco": 0.1, "sparse": 0.3}[cell.arm.name] * cell.seed
        bits = 2 + abs(math.log(cell.lr / 6e-3)) + extra
        bad = cell.arm.name == "sparse" and cell.seed == 2
        sent = 4 * PARAMS * cell.steps // cell.inner_steps
        return {
            "bits_per_byte": None if bad else bits,
            "loss": None if bad else bits * math.log(2),
            "why": "the training loss became nan" * bad,
            "rounds": 3,
            "steps": cell.steps * 4,
            "tokens": 1536,
            "steps_dropped": 0,
            "payload_up": sent * 4,
            "payload_down": sent * 12,
            "round_bytes": [4 * PARAMS],
            "step_s": 0.1,
            "curve": [{"tokens": 1536, "payload_up_per_peer": sent, "bits_per_byte": bits}],
            "wall_s": 1.0,
            "cpu_s": 1.0,
        }


@pytest.fixture
def campaign(plan, tmp_path):
    """Makes a campaign of ``plan()``, with all its cells trained by a fake, unless it is stopped before."""

    def make(stop_after=math.inf, only=(), **changes):
        comparison = plan(**changes)
        figures = Figures(tmp_path, comparison, "0xabc", "cpu")
        found = Campaign(comparison, figures, comparison.selected(only), comparison.seeds)
        lab = FakeLab(comparison, stop_after)
        with Trainer(lab, 1) as trainer:
            try:
                found.run(trainer, lambda cell, figures: None)
            except KeyboardInterrupt:
                assert stop_after < math.inf
        return found, lab

    return make


def test_rates_are_chosen_on_the_tuning_split_before_anything_is_held_out(campaign):
    _, lab = campaign()
    tuning = [name for name in lab.trained if name.startswith("tuning")]
    final = [name for name in lab.trained if name.startswith("held_out")]
    assert lab.trained == tuning + final
    assert all("_seed101" in name and "_steps4_" in name for name in tuning if "sparse" not in name)
    assert len(final) == len(set(final)) == 3 * 2, (
        "the held-out split is looked at once for each arm and seed"
    )
    assert all("_lr0.006_" in name for name in final)


@pytest.mark.parametrize("stop_after", [0, 1, 4, 7, 11])
def test_a_campaign_goes_on_where_it_was_stopped(campaign, stop_after, tmp_path):
    cut, first = campaign(stop_after)
    assert report(cut, PARAMS)["partial"]
    whole, second = campaign()
    told = report(whole, PARAMS)
    assert not told["partial"]
    assert len(set(first.trained) | set(second.trained)) == len(first.trained) + len(second.trained)
    for file in (tmp_path / "cells").iterdir():
        file.unlink()
    assert report(campaign()[0], PARAMS) == told


def test_cells_of_other_settings_are_refused(campaign):
    campaign()
    with pytest.raises(OtherSettings, match="other settings; give another --out, or remove that file"):
        campaign(training={"batch": 2, "lr": 6e-3, "precision": "fp32", "clip": 0.5})
    arms = copy.deepcopy(FILE["arms"])
    for change in ({"speeds": [1.0, 1.0, 1.0, 2.0]}, {"absent": [{"peer": 1, "every": 2}]}):
        with pytest.raises(OtherSettings):
            campaign(arms=[arms[0], arms[1] | change, arms[2]])
    _, lab = campaign(links=[], seeds=[1, 3])
    assert {name.rpartition("_")[2] for name in lab.trained} == {"seed3"}, (
        "links and other seeds change no run"
    )


def test_ratios_are_taken_within_each_seed(campaign):
    told = report(campaign()[0], PARAMS)
    assert told["tokens"] == 1536 and told["params"] == PARAMS and told["corpus_hash"] == "0xabc"
    by_name = {arm["name"]: arm for arm in told["arms"]}
    assert all(set(arm) >= KEYS for arm in told["arms"])
    diloco = by_name["diloco"]
    assert diloco["bits_per_byte"] == [2.1, 2.2]
    assert diloco["bits_per_byte_mean"] == pytest.approx(2.15)
    assert diloco["loss_mean"] == pytest.approx(2.15 * math.log(2), abs=1e-6)
    assert diloco["loss_spread"] == pytest.approx(0.1 * math.log(2), abs=1e-6)
    assert diloco["excess_over_ddp_percent"] == {"mean": 7.5, "min": 5.0, "max": 10.0, "pairs": 2}
    assert diloco["payload_up_per_peer"] == 3 * 4 * PARAMS, "three rounds"
    assert diloco["payload_down_per_peer"] == 3 * 12 * PARAMS
    assert diloco["ratio_to_ddp"] == 4.0, "12 steps of data-parallel over 3 rounds"
    assert by_name["ddp"]["ratio_to_ddp"] == 1.0
    assert diloco["swept"]["lr"] == 6e-3 and len(diloco["swept"]["runs"]) == 2
    assert diloco["wall_s"]["home"]["s"] > 1.2
    json.dumps(told)


def test_an_arm_that_diverged_is_said_so_and_has_no_mean(campaign, tmp_path):
    told = report(campaign()[0], PARAMS)
    sparse = next(arm for arm in told["arms"] if arm["name"] == "sparse")
    assert sparse["bits_per_byte"] == [2.3, None]
    assert (sparse["loss_mean"], sparse["bits_per_byte_mean"], sparse["excess_over_ddp_percent"]) == (
        None,
    ) * 3
    assert sparse["diverged"] == {"2": "the training loss became nan"}
    text = shown(tables(told))
    assert "sparse diverged with seed 2: the training loss became nan" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("sparse "))
    assert row.split()[4] == "diverged"


def test_the_table_fits_a_terminal_and_says_what_is_partial(campaign):
    told = report(campaign(stop_after=9)[0], PARAMS)
    text = shown(tables(told))
    assert text.startswith("PARTIAL")
    assert "7.50%" not in text
    whole = shown(tables(report(campaign()[0], PARAMS)))
    assert "PARTIAL" not in whole
    assert "+7.50% (+5.0..+10.0)" in whole and "4.0x" in whole
    assert max(map(len, whole.splitlines())) <= 80


def test_plots_show_every_arm_that_has_a_loss(campaign, tmp_path):
    told = report(campaign()[0], PARAMS)
    text = draw(told, 80)
    assert "a ddp  b diloco" in text and "sparse" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert write_png(told, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert draw(told | {"arms": []}) == "nothing to plot yet"


def test_only_some_arms_are_compared_with_what_is_known_of_data_parallel(campaign):
    campaign(only=["ddp"])
    found, lab = campaign(only=["diloco"])
    assert all("diloco" in name for name in lab.trained)
    told = report(found, PARAMS)
    assert [arm["name"] for arm in told["arms"]] == ["diloco"] and not told["partial"]
    assert told["arms"][0]["excess_over_ddp_percent"]["pairs"] == 2
    with pytest.raises(RecipeError, match='no arm is called "diloko"; did you mean "diloco"'):
        campaign(only=["diloko"])


def test_rates_of_another_arm_are_taken_over(campaign, plan):
    arms = [
        {
            "name": "diloco",
            "preset": "diloco",
            "algorithm": {"inner_steps": 4},
            "sweep": {"inner": [6e-3, 1.2e-2]},
        },
        {"name": "ddp", "preset": "prime", "algorithm": {"inner_steps": 4}, "rates_of": "diloco"},
    ]
    _, lab = campaign(arms=arms, only=["ddp"])
    assert [name for name in lab.trained if "tuning_ddp" in name] == []
    assert "held_out_ddp_lr0.006_outer0.7_steps12_seed1" in lab.trained


def test_excess_is_paired():
    assert paired_excess([1.1, 2.2, 3.0], [1.0, 2.0, 3.0]) == {
        "mean": 6.667,
        "min": 0.0,
        "max": 10.0,
        "pairs": 3,
    }


def shown(renderable):
    out = io.StringIO()
    Console(file=out, width=80).print(renderable)
    return out.getvalue()

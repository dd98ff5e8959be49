import pytest

import common
from distrai.runs.comparing import load_comparison
from loss_against_payload import QUICK, RECIPE, with_references


def test_the_benchmark_tunes_data_parallel_over_four_rates_and_has_the_arms_of_its_targets():
    comparison = load_comparison(RECIPE)
    assert [arm.name for arm in comparison.arms] == [
        "ddp",
        "diloco",
        "prime",
        "sparseloco-16th",
        "sparseloco-64th",
    ]
    assert len(comparison.arm("ddp").inner_rungs) >= 4
    assert len(comparison.seeds) >= 3
    quick = load_comparison(RECIPE, QUICK)
    assert quick.steps(quick.arm("ddp")) == 60


def test_rows_have_their_excess_over_each_reference():
    arms = [
        {"name": "ddp", "bits_per_byte": [2.0, 4.0]},
        {"name": "diloco", "bits_per_byte": [2.2, 4.2]},
        {"name": "prime", "bits_per_byte": [2.2, None]},
    ]
    rows = {row["arm"]: row for row in with_references(arms)}
    assert rows["diloco"]["excess_over_ddp_percent"]["mean"] == 7.5
    assert rows["ddp"]["excess_over_diloco_percent"]["max"] == pytest.approx(-4.762)
    assert rows["prime"]["excess_over_diloco_percent"] is None


def test_runs_of_other_settings_are_not_taken_over(tmp_path):
    common.check_settings(tmp_path, {"steps": 10, "seeds": (1, 2)})
    common.check_settings(tmp_path, {"steps": 10, "seeds": (1, 2)})
    with pytest.raises(SystemExit, match="other settings"):
        common.check_settings(tmp_path, {"steps": 20, "seeds": (1, 2)})


def test_names_of_files_have_only_plain_letters():
    assert common.slug("AMD EPYC 9B14 (96-Core)") == "amd-epyc-9b14-96-core"

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.algorithms.section import algorithm_spec, written_out
from distrai.protocol.recipe import parse_recipe
from distrai.training.data.layouts import sample_tokens
from distrai.training.spec import InnerSpec
from helpers.recipes import minimal_mapping

SPEC = InnerSpec(
    rounds=10, inner_steps=20, batch=4, context=128, lr=2.0, warmup=0.1, final_fraction=0.1, accumulation=3
)


def test_the_position_is_the_share_of_the_run_that_is_done():
    assert SPEC.position(1, 1) == 1 / 200
    assert SPEC.position(3, 20) == SPEC.position(4, 0) == pytest.approx(0.3)
    assert SPEC.position(10, 20) == 1
    assert SPEC.position(12, 5) == 1


def test_the_rate_warms_up_peaks_and_ends_at_its_fraction():
    assert SPEC.learning_rate(0.05) == pytest.approx(1)
    assert SPEC.learning_rate(0.1) == 2
    assert SPEC.learning_rate(0.55) == pytest.approx(0.2 + 1.8 / 2)
    assert SPEC.learning_rate(1) == pytest.approx(0.2)
    assert SPEC.learning_rate(SPEC.position(1, 1)) > 0


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_never_rises_after_the_warmup(one, other):
    low, high = sorted((max(one, 0.1), max(other, 0.1)))
    assert SPEC.learning_rate(low) >= SPEC.learning_rate(high) >= 0.2 - 1e-12


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "wsd"])
def test_every_warmup_gives_a_finite_rate(warmup, schedule):
    spec = replace(SPEC, warmup=warmup, schedule=schedule)
    rates = [spec.learning_rate(at / 50) for at in range(51)]
    assert all(math.isfinite(rate) and 0 <= rate <= 2 for rate in rates)
    assert max(rates) == 2
    if schedule == "constant":
        assert rates[-1] == 2


def test_sizes_of_a_step():
    assert (SPEC.step_samples, SPEC.step_tokens, SPEC.round_samples) == (12, 1536, 240)


@pytest.mark.parametrize(("form", "tokens"), [("text", 128), ("chat", 128), ("preferences", 256)])
def test_a_pair_is_the_work_of_two_rows(form, tokens):
    """What is signed, checked and paid for: padding counts, too, or peers would not agree."""
    mapping = minimal_mapping()
    mapping["algorithm"] = {"preset": "diloco", "inner_state": "kept"}
    mapping["data"] |= {"source": "files", "globs": ["*"], "format": form, "context": 128}
    if form == "preferences":
        mapping["training"]["objective"] = "dpo"
    recipe = parse_recipe(mapping)
    recipe = replace(recipe, algorithm=written_out(algorithm_spec(recipe.algorithm)))
    spec = InnerSpec.from_recipe(recipe)
    assert spec.sample_tokens == sample_tokens(recipe.data) == tokens
    assert spec.step_tokens == spec.step_samples * tokens


def test_wsd_stays_and_falls_over_its_last_part():
    spec = replace(SPEC, schedule="wsd", decay=0.2)
    assert spec.learning_rate(0.1) == spec.learning_rate(0.8) == 2
    assert spec.learning_rate(0.9) == pytest.approx(2 * 0.55)
    assert spec.learning_rate(1) == pytest.approx(0.2)


def test_another_cut_into_rounds_is_the_same_training():
    other = SPEC.in_rounds(50, 4)
    assert other.learning_rate(other.position(6, 4)) == SPEC.learning_rate(SPEC.position(2, 4))
    assert other.round_samples == 48


def test_a_recipe_says_all_of_it():
    mapping = minimal_mapping()
    mapping["algorithm"] = {"preset": "diloco", "inner_optimiser": "muon", "inner_state": "kept"}
    mapping["training"] |= {"schedule": "wsd", "decay": 0.3, "compile": True, "lr": 0.5}
    recipe = parse_recipe(mapping)
    written = replace(recipe, algorithm=written_out(algorithm_spec(recipe.algorithm)))
    found = InnerSpec.from_recipe(written)
    assert (found.inner_optimiser, found.inner_state) == ("muon", "kept")
    assert (found.schedule, found.decay, found.compile, found.lr) == ("wsd", 0.3, True, 0.5)

"""Files for ``distrai compare``: what is read, and how every mistake is answered."""

from pathlib import Path

import pytest

from distrai.protocol.recipe import RecipeError
from distrai.runs.comparing import load_comparison, parse_seeds

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = [RECIPES / "compare.toml", *sorted((RECIPES / "compare").glob("*.toml"))]
GRADIENTS = {"name": "ddp", "preset": "ddp"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_comparisons_are_comparisons(path):
    found = load_comparison(path)
    assert len(found.arms) >= 2 and found.seeds


def test_an_arm_is_its_preset_and_what_differs(plan, arm):
    diloco = plan().arm("diloco")
    assert (diloco.spec.outer_lr, diloco.spec.inner_steps, diloco.training.lr) == (0.7, 4, 6e-3)
    assert diloco.outer_rungs == (0.7,), "the ladder is in multiples of the arm's own rate"
    assert plan().arm("ddp").outer_rungs == ()
    changed = arm(
        "diloco", {"inner_steps": 3}, training={"clip": 0.5}, sweep={"inner": [], "outer": [0.5, 1.0]}
    )
    assert (changed.training.clip, changed.training.batch, changed.inner_rungs) == (0.5, 2, ())
    assert changed.outer_rungs == (0.35, 0.7)
    assert arm("demo").inner_rungs == (), "gradients have no inner rate"


def test_a_base_recipe_is_changed_key_by_key(tmp_path):
    file = tmp_path / "mine.toml"
    text = f"""
name = "mine"
base = "{RECIPES / "smoke.toml"}"
tokens = 4096
arms = [{{ name = "ddp", preset = "ddp" }}]
[model.config]
hidden_size = 16
[training]
lr = 1e-3
"""
    file.write_text(text)
    found = load_comparison(file, ["peers=2"])
    assert (found.model.config["hidden_size"], found.model.config["num_hidden_layers"]) == (16, 1)
    assert (found.arms[0].training.lr, found.arms[0].training.batch, found.data.context) == (1e-3, 2, 32)
    assert found.steps(found.arms[0]) == 4096 // (2 * 2 * 32)
    file.write_text(text.replace("smoke.toml", "smoky.toml"))
    with pytest.raises(RecipeError, match=r"base: .*no such file; did you mean"):
        load_comparison(file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokns": 1}, "tokns: unknown key; did you mean `tokens`"),
        ({"tokens": 1000}, "tokens: 1000 is not a multiple .* use 1024"),
        (
            {"tokens": 13 * 128},
            "arms.1..algorithm.inner_steps: 4 does not divide the 13 steps .* tokens = 1536",
        ),
        ({"arms": [GRADIENTS | {"preset": "dpp"}]}, "arms.0..algorithm.preset: no 'dpp'; did you mean 'ddp'"),
        ({"arms": [GRADIENTS, GRADIENTS]}, 'arms.1..name: "ddp" is there twice'),
        ({"arms": [GRADIENTS | {"name": "a/b"}]}, "arms.0..name: .* names files"),
        (
            {"arms": [GRADIENTS | {"algorithm": {"codec_": "x"}}]},
            "arms.0..algorithm.codec_: unknown key; did you",
        ),
        ({"arms": [GRADIENTS | {"training": {"lr": 0}}]}, "arms.0..training.lr: 0"),
        ({"arms": [GRADIENTS | {"speeds": [1.0]}]}, "arms.0..speeds: has 1 items; give one for each of 4"),
        ({"arms": [GRADIENTS | {"absent": [{"peer": 4}]}]}, "arms.0..absent.0..peer: there is no peer 4"),
        (
            {"arms": [GRADIENTS | {"absent": [{"peer": 1, "start": 2}]}]},
            "arms.0.: ddp averages the gradients",
        ),
        (
            {"arms": [{"name": "a", "preset": "noloco", "absent": [{"peer": 1, "start": 2}]}]},
            "noloco pairs peers",
        ),
        ({"arms": [GRADIENTS | {"rates_of": "dpp"}]}, "arms.0..rates_of: no arm is called"),
        (
            {"arms": [GRADIENTS | {"training": {"objective": "dpo"}}]},
            "arms.0..training.objective: .*not compared",
        ),
        (
            {"data": {"source": "files", "context": 9, "license": "x", "globs": ["*"], "format": "chat"}},
            'data.format: "chat" is not compared; use format = "text"',
        ),
        ({"sweep": {"inner": [2e-3, 1e-3]}}, "sweep.inner: does not ascend"),
        (
            {"peers": 1, "arms": [{"name": "a", "preset": "fedavg", "absent": [{"peer": 0, "every": 2}]}]},
            "nobody is",
        ),
        (
            {"data": {"source": "files", "context": 99, "license": "x", "globs": ["*"]}},
            "max_position_embeddings",
        ),
    ],
)
def test_mistakes_are_answered_with_the_path_of_the_key(plan, changes, says):
    with pytest.raises(RecipeError, match=says):
        plan(**changes)


def test_seeds_are_different_numbers():
    assert parse_seeds("1, 2,3") == (1, 2, 3)
    for text in ("1,x", "1,1", "-1", ","):
        with pytest.raises(RecipeError, match="--seeds"):
            parse_seeds(text)

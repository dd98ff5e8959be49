"""``distrai compare`` from the command line: trains, goes on where it was stopped, and tells mistakes."""

import json
from pathlib import Path

import pytest
import torch

from distrai.cli import compare as verb
from distrai.cli.main import main
from distrai.comparison.laboratory import Laboratory

RECIPE = """
name = "tiny"
tokens = 1024
seeds = [1]
arms = [
  { name = "ddp", preset = "ddp" },
  { name = "prime", preset = "prime", algorithm = { inner_steps = 4 } },
]
[model]
source = "config"
license = "MIT"
[model.config]
model_type = "granite"
vocab_size = 256
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
max_position_embeddings = 16
[data]
source = "files"
globs = ["*.txt"]
license = "MIT"
context = 16
[training]
batch = 2
lr = 6e-3
precision = "fp32"
[sweep]
inner = [6e-3]
outer = []
extend = 0
[evaluation]
held_out_samples = 8
tuning_samples = 8
curve_samples = 8
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for at in range(40):
        (tmp_path / f"{at}.txt").write_text(f"x = {at}\n" * 60)
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def figures(told: dict[str, object]) -> dict[str, object]:
    """A report without clocks."""
    arms = [{key: item for key, item in arm.items() if key != "cpu_s"} for arm in told["arms"]]
    return {key: item for key, item in told.items() if key not in ("measured", "step_s")} | {"arms": arms}


def test_a_comparison_that_was_stopped_goes_on_and_ends_as_one_that_was_not(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    train, trained = Laboratory.train, []

    def stop_third(lab, cell):
        trained.append(cell.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(lab, cell)

    monkeypatch.setattr(Laboratory, "train", stop_third)
    assert main(["compare", str(recipe), "--out", str(cut), "--json"]) == 130
    stopped = json.loads(capsys.readouterr().out)
    assert stopped["partial"] and json.loads((cut / "result.json").read_text())["partial"]
    assert main(["compare", str(recipe), "--out", str(cut), "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert len(trained) == 5 and len(set(trained)) == 4, (
        "the one that was stopped is trained again, and no other"
    )
    assert main(["compare", str(recipe), "--out", str(whole), "--jobs", "2"]) == 0, "in other processes, too"
    said = capsys.readouterr().out
    assert "bits/byte" in said and "prime" in said and "PARTIAL" not in said
    assert (whole / "result.png").read_bytes().startswith(b"\x89PNG")
    assert figures(json.loads((whole / "result.json").read_text())) == figures(resumed)
    assert not resumed["partial"] and resumed["measured"]["hardware"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "prim"], 'no arm is called "prim"; did you mean "prime"?'),
        (["--seeds", "one"], '--seeds: "one" is no list of numbers; write it like 1,2,3'),
        (["--jobs", "0"], "--jobs: 0 processes; give at least 1"),
        (["--set", "tokns=5"], "tokns: unknown key; did you mean `tokens`?"),
        (
            ["--set", "arms=[{name='a', preset='streaming-diloco', algorithm={inner_steps=8}}]"],
            "arms[0].algorithm.fragments: 2 are more than the model's 1 layers",
        ),
        (["--set", "base=x.toml"], 'base: "x.toml": no such file'),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], says: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(recipe), "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.err.count("\n") == 1 and told.out == ""


def test_a_line_for_a_run_that_is_done_says_its_loss_or_why_there_is_none() -> None:
    assert verb.said("a", {"bits_per_byte": 2.0, "wall_s": 3.0}) == "a: 2.0000 bits/byte, 3.0 s"
    assert (
        verb.said("a", {"bits_per_byte": None, "why": "it is nan", "wall_s": 3.0})
        == "a: diverged: it is nan, 3.0 s"
    )

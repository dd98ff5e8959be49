"""A recipe from a few choices is one that a run takes, and what it needs is told in numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distrai.cli.main import main
from distrai.protocol.recipe import RecipeError
from distrai.runs import initiating, pace
from distrai.runs.drafting import D0_S, PRESETS, SIZES, Choices, draft, write_recipe
from distrai.runs.initiating import ask_for, initiate
from distrai.runs.needs import duration_of, needs_of
from distrai.runs.pace import StepTime
from distrai.runs.recipes import load_recipe


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained to find out how long it takes."""
    monkeypatch.setattr(initiating, "step_time", lambda recipe, parameters, folder: StepTime(0.5, True))
    monkeypatch.setattr("distrai.runs.needs.sharing", lambda peers: 2.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("where", D0_S)
def test_every_choice_makes_a_recipe(tmp_path: Path, size: str, preset: str, where: str) -> None:
    choices = Choices(size=size, preset=preset, where=where, peers=7, rounds=12, admission="open")
    recipe = write_recipe(choices, tmp_path / "a.toml", force=False)
    assert (recipe.algorithm.preset, recipe.rounds.d0_s) == (preset, D0_S[where])
    assert (recipe.membership.peers, recipe.rounds.count, recipe.membership.admission) == (7, 12, "open")
    needs = needs_of(recipe)
    assert needs.parameters == SIZES[size].parameters
    assert needs.memory_per_peer > 4 * needs.parameters and needs.disk_per_peer > needs.state_bytes


def test_deadlines_follow_from_how_long_a_round_takes() -> None:
    slow, fast = (draft(Choices(round_s=seconds)) for seconds in (600.0, 0.1))
    assert "cut_s = 3600.0" in slow and "hard_s = 7200.0" in slow
    assert "cut_s = 20.0" in fast


def test_texts_cannot_break_out_of_the_recipe(tmp_path: Path) -> None:
    globs = ('a"]\nname = "x', "b\\c/*.txt", "d\x7f\x01é")
    recipe = write_recipe(Choices(globs=globs, data_license='"'), tmp_path / "a.toml", force=False)
    assert (recipe.data.globs, recipe.data.license, recipe.name) == (globs, '"', "my-run")


@pytest.mark.parametrize(
    "wrong",
    [{"size": "huge"}, {"preset": "ddp"}, {"where": "moon"}, {"name": ""}, {"name": "a\nb"}, {"peers": 0}],
)
def test_what_cannot_be_chosen_is_refused_and_nothing_is_left(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(RecipeError):
        write_recipe(replace(Choices(), **wrong), tmp_path / "a.toml", force=False)  # type: ignore[arg-type]
    assert not (tmp_path / "a.toml").exists()


def test_a_recipe_is_overwritten_by_force_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("mine")
    with pytest.raises(RecipeError, match="--force"):
        write_recipe(Choices(), path, force=False)
    with pytest.raises(RecipeError):
        write_recipe(Choices(peers=0), path, force=True)
    assert path.read_text() == "mine"
    write_recipe(Choices(), path, force=True)
    assert load_recipe(path).name == "my-run"


def test_asks_what_no_flag_says() -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return {"How many p": "9", "Which text": "a/*.txt 'b c'", "How large": ""}.get(question[:10], "")

    answers = ask_for({"name": "given"}, answer)
    assert answers == {"name": "given", "peers": 9, "globs": ("a/*.txt", "b c"), "data_license": "unknown"}
    assert not any("called" in question for question in asked) and len(asked) == 8
    with pytest.raises(RecipeError, match="no number"):
        ask_for({}, lambda question: "many" if "peers are" in question else "")


def test_says_what_is_needed_for_people_and_as_json(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b.toml"
    assert main(["init", str(path), "--yes", "--peers", "3", "--rounds", "10", "--size", "tiny"]) == 0
    text = capsys.readouterr().out
    for word in ("Memory", "Disk", "Bytes a peer", "Time", "measured", "distrai run"):
        assert word in text
    assert main(["init", str(path), "--json"]) == 2, "it is there already"
    capsys.readouterr()
    assert (
        main(["init", str(path), "--json", "--force", "--peers", "3", "--rounds", "10", "--size", "tiny"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["needs"]["parameters"] == SIZES["tiny"].parameters
    assert told["time"]["how"] == "measured"
    assert told["time"]["round_s"] == 20.0
    assert told["time"]["here_s"] == 10 * (2 * 20.0 + 1) and told["time"]["apart_s"] == 10 * (20.0 + 1)
    assert load_recipe(path).rounds.cut_s == 6 * 41.0, "deadlines follow from what was measured"


def test_bytes_are_those_of_the_updates_of_the_others(quick: None, tmp_path: Path) -> None:
    few = initiate(Choices(peers=2, rounds=10), tmp_path / "few.toml", force=False).needs
    many = initiate(Choices(peers=5, rounds=10), tmp_path / "many.toml", force=False).needs
    per_update = (many.up_bytes - few.up_bytes) / 3 / 10
    assert few.update_bytes < per_update < few.update_bytes + 10_000
    assert few.down_bytes - few.up_bytes == few.state_bytes


def test_data_of_ones_own_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 1000)
    recipe = write_recipe(Choices(globs=("*.txt",)), tmp_path / "a.toml", force=False)
    assert needs_of(recipe, tmp_path).data_bytes == 1000


def test_a_step_is_tried_where_that_is_quick_and_estimated_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(Choices(size="tiny"), tmp_path / "a.toml", force=False)
    tried = pace.step_time(recipe, SIZES["tiny"].parameters, "cpu")
    assert tried.measured and 0 < tried.seconds < 10 and "measured" in tried.how
    monkeypatch.setattr(pace, "TRIED_PARAMETERS_MAX", 0)
    monkeypatch.setattr(pace, "_flops", lambda device: 1e9)
    estimated = pace.step_time(recipe, 1_000_000, "cpu")
    assert not estimated.measured and "estimated" in estimated.how
    assert estimated.seconds == 6 * 1_000_000 * 4 * 32 / (0.5 * 1e9)
    assert duration_of(recipe, estimated).round_s == 40 * estimated.seconds

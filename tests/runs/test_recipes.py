from pathlib import Path

import pytest

from distrai.network.store import BlobStore
from distrai.protocol.recipe import RecipeError
from distrai.runs.needs import needs_of
from distrai.runs.recipes import RECIPE_BYTES_MAX, load_recipe, resolve_algorithm, with_overrides
from distrai.runs.resolving import resolve

RECIPES = Path(__file__).parents[2] / "recipes"
QUICKSTART = RECIPES / "quickstart.toml"


def test_quickstart_is_the_recipe_of_the_design() -> None:
    recipe = load_recipe(QUICKSTART)
    assert (recipe.membership.peers, recipe.rounds.count, recipe.algorithm.inner_steps) == (4, 96, 40)
    assert recipe.model.config["embedding_multiplier"] == 96**0.5
    assert recipe.model.config["attention_multiplier"] == 24**-0.5


def test_overrides() -> None:
    recipe = load_recipe(QUICKSTART, peers=2, rounds=3)
    assert (recipe.membership.peers, recipe.rounds.count) == (2, 3)
    assert load_recipe(QUICKSTART, peers=None, rounds=None) == load_recipe(QUICKSTART)


def test_fewer_peers_need_fewer_seats(tmp_path: Path) -> None:
    text = (
        QUICKSTART.read_text()
        .replace("min_seats = 1 ", "min_seats = 4 ")
        .replace("min_updates = 1 ", "min_updates = 3 ")
    )
    (tmp_path / "a.toml").write_text(text)
    recipe = load_recipe(tmp_path / "a.toml")
    assert (recipe.membership.min_seats, recipe.rounds.min_updates) == (4, 3)
    fewer = with_overrides(recipe, peers=2)
    assert (fewer.membership.min_seats, fewer.rounds.min_updates) == (2, 2)
    assert with_overrides(recipe, peers=9).membership.min_seats == 4


@pytest.mark.parametrize(
    ("peers", "rounds", "path"),
    [(0, None, "membership.peers"), (65, None, "membership.peers"), (None, 0, "rounds.count")],
)
def test_impossible_overrides_are_refused(peers: int | None, rounds: int | None, path: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, peers=peers, rounds=rounds)
    assert caught.value.path == path


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file; did you mean .*quickstart.toml"):
        load_recipe(RECIPES / "quickstrat.toml")
    with pytest.raises(RecipeError, match="no such file; did you mean .*quickstart.toml"):
        load_recipe(RECIPES.parent / "quickstart")
    with pytest.raises(RecipeError, match=r"no such file; give the path of a recipe"):
        load_recipe(tmp_path / "nowhere" / "a.toml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"name = 'a'\nname = 'b'\n", r"no TOML: .*line 2"),
        (b"name = \xff", r"no UTF-8 text \(byte 7\)"),
        (b"#" * (RECIPE_BYTES_MAX + 1), "longer than"),
        (b"", "name: missing"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=problem):
        load_recipe(path)


def test_a_folder_is_no_recipe() -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(RECIPES)


def test_a_resolved_algorithm_says_everything() -> None:
    section = resolve_algorithm(load_recipe(RECIPES / "sparseloco.toml").algorithm)
    assert None not in section.overrides.values()
    assert (section.preset, section.codec, section.inner_steps) == ("sparseloco", "topk", 20)
    assert section.codec_options == {"k": 256, "value_bits": 2}
    assert resolve_algorithm(section) == section


@pytest.mark.parametrize(
    ("old", "new", "path", "suggestion"),
    [
        ('preset = "prime"', 'preset = "prim"', "algorithm.preset", "did you mean 'prime'?"),
        ('outer = "sgd"', 'outer = "sdg"', "algorithm.outer", "did you mean 'sgd'?"),
        ('outer = "sgd"', 'outer = "nesterov"', "algorithm.outer_momentum", "a momentum such as .9"),
        ('outer = "sgd"', "codec_options = { rnge = 6 }", "algorithm.codec_options.rnge", "range"),
        ('preset = "prime"', 'preset = "ddp"', "algorithm", "explains the keys"),
    ],
)
def test_impossible_algorithms_are_refused(
    tmp_path: Path, old: str, new: str, path: str, suggestion: str
) -> None:
    (tmp_path / "a.toml").write_text(QUICKSTART.read_text().replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "a.toml")
    assert caught.value.path == path
    assert suggestion in caught.value.suggestion


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        (["outer=sign", "outer_momentum=0.9"], "algorithm.outer_momentum", "would only delay them"),
        (["overlap=40"], "algorithm.overlap", "do not fit into a round of inner_steps = 40"),
        (["codec=fp32", "error_feedback=0.9"], "algorithm.error_feedback", "a dense codec"),
        (
            ["codec=topk", "aggregate=coordinate-median"],
            "algorithm.aggregate",
            "degenerate on sparse payloads",
        ),
        (
            ["start=replica", "inner_state=kept", "staleness=2"],
            "algorithm.start",
            "which a late member missed",
        ),
        (
            ["topology=pairs", "outer=noloco", "outer_momentum=0.5"],
            "algorithm.topology",
            "no state in common",
        ),
    ],
)
def test_bad_combinations_are_refused_when_the_recipe_is_read(
    changes: list[str], path: str, problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, changes=[f"algorithm.{change}" for change in changes])
    assert caught.value.path == path
    assert problem in caught.value.problem


def test_more_fragments_than_layers_are_refused_before_anything_is_built() -> None:
    changes = ["algorithm.fragments=3", "algorithm.start=replica", "algorithm.inner_state=kept"]
    recipe = load_recipe(QUICKSTART, changes=changes)
    with pytest.raises(RecipeError, match="algorithm.fragments: 3 are more than the model's 2 layers"):
        needs_of(recipe)


@pytest.mark.parametrize("preset", ["ddp", "noloco"])
def test_baselines_of_one_process_are_refused_in_a_network(preset: str, tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, changes=[f'algorithm={{preset = "{preset}"}}'])
    with pytest.raises(RecipeError, match="algorithm.preset.*inside one process.*streaming-diloco"):
        resolve(recipe, tmp_path, BlobStore(tmp_path))

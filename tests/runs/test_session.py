"""Where a run goes: a new folder, one to go on with, or a refusal that says what to do."""

import json
import shutil
from pathlib import Path

import pytest

from distrai.ledger.locks import FileLock, InUse
from distrai.protocol.recipe import RecipeError
from distrai.runs.archive import Archive
from distrai.runs.display import JsonLines
from distrai.runs.folder import NoRun, RunFolder
from distrai.runs.session import CannotRunHere, Target, choose, run_session
from helpers.run_folders import FakeRun

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


@pytest.fixture
def recipe_file(fake_run: FakeRun, tmp_path: Path) -> Path:
    """A file with just the recipe of the fake run."""
    archive = Archive(fake_run.folder.archive)
    recipe = archive.recipe(archive.genesis().genesis.recipe_hash).recipe
    text = SMOKE.read_text().replace('source = "python-stdlib"', 'source = "files"\nglobs = ["*.txt"]')
    text = text.replace("[data]", "[data]\nheld_out_fraction = 0.2\ntuning_fraction = 0.2")
    text = text.replace('"PSF-2.0"', '"CC0-1.0"').replace("peers = 4", "peers = 4\nmin_seats = 2")
    path = tmp_path / "smoke.toml"
    path.write_text(text)
    assert choose(path, tmp_path / "new", None, None).recipe is not None
    assert recipe.name == "smoke"
    return path


def finish(folder: RunFolder) -> None:
    folder.summary.write_text(json.dumps({"finished": True}))


def test_a_recipe_goes_where_it_is_told(tmp_path: Path) -> None:
    target = choose(SMOKE, tmp_path / "there", 2, 3)
    assert target.folder.path == tmp_path / "there"
    assert target.recipe is not None
    assert (target.recipe.membership.peers, target.recipe.rounds.count) == (2, 3)
    assert target.base == SMOKE.parent


def test_without_out_it_goes_to_the_next_free_folder(
    fake_run: FakeRun, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose(recipe_file, None, None, None).folder.path == Path("runs/smoke")
    shutil.copytree(fake_run.folder.path, "runs/smoke")
    assert choose(recipe_file, None, None, None).folder.path == Path("runs/smoke"), "goes on with it"
    assert choose(recipe_file, None, 2, None).folder.path == Path("runs/smoke-2"), "that is another run"
    finish(RunFolder(Path("runs/smoke")))
    assert choose(recipe_file, None, None, None).folder.path == Path("runs/smoke-2")


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.toml").write_text(SMOKE.read_text().replace('name = "smoke"', 'name = "../../etc"'))
    assert choose(tmp_path / "evil.toml", None, None, None).folder.path == Path("runs/etc")


def test_a_folder_of_a_run_is_gone_on_with(fake_run: FakeRun) -> None:
    assert choose(fake_run.folder.path, None, None, None) == Target(
        fake_run.folder, None, fake_run.folder.path
    )


def test_its_peers_and_rounds_are_fixed(fake_run: FakeRun, tmp_path: Path) -> None:
    for out, peers, rounds in ((None, 2, None), (None, None, 9), (tmp_path, None, None)):
        with pytest.raises(CannotRunHere, match="are fixed"):
            choose(fake_run.folder.path, out, peers, rounds)


def test_a_finished_run_is_not_trained_again(fake_run: FakeRun, recipe_file: Path) -> None:
    finish(fake_run.folder)
    for what, out in ((fake_run.folder.path, None), (recipe_file, fake_run.folder.path)):
        with pytest.raises(CannotRunHere, match="is finished.*--out"):
            choose(what, out, None, None)


def test_the_same_recipe_goes_on_another_is_refused(fake_run: FakeRun, recipe_file: Path) -> None:
    assert choose(recipe_file, fake_run.folder.path, None, None).folder == fake_run.folder
    with pytest.raises(CannotRunHere, match="another recipe"):
        choose(recipe_file, fake_run.folder.path, None, 99)


def test_other_things_are_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    for path in (tmp_path / "full", tmp_path / "full" / "thesis.txt"):
        with pytest.raises(CannotRunHere, match="is no run"):
            choose(SMOKE, path, None, None)


def test_neither_a_folder_nor_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(NoRun):
        choose(tmp_path, None, None, None)
    with pytest.raises(RecipeError):
        choose(tmp_path / "none.toml", None, None, None)


def test_a_folder_is_for_one_session_at_a_time(fake_run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    target = Target(fake_run.folder, None, fake_run.folder.path)
    with (
        FileLock(fake_run.folder.path / "run.lock", "the run"),
        pytest.raises(InUse, match="used by another"),
    ):
        run_session(target, "cpu", JsonLines(sys.stdout))
    assert capsys.readouterr().out == ""

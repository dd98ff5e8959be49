"""After the last round: measured, exported, written down; and the model can be asked at any time."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.runs.exporting import ExportRefused, export_run
from distrai.runs.folder import NoRun, RunFolder
from distrai.runs.generate import BadSetting, write_text
from distrai.runs.results import finish, partial
from distrai.runs.status import status, status_text
from helpers.run_folders import FakeRun

Says = Callable[[FakeRun], None]


def quiet(event: object) -> None: ...


def test_finish_measures_exports_and_writes_the_summary(fake_run: FakeRun, ledger_says: Says) -> None:
    ledger_says(fake_run)
    folder, told = fake_run.folder, []
    summary = finish(folder, "cpu", told.append)
    assert [event["event"] for event in told] == ["measuring", "exporting"]
    assert folder.is_finished()
    assert json.loads(folder.summary.read_bytes()) == json.loads(json.dumps(summary.to_json()))
    assert summary.loss_start is not None
    assert summary.loss_start == pytest.approx(math.log(256), rel=0.2)  # knows nothing yet
    assert summary.loss_start != summary.loss_end
    assert summary.sample is not None
    assert 0 < len(summary.sample["text"]) <= 300
    assert summary.model_path == str(folder.model)
    card = (folder.model / "README.md").read_text()
    assert summary.state_root in card
    assert f"{summary.loss_end:.4f}" in card


def test_the_exported_model_gives_the_logits_of_the_newest_state(
    fake_run: FakeRun, ledger_says: Says
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from distrai.runs.opened import OpenedRun

    ledger_says(fake_run)
    done = export_run(fake_run.folder, None)
    assert (done.folder, done.round) == (fake_run.folder.model, 4)
    run = OpenedRun.open(fake_run.folder, "cpu")
    run.load_newest()
    ids = torch.tensor([list(b"def main():")])
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, run.model.eval()(ids).logits)


def test_export_spares_what_is_no_model(fake_run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    with pytest.raises(ExportRefused, match="--to"):
        export_run(fake_run.folder, tmp_path / "precious")


def test_export_replaces_only_what_was_exported(fake_run: FakeRun, ledger_says: Says, tmp_path: Path) -> None:
    ledger_says(fake_run)
    assert not export_run(fake_run.folder, tmp_path / "mine").replaced
    assert export_run(fake_run.folder, tmp_path / "mine").replaced
    (tmp_path / "mine" / "README.md").write_text("# A base that somebody made with trouble")
    with pytest.raises(ExportRefused, match="was not exported"):
        export_run(fake_run.folder, tmp_path / "mine")


def test_a_stopped_run_has_a_partial_summary(fake_run: FakeRun, ledger_says: Says) -> None:
    ledger_says(fake_run)
    summary = partial(fake_run.folder)
    assert summary is not None
    assert (summary.finished, summary.rounds, summary.model_path) == (False, 4, None)
    assert not fake_run.folder.is_finished()


def test_generate_writes_as_much_as_it_is_told(finished: FakeRun) -> None:
    def text(seed: int = 0, temperature: float = 1.0) -> str:
        return "".join(
            write_text(finished.folder, "def ", tokens=12, temperature=temperature, seed=seed).pieces
        )

    assert text() == text()
    assert text() != text(seed=1)
    assert text(temperature=0) == text(seed=5, temperature=0)
    assert write_text(finished.folder, "a", tokens=1, temperature=0, seed=0).round == 4


@pytest.mark.parametrize(
    ("prompt", "tokens", "temperature", "problem"),
    [("", 5, 0.8, "is empty"), ("a", 0, 0.8, "--tokens 0"), ("a", 5, -1, "--temperature -1")],
)
def test_impossible_settings_are_refused(
    finished: FakeRun, prompt: str, tokens: int, temperature: float, problem: str
) -> None:
    with pytest.raises(BadSetting, match=problem):
        write_text(finished.folder, prompt, tokens=tokens, temperature=temperature, seed=0)


def test_status_tells_rounds_losses_peers_and_refusals(fake_run: FakeRun, ledger_says: Says) -> None:
    ledger_says(fake_run)
    told = status(fake_run.folder)
    assert (told["state"], told["rounds"], told["bits_per_byte"]) == ("all rounds done", 4, 4.0)
    assert [peer["certified"] for peer in told["peers"]] == [True] * 4
    assert told["peers"][1]["starts"] == 2
    text = status_text(told)
    assert "refused: 1 PayloadSize" in text
    assert told["state_root"] in text


def test_status_works_without_the_ledger(fake_run: FakeRun) -> None:
    told = status(fake_run.folder)
    assert (told["rounds"], told["state_root"]) == (4, None)
    assert "missing" in told["ledger"]
    assert "What to type next: distrai run" in status_text(told)


def test_status_of_a_finished_run_has_what_was_measured(fake_run: FakeRun, ledger_says: Says) -> None:
    ledger_says(fake_run)
    summary = finish(fake_run.folder, "cpu", quiet)
    told = status(fake_run.folder)
    assert (told["state"], told["loss"], told["evaluated_round"]) == ("finished", summary.loss_end, 4)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for act in (lambda: status(RunFolder(tmp_path)), lambda: export_run(RunFolder(tmp_path), None)):
        with pytest.raises(NoRun, match="holds no run"):
            act()

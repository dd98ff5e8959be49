"""The doctor looks at everything, and a check that fails says what to do instead of raising."""

from pathlib import Path

import pytest

from distrai.protocol.recipe import RecipeError
from distrai.runs import doctor
from distrai.runs.doctor import Finding, diagnose, diagnosis_text
from distrai.runs.needs import needs_of
from distrai.runs.recipes import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def test_this_machine_can_take_part() -> None:
    found = diagnose(RECIPES / "quickstart.toml")
    assert [finding.what for finding in found if not finding.ok] == []
    names = {finding.what for finding in found}
    assert {"python", "torch", "memory", "disk", "loopback", "keystore", "arithmetic cpu", "recipe"} <= names
    assert "This machine can take part." in diagnosis_text(found)


def test_every_problem_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_BYTES_MIN", 1 << 80)
    monkeypatch.setattr(doctor, "MEMORY_PER_PEER", 1 << 80)
    monkeypatch.setattr(doctor, "PYTHON_MIN", (9, 9))
    monkeypatch.setattr("distrai.algorithms.selftest.device_agrees", lambda device: False)
    problems = {item.what: item for item in diagnose(RECIPES / "smoke.toml") if not item.ok}
    assert {"python", "memory", "disk", "arithmetic cpu", "recipe: memory"} == set(problems)
    assert all(finding.advice for finding in problems.values())
    assert "-> install Python 9.9" in diagnosis_text(list(problems.values()))


def test_a_check_that_cannot_be_made_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise PermissionError("no sockets here")

    monkeypatch.setattr("socket.create_server", broken)
    (finding,) = [item for item in diagnose() if not item.ok]
    assert (finding.what, finding.found) == ("loopback", "PermissionError: no sockets here")
    assert finding.advice


def test_needs_are_the_sizes_of_codec_and_layout() -> None:
    needs = needs_of(load_recipe(RECIPES / "quickstart.toml"))
    assert needs.parameters == 246_240
    assert needs.parameters < needs.update_bytes < 4 * needs.parameters
    fewer = needs_of(load_recipe(RECIPES / "quickstart.toml", rounds=10))
    assert fewer.disk_bytes < needs.disk_bytes


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        diagnose(tmp_path / "none.toml")


def test_a_model_that_is_none_is_a_problem(tmp_path: Path) -> None:
    text = (RECIPES / "smoke.toml").read_text().replace('"granite"', '"granit"')
    (tmp_path / "a.toml").write_text(text)
    (finding,) = [item for item in diagnose(tmp_path / "a.toml") if not item.ok]
    assert finding.what == "recipe"
    assert "granite" in finding.found


def test_findings_are_plain_data() -> None:
    assert Finding("a", True, "b").to_json() == {"what": "a", "ok": True, "found": "b", "advice": ""}

"""Templates: shipped ones, own copies with versions, strangers' files; none is executed to look at it."""

import json
from pathlib import Path

import pytest

from distrai.jobs.estimates.checking import check
from distrai.jobs.forms.editing import CannotEdit, edit_template, save_template
from distrai.jobs.forms.header import BadHeader
from distrai.jobs.forms.library import Library, NotAccepted, NoTemplate, Template, TemplateExists, shipped
from distrai.jobs.running.session import Asked, choose_job, form, show
from distrai.jobs.text import check_text, form_text
from helpers.job_scripts import HEADER, script


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return Library()


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A script of somebody else, with a trap that springs when anything of it is executed."""
    path = tmp_path / "theirs.py"
    path.write_bytes(script(f"open({str(tmp_path / 'sprung')!r}, 'w').close()"))
    return path


def test_every_shipped_template_has_a_form_and_a_smoke_preset() -> None:
    for template in shipped():
        header = template.header()
        assert header.title
        assert header.kind
        assert template.name == "blank" or header.presets["smoke"]
        assert template.is_shipped


def test_nothing_of_a_template_is_executed_to_show_or_check_it(
    library: Library, stranger: Path, tmp_path: Path
) -> None:
    told = form(library.find(str(stranger)))
    assert told["parameters"]["learning_rate"] == {
        "type": "float",
        "default": 1e-3,
        "max": 1.0,
        "min": 0.0,
        "help": "how fast",
    }
    assert "learning_rate" in form_text(told)
    found = check(Asked(str(stranger), preset="smoke"), library, tmp_path, want_diff=True)
    assert found.values["steps"] == 3
    assert "+open(" in check_text(found.to_json())
    library.new("mine", str(stranger))
    save_template(library, "mine")
    show("mine")
    library.all()
    assert not (tmp_path / "sprung").exists()


def test_a_strangers_script_runs_only_once_its_hash_was_named(
    library: Library, stranger: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotAccepted, match="--diff") as raised:
        choose_job(Asked(str(stranger), out=tmp_path / "job"), library, None, tmp_path)
    hash_ = library.find(str(stranger)).hash
    assert f"--accept {hash_}" in str(raised.value)
    with pytest.raises(NotAccepted, match="now has SHA-256"):
        choose_job(Asked(str(stranger), out=tmp_path / "job", accept="0" * 64), library, None, tmp_path)
    assert not (tmp_path / "job").exists()
    job = choose_job(Asked(str(stranger), out=tmp_path / "job", accept=hash_), library, None, tmp_path)
    assert job.read().script_hash == hash_
    assert library.is_accepted(library.find(str(stranger)))
    stranger.write_bytes(stranger.read_bytes() + b"# one more line\n")
    assert not library.is_accepted(library.find(str(stranger)))


def test_at_a_terminal_the_text_is_shown_and_asked_about(
    library: Library, stranger: Path, tmp_path: Path
) -> None:
    shown: list[str] = []

    def refuse(text: str) -> bool:
        shown.append(text)
        return False

    with pytest.raises(NotAccepted, match="not run"):
        choose_job(Asked(str(stranger), out=tmp_path / "job"), library, refuse, tmp_path)
    assert "+open(" in shown[0]
    assert library.find(str(stranger)).hash in shown[0]
    choose_job(Asked(str(stranger), out=tmp_path / "job"), library, lambda text: True, tmp_path)
    choose_job(Asked(str(stranger), out=tmp_path / "job"), library, refuse, tmp_path)
    assert len(shown) == 1, "what was accepted is not asked about again"


def test_bad_values_are_told_before_anybody_is_asked(
    library: Library, stranger: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="did you mean steps"):
        choose_job(Asked(str(stranger), settings=["step=3"]), library, None, tmp_path)


def test_an_own_copy_keeps_all_its_versions(library: Library, stranger: Path) -> None:
    first = library.new("mine", str(stranger))
    assert first.data == stranger.read_bytes()
    library.path("mine").write_bytes(first.data.replace(b"steps = 3", b"steps = 4"))
    told = save_template(library, "mine")
    assert library.versions("mine") == [first.hash, told["hash"]]
    assert "-# steps = 3" in told["diff"]
    assert "+# steps = 4" in told["diff"]
    assert library.version("mine", first.hash[:10]) == first.data
    assert library.is_accepted(library.find("mine"))
    library.path("mine").write_bytes(first.data)
    assert save_template(library, "mine")["hash"] == first.hash
    assert not save_template(library, "mine")["changed"]
    with pytest.raises(NoTemplate, match="no one version"):
        library.version("mine", "")


def test_a_copy_of_a_stranger_is_as_strange_until_it_is_saved(library: Library, stranger: Path) -> None:
    assert not library.is_accepted(library.new("mine", str(stranger)))
    save_template(library, "mine")
    assert library.is_accepted(library.find("mine"))


def test_a_template_with_a_bad_header_is_not_taken(library: Library, stranger: Path) -> None:
    library.new("mine", str(stranger))
    library.path("mine").write_bytes(HEADER.replace("int", "integer").encode())
    with pytest.raises(BadHeader, match="str, int, float"):
        save_template(library, "mine")
    assert len(library.versions("mine")) == 1


def test_the_editor_is_the_users(library: Library, stranger: Path, tmp_path: Path) -> None:
    library.new("mine", str(stranger))
    editor = tmp_path / "editor with blanks"
    editor.write_text('#!/bin/sh\necho "# edited" >> "$1"\n')
    editor.chmod(0o755)
    told = edit_template(library, "mine", {"EDITOR": f"'{editor}'"})
    assert told["diff"].endswith("+# edited\n")
    with pytest.raises(CannotEdit, match="set EDITOR"):
        edit_template(library, "mine", {"EDITOR": "no-such-editor"})
    with pytest.raises(CannotEdit, match="exit code 1"):
        edit_template(library, "mine", {"EDITOR": "false"})
    with pytest.raises(CannotEdit, match="any editor"):
        edit_template(library, str(stranger), {"EDITOR": "true"})


def test_names_are_checked(library: Library, stranger: Path) -> None:
    library.new("mine", str(stranger))
    with pytest.raises(TemplateExists, match="distrai jobs edit mine"):
        library.new("mine", str(stranger))
    for name in ("../mine", "", "A", "a" * 65, "a/b"):
        with pytest.raises(NoTemplate):
            library.new(name, str(stranger))
    with pytest.raises(NoTemplate, match="did you mean mine"):
        library.find("mime")
    with pytest.raises(BadHeader, match="no file"):
        library.find("./nothing.py")


def test_a_damaged_list_of_what_was_accepted_accepts_nothing(library: Library, stranger: Path) -> None:
    library.accept(library.find(str(stranger)))
    for content in ("{", "3", json.dumps({"a": 1})):
        (library.folder / "accepted.json").write_text(content)
        assert not library.is_accepted(library.find(str(stranger)))


def test_a_shipped_text_is_accepted_under_any_name(library: Library, tmp_path: Path) -> None:
    for template in shipped():
        copy = tmp_path / f"{template.name}.py"
        copy.write_bytes(template.data)
        assert library.is_accepted(library.find(str(copy)))
        assert library.diff(Template(template.name, template.data, copy)) == ""

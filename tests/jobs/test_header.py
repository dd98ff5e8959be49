"""The header of a template: read as text, checked wholly, never executed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.jobs.forms.header import BadHeader, NoHeader, read_header, script_bytes
from distrai.jobs.forms.parameters import BadParameter
from helpers.job_scripts import HEADER


def header(toml: str) -> bytes:
    return "".join(
        ["# /// script\n", *(f"# {line}\n" for line in toml.strip().splitlines()), "# ///\n"]
    ).encode()


def parameter(text: str) -> bytes:
    return header(f"[tool.distrai.parameters]\n{text}")


def test_all_of_a_header_is_read() -> None:
    found = read_header(HEADER.encode())
    assert (found.title, found.kind, found.requires_python, found.dependencies) == (
        "A toy",
        "toy",
        ">=3.11",
        (),
    )
    rate = found.parameters["learning_rate"]
    assert (rate.type, rate.default, rate.min, rate.max, rate.help) == ("float", 1e-3, 0, 1, "how fast")
    assert found.parameters["quant"].choices == ("none", "nf4")
    assert found.presets == {"smoke": {"steps": 3}}


def test_values_are_defaults_then_the_preset_then_what_is_given() -> None:
    found = read_header(HEADER.encode())
    assert found.values("", {})["steps"] == 30
    assert found.values("smoke", {})["steps"] == 3
    assert found.values("smoke", {"steps": 4})["steps"] == 4
    with pytest.raises(BadParameter, match="did you mean smoke"):
        found.values("smok", {})


def test_parameters_may_stand_directly_in_the_table_of_distrai() -> None:
    found = read_header(header('[tool.distrai]\nsteps = {type = "int"}'))
    assert found.parameters["steps"].is_required


def test_a_trap_in_the_text_is_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    text = f"{HEADER}open({str(trap)!r}, 'w').close()\nraise SystemExit(3)\n"
    assert read_header(text.encode()).title == "A toy"
    assert not trap.exists()


def test_a_script_without_a_header_says_how_to_run_it() -> None:
    with pytest.raises(NoHeader, match="--command"):
        read_header(b"print('hello')\n")


def test_the_block_ends_at_the_last_mark_without_a_gap() -> None:
    text = header('[tool.distrai]\ntitle = """\n///\n"""') + b"\n# not TOML\n# ///\n"
    assert read_header(text).title == "///\n"


def test_other_blocks_are_left_alone() -> None:
    other = b"# /// other\n# not TOML at all\n# ///\n\n"
    assert read_header(other + HEADER.encode()).kind == "toy"


def test_windows_line_ends_are_read() -> None:
    assert read_header(HEADER.replace("\n", "\r\n").encode()).kind == "toy"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEADER.encode() + b"\n" + HEADER.encode(), "2 headers"),
        (header("a = = 1"), "no TOML"),
        (b"\xff\xfe", "UTF-8"),
        (header("requires_python = '>=3'"), "did you mean requires-python"),
        (header("requires-python = 'new'"), ">=3.11"),
        (header("dependencies = 'torch'"), "list"),
        (header("dependencies = ['torch >>> 2']"), "cannot be read"),
        (header("dependencies = [3]"), "printable text"),
        (header("tool = 3"), "table"),
        (header("[tool.distrai]\ntitel = 'x'"), "did you mean title"),
        (header("[tool.distrai]\ntitle = 3"), "printable text"),
        (header('[tool.distrai]\ntitle = "\\u001b[2J"'), "printable text"),
        (header("[tool.distrai]\nconstraints = 'no'"), "true or false"),
        (parameter("Steps = {type = 'int'}"), "no name of a parameter"),
        (parameter("steps = 3"), "table"),
        (parameter("steps = {type = 'integer'}"), "str, int, float"),
        (parameter("steps = {default = 3}"), "its type"),
        (parameter("steps = {type = 'int', minimum = 3}"), "did you mean min"),
        (parameter("steps = {type = 'int', default = 'x'}"), "whole number"),
        (parameter("steps = {type = 'int', default = 3, min = 4}"), "at least 4"),
        (parameter("steps = {type = 'int', min = nan}"), "finite"),
        (parameter("name = {type = 'str', min = 4}"), "for numbers"),
        (parameter("name = {type = 'str', choices = []}"), "1 to"),
        (parameter("name = {type = 'str', choices = [1]}"), "not a text"),
        (parameter("name = {type = 'str', choices = ['a'], default = 'b'}"), "no choice"),
        (header("[tool.distrai.presets.smoke]\nsteps = 3"), "no parameter steps"),
        (HEADER.encode().replace(b"# steps = 3", b"# steps = 0"), "at least 1"),
        (HEADER.encode().replace(b"presets.smoke", b'presets."A b"'), "no name of a preset"),
    ],
)
def test_a_bad_header_is_one_clear_line(text: bytes, why: str) -> None:
    with pytest.raises(BadHeader, match=why) as raised:
        read_header(text, "toy")
    assert "toy" in str(raised.value)


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.py"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadHeader, match="larger"):
        script_bytes(path)
    with pytest.raises(BadHeader, match="no file"):
        script_bytes(tmp_path)


def test_a_hostile_text_costs_little() -> None:
    with pytest.raises(NoHeader):
        read_header(b"# /// script\n" * 70_000)


@given(st.binary(max_size=200), st.text(max_size=200))
def test_any_text_is_read_or_refused(data: bytes, toml: str) -> None:
    for text in (data, header(toml or "x"), HEADER.encode() + data):
        try:
            read_header(text)
        except BadHeader:
            continue

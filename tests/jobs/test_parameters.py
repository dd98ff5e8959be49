"""Values of a form: what fits is passed on as it is, all else is one clear line."""

from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.forms.parameters import BadParameter, Parameter, locate, parse_settings, validate

FORM = {
    "rate": Parameter("float", 0.5, 0.0, 1.0),
    "steps": Parameter("int", 3, 1, 10),
    "quant": Parameter("str", "none", choices=("none", "nf4")),
    "merge": Parameter("bool", default=True),
    "data": Parameter("path", ""),
}


def test_what_is_not_given_is_the_default() -> None:
    values = validate(FORM, {"steps": 4})
    assert values == {"rate": 0.5, "steps": 4, "quant": "none", "merge": True, "data": ""}
    assert list(values) == list(FORM)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"step": 3}, "did you mean steps"),
        ({"nothing": 3}, "there are rate, steps"),
        ({"steps": True}, "not a whole number"),
        ({"rate": True}, "not a finite number"),
        ({"merge": 1}, "not true or false"),
        ({"steps": 3.0}, "not a whole number"),
        ({"steps": "3"}, "not a whole number"),
        ({"steps": 0}, "at least 1"),
        ({"steps": 11}, "at most 10"),
        ({"steps": 2**63}, "not a whole number"),
        ({"rate": float("nan")}, "not a finite number"),
        ({"rate": float("inf")}, "not a finite number"),
        ({"rate": 10**400}, "not a finite number"),
        ({"quant": "nf5"}, "did you mean nf4"),
        ({"quant": None}, "not a text"),
        ({"data": "a\0b"}, "not a text"),
        ({"data": "x" * (1 << 17)}, "not a text"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], why: str) -> None:
    with pytest.raises(BadParameter, match=why) as raised:
        validate(FORM, given)
    assert raised.value.name == next(iter(given))
    assert len(str(raised.value)) < 250


def test_what_is_needed_must_be_given() -> None:
    with pytest.raises(BadParameter, match=r"--set model=PATH"):
        validate({"model": Parameter("path")}, {})
    assert validate({"model": Parameter("path")}, {"model": "x"}) == {"model": "x"}


def test_whole_numbers_do_for_fractions() -> None:
    value = validate(FORM, {"rate": 1})["rate"]
    assert (value, type(value)) == (1.0, float)


def test_settings_are_read_by_the_type_of_their_parameter() -> None:
    settings = ["rate=2e-1", "steps=4", "quant=nf4", "merge=no", "data=a=b", "steps=5"]
    assert parse_settings(FORM, settings) == {
        "rate": 0.2,
        "steps": 5,
        "quant": "nf4",
        "merge": False,
        "data": "a=b",
    }


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("steps", "NAME=VALUE"),
        ("step=3", "did you mean steps"),
        ("steps=3.5", "not a whole number"),
        ("steps=many", "not a whole number"),
        ("steps=1e999", "not a whole number"),
        ("rate=nan", "not a finite number"),
        ("rate=", "not a finite number"),
        ("merge=maybe", "true or false"),
        ("steps=" + "9" * 5000, "not a whole number"),
    ],
)
def test_bad_settings_are_refused(setting: str, why: str) -> None:
    with pytest.raises(BadParameter, match=why):
        parse_settings(FORM, [setting])


def test_files_that_are_there_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    assert locate(FORM, {"data": "train.jsonl"}, tmp_path) == {"data": str(tmp_path / "train.jsonl")}
    assert locate(FORM, {"data": "org/name", "quant": "train.jsonl"}, tmp_path) == {
        "data": "org/name",
        "quant": "train.jsonl",
    }
    assert locate(FORM, {"data": ""}, tmp_path) == {"data": ""}

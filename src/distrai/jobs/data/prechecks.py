"""The data of a job before it begins: every line of a file read, so a bad one is found before anything is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distrai.jobs.data.dividing import HELD_OUT
from distrai.jobs.data.examples import check_data
from distrai.jobs.data.prepared import PLACES, prepare_job_data
from distrai.jobs.data.uses import KINDS, use_of
from distrai.jobs.forms.parameters import BadParameter, Parameter

__all__ = ["KINDS", "check_job_data", "check_paths", "prepare_job_data"]
_READABLE = (".jsonl", ".txt", ".json")
_MODELS = ("model", "student", "teacher")


def check_paths(kind: str, parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """Raise BadParameter for what is needed and empty, for a folder that is not there, and for one without a model.

    Only of kinds that are known here: another script may mean a place that it makes itself.
    """
    if kind not in (*KINDS, "evaluate"):
        return
    for name, value in values.items():
        if parameters[name].type != "path":
            continue
        if parameters[name].is_required and not value.strip():
            raise BadParameter(name, f"it is empty; {parameters[name].help or 'this template needs it'}")
        if value.startswith(PLACES) and not Path(value).expanduser().exists():
            raise BadParameter(name, f"there is no {value} here; a name on the hub is OWNER/NAME")
        if name in _MODELS and value and "/" not in value and not Path(value).exists():
            raise BadParameter(name, f"there is no folder {value} here; a name on the hub is OWNER/NAME")
        if name in _MODELS and Path(value).is_dir() and not (Path(value) / "config.json").is_file():
            raise BadParameter(name, f"{value} has no model in it: there is no config.json")


def check_job_data(kind: str, values: Mapping[str, Any]) -> None:
    """Raise BadData or BadSource for a file of data that cannot be used. Data elsewhere is not fetched."""
    data, use = str(values.get("data") or ""), use_of(kind)
    if use is None or not data or (Path(data) / HELD_OUT).is_file():
        return
    if data.endswith(_READABLE) or Path(data).is_file():
        check_data(data, limit=int(values.get("examples_max") or 0), use=use).check()

"""The data of a job before it begins: every line of a file read, so a bad one is found before anything is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distrai.jobs.data import HELD_OUT, check_data
from distrai.jobs.prepared import prepare_job_data
from distrai.jobs.uses import KINDS, use_of

__all__ = ["KINDS", "check_job_data", "prepare_job_data"]
_READABLE = (".jsonl", ".txt", ".json")


def check_job_data(kind: str, values: Mapping[str, Any]) -> None:
    """Raise BadData or BadSource for a file of data that cannot be used. Data elsewhere is not fetched."""
    data, use = str(values.get("data") or ""), use_of(kind)
    if use is None or not data or (Path(data) / HELD_OUT).is_file():
        return
    if data.endswith(_READABLE) or Path(data).is_file():
        check_data(data, limit=int(values.get("examples_max") or 0), use=use).check()

"""The data of a job before it begins: every line of a file read, so a bad one is found before anything is spent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distrai.jobs.claims import base_of, count_parameters
from distrai.jobs.data import BadData
from distrai.jobs.data_check import Hardware, inspect_data

KINDS = ("sft", "dpo", "rlhf", "grpo", "distill", "distill-sft", "pretrain")
"""Kinds of training whose data has a format that is known here. A custom script reads what it likes."""
_SHOWN = 3
_READABLE = (".jsonl", ".txt")


def check_job_data(kind: str, values: Mapping[str, Any]) -> None:
    """Raise BadData or BadSource for a file of data with a line that cannot be used. Data elsewhere is not fetched."""
    data = str(values.get("data", ""))
    if kind not in KINDS or not data.endswith(_READABLE) or not Path(data).is_file():
        return
    told = inspect_data(kind, {"data": data})
    if told["ok"]:
        return
    lines = [f"line {problem['line']}: {problem['why']}" for problem in told["problems"][:_SHOWN]]
    more = told["problem_count"] - len(lines)
    raise BadData(f"{data} {'; '.join(lines) or 'has no examples'}{f'; and {more} more' if more > 0 else ''}")


def look_at_data(kind: str, values: Mapping[str, Any], hardware: Hardware | None) -> dict[str, Any] | None:
    """What the data of a job is, and what training on it takes on this hardware; None if that is not known here.

    Raises BadData, BadSource.
    """
    if kind not in KINDS or not values.get("data"):
        return None
    return inspect_data(kind, values, count_parameters(Path(base_of(dict(values)))), hardware)

"""Rows in the shapes that data sets commonly have, as lines of ``formats``."""

import math
from collections.abc import Mapping
from typing import Any

from distrai.training.data.formats import BadLine

_ASKED = ("prompt", "instruction", "question")
_ANSWERED = ("completion", "output", "response", "answer")


def text_column(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The column that holds plain text."""
    if column not in row:
        raise BadLine(f"there is no column {column!r}; there are {', '.join(map(str, row))}")
    return {"text": row[column]}


def adapt(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in a shape that is common elsewhere as one of our formats; any other row as it is."""
    if "messages" in row or "preferred_output" in row or "text" in row:
        return {name: value for name, value in row.items() if value is not None}
    if "chosen" in row and "rejected" in row:
        return as_preference(row)
    asked = next((name for name in _ASKED if name in row), "")
    answered = next((name for name in _ANSWERED if name in row), "")
    if asked and answered:
        more = row.get("input")
        question = f"{row[asked]}\n\n{more}" if isinstance(more, str) and more.strip() else row[asked]
        return {"messages": as_messages(question, "user") + as_messages(row[answered], "assistant")}
    if asked:
        return {**row, "messages": as_messages(row[asked], "user")}
    return dict(row)


def as_preference(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with ``chosen``, ``rejected`` and perhaps ``prompt``, each text or messages, in our format."""
    chosen, rejected = (as_messages(row[side], "assistant") for side in ("chosen", "rejected"))
    if "prompt" in row:
        asked = as_messages(row["prompt"], "user")
    else:
        pairs = zip(chosen, rejected, strict=False)
        same = next(
            (at for at, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected))
        )
        asked, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    if chosen[: len(asked)] == asked and rejected[: len(asked)] == asked:
        chosen, rejected = chosen[len(asked) :], rejected[len(asked) :]
    return {"input": {"messages": asked}, "preferred_output": chosen, "non_preferred_output": rejected}


def as_messages(value: Any, role: str) -> list[Any]:
    """Messages as they are; anything else as one by ``role``."""
    return list(value) if isinstance(value, list) else [{"role": role, "content": value}]


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that JSON can tell; pictures, sound, dates and the like are left out."""
    return {str(name): value for name, value in row.items() if value is not None and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    return (
        value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    )

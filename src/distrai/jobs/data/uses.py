"""Which data each kind of training takes, and how rows of other shapes become that."""

from collections.abc import Mapping
from typing import Any

from distrai.jobs.data.examples import Use
from distrai.jobs.data.sources import adapt, as_messages
from distrai.training.data.formats import Format

_FORMATS = {
    "sft": (Format.CHAT, Format.TEXT),
    "distill": (Format.CHAT, Format.TEXT),
    "distill-sft": (Format.CHAT, Format.PROMPTS),
    "grpo": (Format.CHAT,),
    "dpo": (Format.PREFERENCE,),
    "rlhf": (Format.PREFERENCE,),
    "pretrain": (Format.TEXT,),
}
_MESSAGES = ("messages", "preferred_output", "non_preferred_output")
KINDS = tuple(_FORMATS)
"""Kinds of training whose data is known here. A custom script reads what it likes."""


def use_of(kind: str) -> Use | None:
    """What the data of such a training is for; None for kinds that are not known here."""
    formats = _FORMATS.get(kind)
    if formats is None:
        return None
    convert = with_answer if kind == "grpo" else adapt
    return Use(kind, formats, lambda row: joined(convert(row)), pieces=kind == "pretrain")


def with_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """A question whose right answer is the last message: that of a column ``answer``, where there is one."""
    answer = row.get("answer")
    made = adapt({name: value for name, value in row.items() if name != "answer"})
    if answer is None or not isinstance(made.get("messages"), list):
        return made if answer is None else adapt(row)
    asked = [*made["messages"]]
    if asked and isinstance(asked[-1], dict) and asked[-1].get("role") == "assistant":
        asked.pop()
    return {**made, "messages": [*asked, *as_messages(str(answer), "assistant")]}


def joined(row: dict[str, Any]) -> dict[str, Any]:
    """The row with contents that come in parts of text as one text each, as scripts expect them."""
    told = row.get("input")
    if isinstance(told, dict) and isinstance(told.get("messages"), list):
        row = {**row, "input": {**told, "messages": [_joined(item) for item in told["messages"]]}}
    lists = {name: row[name] for name in _MESSAGES if isinstance(row.get(name), list)}
    return {**row, **{name: [_joined(item) for item in items] for name, items in lists.items()}}


def _joined(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not content:
        return message
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return message  # the check of the line says what is wrong
    if any(part.get("type") != "text" for part in content):
        return message
    return {**message, "content": "".join(part["text"] for part in content)}

"""The formats of training data, line by line: what a line must be, and what is wrong with it in a few words.

- ``chat``: JSON with ``messages``, as OpenAI's fine-tuning takes them, ending with what the assistant says;
- ``prompts``: the same without the answer, for training with rewards;
- ``preference``: JSON with ``input.messages``, ``preferred_output``, ``non_preferred_output``;
- ``text``: JSON with ``text``; in a .txt file, each part between empty lines.

What a line has beside that (ids, scores, answers for a reward) is kept as it is. A message may have ``weight`` 0: runs
in common read such an answer and do not learn it.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from distrai.protocol.plain_json import TooDeep, load_json

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class Format(StrEnum):
    """How a line of data is read."""

    CHAT = "chat"
    PROMPTS = "prompts"
    PREFERENCE = "preference"
    TEXT = "text"


class BadLine(ValueError):
    """A line of data cannot be used; the message says why, the reader knows which."""


@dataclass(frozen=True, slots=True)
class Example:
    """A line that can be used: its number from 1, its format, and what it says."""

    line: int
    format: Format
    value: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """What comes before the answer, as one text: the same question is never in training and held-out."""
        match self.format:
            case Format.TEXT:
                return str(self.value["text"])
            case Format.PREFERENCE:
                asked = self.value["input"]["messages"]
            case Format.PROMPTS:
                asked = self.value["messages"]
            case Format.CHAT:
                asked = _before_answer(self.value["messages"])
        return json.dumps(asked or self.value["messages"], sort_keys=True, ensure_ascii=False)

    @property
    def conversations(self) -> list[list[dict[str, Any]]]:
        """What is trained on as conversations: one, or both of a preference; none of a text."""
        if self.format is Format.TEXT:
            return []
        if self.format is Format.PREFERENCE:
            asked = list(self.value["input"]["messages"])
            return [asked + list(self.value[side]) for side in ("preferred_output", "non_preferred_output")]
        return [list(self.value["messages"])]

    def to_line(self) -> bytes:
        """The one way to write it: JSON with sorted keys on one line."""
        return (
            json.dumps(self.value, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
        ).encode()


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises BadLine."""
    try:
        value = load_json(line, object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadLine(f"no UTF-8 at byte {error.start + 1}: save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadLine(f"no JSON: {error.msg} at character {error.pos + 1}") from None
    except TooDeep as error:
        raise BadLine(f"no JSON of use: {error}") from None
    except BadLine:
        raise
    except ValueError:
        raise BadLine("no JSON of use: a number in it is too long") from None
    if not isinstance(value, dict):
        raise BadLine(f"a JSON object is needed, and this is {_kind(value)}")
    return value


def format_of(value: Mapping[str, Any]) -> Format:
    """Which format a line has, by its keys. Raises BadLine."""
    if "preferred_output" in value or "non_preferred_output" in value:
        return Format.PREFERENCE
    if "messages" in value:
        messages = value["messages"]
        answered = isinstance(messages, list) and messages and _is_answer(messages[-1])
        return Format.CHAT if answered else Format.PROMPTS
    if "text" in value:
        return Format.TEXT
    there = ", ".join(map(str, value))[:100] or "nothing"
    meant = _meant(value, "messages", "text")
    raise BadLine(f"it has none of messages, preferred_output, text, but {there}{meant}")


def read_value(value: Mapping[str, Any], wanted: Format, line: int) -> Example:
    """A line as an example of a format. Raises BadLine."""
    match wanted:
        case Format.TEXT:
            _text(value, "text")
        case Format.CHAT | Format.PROMPTS:
            _messages(_need(value, "messages"), "messages")
            if (wanted is Format.CHAT) != _is_answer(value["messages"][-1]):
                ends = value["messages"][-1]["role"]
                need = "the assistant, whose answer is learnt" if wanted is Format.CHAT else "what is asked"
                raise BadLine(f"the last message must be by {need}; it is by {ends}")
        case Format.PREFERENCE:
            _preference(value)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadLine("it has half a character in it (a lone surrogate, \\ud800 to \\udfff)") from None
    return Example(line, wanted, value)


def _preference(value: Mapping[str, Any]) -> None:
    asked = _need(value, "input")
    if not isinstance(asked, dict):
        raise BadLine(f"input must be an object with messages, and is {_kind(asked)}")
    _messages(_need(asked, "messages", "input."), "input.messages")
    for side in ("preferred_output", "non_preferred_output"):
        _messages(_need(value, side), side)
        if not all(map(_is_answer, value[side])):
            raise BadLine(f"{side} must be messages of the assistant only")
    if value["preferred_output"] == value["non_preferred_output"]:
        raise BadLine("preferred_output and non_preferred_output are the same: nothing can be learnt from it")


def _messages(messages: Any, name: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadLine(f"{name} must be a list of messages, and is {_kind(messages)}")
    for number, message in enumerate(messages, 1):
        where = f"{name}[{number}]"
        if not isinstance(message, dict):
            raise BadLine(f"{where} must be an object with role and content, and is {_kind(message)}")
        role = _need(message, "role", f"{where}.")
        if role not in _ROLES:
            close = difflib.get_close_matches(str(role), _ROLES, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise BadLine(
                f"{where}.role is {str(role)[:40]!r}, and must be one of {', '.join(_ROLES)}{meant}"
            )
        _content(message, where)
        if message.get("weight") not in (None, 0, 1):
            raise BadLine(f"{where}.weight is {str(message['weight'])[:40]}, and must be 0 (not learnt) or 1")


def _content(message: Mapping[str, Any], where: str) -> None:
    content = message.get("content")
    if content is None and (message.get("tool_calls") or message.get("function_call")):
        return
    if isinstance(content, list):
        if not all(map(_is_text_part, content)):
            raise BadLine(f"{where}.content may have parts of type text only")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        what = "is missing" if "content" not in message else f"is {_kind(content)}, and must be text"
        raise BadLine(f"{where}.content {what}{_meant(message, 'content') if what == 'is missing' else ''}")
    if not content.strip() and message["role"] in ("user", "assistant"):
        raise BadLine(f"{where}.content is empty")


def _text(value: Mapping[str, Any], name: str) -> None:
    text = _need(value, name)
    if not isinstance(text, str):
        raise BadLine(f"{name} is {_kind(text)}, and must be text")
    if not text.strip():
        raise BadLine(f"{name} is empty")


def _need(value: Mapping[str, Any], name: str, where: str = "") -> Any:
    if name not in value:
        raise BadLine(f"{where}{name} is missing{_meant(value, name)}")
    return value[name]


def _meant(value: Mapping[str, Any], *names: str) -> str:
    for key in value:
        if close := difflib.get_close_matches(key, names, 1, 0.75):
            return f"; is {key[:40]!r} meant to be {close[0]}?"
    return ""


def _is_answer(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _before_answer(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All messages up to the first answer."""
    first = next((at for at, message in enumerate(messages) if _is_answer(message)), len(messages))
    return list(messages[:first])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadLine(f"{next(name for name in names if names.count(name) > 1)[:40]!r} is there twice")
    return value


def _no_constant(name: str) -> Any:
    raise BadLine(f"{name} is no JSON")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    empty = isinstance(value, list | dict | str) and not value
    return "empty" if empty else names.get(type(value), "a number")

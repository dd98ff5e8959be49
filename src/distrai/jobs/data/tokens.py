"""Counting the tokens of training data, as the model's own tokenizer cuts them, before anything is spent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from distrai.jobs.hub.reach import hub_answers
from distrai.training.data.formats import Example

COUNTED_MAX = 20_000
"""Examples that are cut into tokens; of more data the rest is reckoned from its bytes."""


class NoTokenizer(ValueError):
    """A tokenizer cannot be loaded."""


class TokenCounter(Protocol):
    """Says how many tokens an example has: one number for each of its conversations, or for its text."""

    def __call__(self, example: Example) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """``total`` is exact if every example was counted.

    ``kept``: what is left of ``total`` when everything is cut at ``longest_allowed`` (0: nothing is). ``too_long``:
    examples that are cut. Of a preference each answer, with its question, is cut for itself; ``longest`` is of those.
    """

    total: int
    kept: int
    longest: int
    counted: int
    exact: bool
    too_long: int
    longest_allowed: int


class TokenSum:
    """Adds up tokens: all examples of small data, the first ones of large data and the bytes of the rest."""

    def __init__(
        self, counter: TokenCounter, longest_allowed: int = 0, counted_max: int = COUNTED_MAX
    ) -> None:
        self._counter, self._allowed, self._counted_max = counter, longest_allowed, counted_max
        self._tokens = self._kept = self._longest = self._counted = self._too_long = 0
        self._bytes_counted = self._bytes_all = 0

    def add(self, example: Example, size: int) -> None:
        """Count an example of ``size`` bytes."""
        self._bytes_all += size
        if self._counted == self._counted_max:
            return
        lengths = self._counter(example)
        longest = max(lengths, default=0)
        self._counted += 1
        self._tokens += sum(lengths)
        self._kept += sum(min(length, self._allowed or length) for length in lengths)
        self._bytes_counted += size
        self._longest = max(self._longest, longest)
        self._too_long += bool(self._allowed) and longest > self._allowed

    def counts(self) -> TokenCounts:
        """What was added up."""
        exact = self._bytes_all == self._bytes_counted
        total, kept = (
            count if exact else round(count * self._bytes_all / self._bytes_counted)
            for count in (self._tokens, self._kept)
        )
        return TokenCounts(total, kept, self._longest, self._counted, exact, self._too_long, self._allowed)


def count_bytes(example: Example) -> list[int]:
    """A byte is a token: for models that read bytes, and where there is no tokenizer."""
    if not example.conversations:
        return [len(str(example.value["text"]).encode())]
    return [sum(len(_plain(message).encode()) for message in messages) for messages in example.conversations]


@dataclass(frozen=True)
class TokenizerCounter:
    """Counts with a tokenizer of transformers, and its chat template where it has one."""

    tokenizer: Any

    @classmethod
    def load(cls, name: str) -> "TokenizerCounter":
        """The tokenizer of a folder or of a model of the hub; its code is never run. Raises NoTokenizer."""
        from transformers import AutoTokenizer
        from transformers.utils import logging

        level = logging.get_verbosity()
        logging.set_verbosity_error()  # type: ignore[no-untyped-call] # texts longer than the model are ours to tell
        try:
            here = Path(name).is_dir() or not hub_answers()
            return cls(AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=here))
        except (OSError, ValueError, KeyError, ImportError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise NoTokenizer(f"there is no tokenizer of {name}: {why}") from None
        finally:
            logging.set_verbosity(level)

    def __call__(self, example: Example) -> list[int]:
        texts = [self._text(messages) for messages in example.conversations] or [str(example.value["text"])]
        return [
            len(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]

    def _text(self, messages: list[dict[str, Any]]) -> str:
        if getattr(self.tokenizer, "chat_template", None):
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        return "\n".join(_plain(message) for message in messages)


def _plain(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content)
    calls = message.get("tool_calls") or message.get("function_call")
    return (content or "") + (json.dumps(calls) if calls else "")

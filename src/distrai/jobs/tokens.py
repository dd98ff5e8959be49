"""Counting the tokens of training data, as the model's own tokenizer cuts them, before anything is spent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from distrai.jobs.data_formats import Example

COUNTED_MAX = 20_000
"""Examples that are cut into tokens; of more data the rest is reckoned from its bytes."""


class NoTokenizer(ValueError):
    """A tokenizer cannot be loaded."""


class TokenCounter(Protocol):
    """Says how many tokens an example has."""

    def __call__(self, example: Example) -> int: ...


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """``total`` is exact if every example was counted. ``too_long``: examples above ``longest_allowed`` (0: any)."""

    total: int
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
        self._tokens = self._longest = self._counted = self._too_long = 0
        self._bytes_counted = self._bytes_all = 0

    def add(self, example: Example, size: int) -> None:
        """Count an example of ``size`` bytes."""
        self._bytes_all += size
        if self._counted == self._counted_max:
            return
        tokens = self._counter(example)
        self._counted += 1
        self._tokens += tokens
        self._bytes_counted += size
        self._longest = max(self._longest, tokens)
        self._too_long += bool(self._allowed) and tokens > self._allowed

    def counts(self) -> TokenCounts:
        """What was added up."""
        exact = self._bytes_all == self._bytes_counted
        total = self._tokens if exact else round(self._tokens * self._bytes_all / self._bytes_counted)
        return TokenCounts(total, self._longest, self._counted, exact, self._too_long, self._allowed)


def count_bytes(example: Example) -> int:
    """A byte is a token: for models that read bytes, and where there is no tokenizer."""
    if not example.conversations:
        return len(str(example.value["text"]).encode())
    return sum(len(_plain(message).encode()) for messages in example.conversations for message in messages)


@dataclass(frozen=True)
class TokenizerCounter:
    """Counts with a tokenizer of transformers, and its chat template where it has one."""

    tokenizer: Any

    @classmethod
    def load(cls, name: str) -> "TokenizerCounter":
        """The tokenizer of a folder or of a model of the hub; its code is never run. Raises NoTokenizer."""
        from transformers import AutoTokenizer

        try:
            return cls(AutoTokenizer.from_pretrained(name, trust_remote_code=False))
        except (OSError, ValueError) as error:
            raise NoTokenizer(
                f"there is no tokenizer of {name}: {str(error).strip().splitlines()[0]}"
            ) from None

    def __call__(self, example: Example) -> int:
        texts = [self._text(messages) for messages in example.conversations] or [str(example.value["text"])]
        return sum(len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"])

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

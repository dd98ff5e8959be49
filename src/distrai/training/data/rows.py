"""Conversations as rows of ``context + 1`` entries: cut into tokens, scored where the assistant speaks, padded.

A conversation that is longer than a row loses its end, so that what is left is what a model reads up to there. A row in
which nothing is scored then, and a pair whose two rows are equal then, are left out. All of that is counted.
"""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import processors

from distrai.training.data.chat import ChatRenderer, Rendered, plain_message
from distrai.training.data.formats import Example, Format
from distrai.training.data.layouts import PADDING, UNSCORED
from distrai.training.tokenizer import Tokenizer

Entries = NDArray[np.uint32]


@dataclass(slots=True)
class RowCounts:
    """What became of the conversations, or pairs of them, that were read."""

    read: int = 0
    kept: int = 0
    cut: int = 0
    """Longer than a row; some of them may have been left out."""
    left_out: int = 0
    """Nothing was left in them to learn from."""
    duplicates: int = 0
    """Equal to another one, and kept once."""
    last_only: int = 0
    """Only the last answer is scored: the template writes earlier ones in another way."""

    def text(self) -> str:
        """One line for people."""
        told = [
            (self.cut, "too long and cut at the end"),
            (self.left_out, "left out with nothing to learn from"),
            (self.duplicates, "left out as equal to others"),
            (
                self.last_only,
                "scored in their last answer only, which the chat template makes the others unlike",
            ),
        ]
        return "; ".join(
            [f"{self.kept:,} of {self.read:,} examples are used"]
            + [f"{count:,} {what}" for count, what in told if count]
        )


class RowMaker:
    """Makes entries of examples, and counts."""

    def __init__(self, tokenizer: Tokenizer, renderer: ChatRenderer, context: int) -> None:
        self._renderer, self._width = renderer, context + 1
        self._fast = FastTokenizer.from_str(tokenizer.to_fast().to_str())
        self._fast.post_processor = processors.ByteLevel(trim_offsets=False)  # a space is part of its token
        self.counts = RowCounts()

    def entries(self, example: Example) -> Entries | None:
        """The sample of an example; None if there is nothing in it to learn from.

        Raises BadLine, BadChatTemplate.
        """
        self.counts.read += 1
        parts = example.conversations
        first = len(example.value["input"]["messages"]) if example.format is Format.PREFERENCE else 0
        tools = example.value.get("tools")
        rendered = [self._renderer.render(messages, first, tools) for messages in parts]
        long = [self._tokens(each) for each in rendered]
        rows = [self._row(entries) for entries in long]
        self.counts.cut += any(len(entries) > self._width for entries in long)
        self.counts.last_only += not all(each.complete for each in rendered)
        same = len(rows) == 2 and np.array_equal(rows[0], rows[1])
        if same or not all((row[1:] < UNSCORED).any() for row in rows):
            self.counts.left_out += 1
            return None
        return np.concatenate(rows)

    def _tokens(self, rendered: Rendered) -> Entries:
        """A token is scored if it begins where something scored is."""
        encoded = self._fast.encode(rendered.text, add_special_tokens=False)
        entries = np.asarray(encoded.ids, np.uint32)
        starts = np.asarray([start for start, _ in encoded.offsets], np.int64)
        scored = np.zeros(len(entries), bool)
        for start, end in rendered.spans:
            scored |= (starts >= start) & (starts < end)
        entries[~scored] |= np.uint32(UNSCORED)
        return entries

    def _row(self, entries: Entries) -> Entries:
        row = np.full(self._width, PADDING, np.uint32)
        kept = entries[: self._width]
        row[: len(kept)] = kept
        return row


def prompt_key(example: Example) -> bytes:
    """What equal prompts have in common: the messages before the first answer, however they are spelled."""
    asked = json.loads(example.prompt)
    return json.dumps([plain_message(message) for message in asked], sort_keys=True).encode()

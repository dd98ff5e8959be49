"""What is worth writing down: notes about others are limited, because each one is a write that the disk confirms.

Anybody may send garbage, as much as it likes; its receiver must not pay for each piece with a place in its log.
"""

from collections import Counter

from distrai.peer.events import Note
from distrai.protocol.primitives import Hash

NOTES_PER_RULE = 16
"""Notes of one kind about one rule that are written down between two heads."""
TEXT_MAX = 300
"""Characters of a fact: parts of what others sent may be quoted in it."""


class NoteBudget:
    """Counts the notes since the last head."""

    def __init__(self) -> None:
        self._head: Hash | None = None
        self._counts: Counter[tuple[str, str | int | None]] = Counter()

    def take(self, note: Note, head: Hash) -> dict[str, str | int] | None:
        """The facts to write down, cut to size; None if there were enough of their kind since ``head``."""
        if head != self._head:
            self._head = head
            self._counts.clear()
        kind = (note.what, note.facts.get("rule"))
        self._counts[kind] += 1
        if self._counts[kind] > NOTES_PER_RULE:
            return None
        return {name: fact[:TEXT_MAX] if isinstance(fact, str) else fact for name, fact in note.facts.items()}

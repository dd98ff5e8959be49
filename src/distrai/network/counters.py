"""Bytes at the socket, both ways, by what they were for."""

from collections import Counter
from typing import Final, Literal

Direction = Literal["up", "down"]
PURPOSES: Final = ("updates", "snapshots", "data", "control")


def purpose_of(text: str | None) -> str:
    """The purpose that a request names; whatever is unknown is control traffic."""
    return text if text in PURPOSES else "control"


class Counters:
    """Totals since the transport started. Touched by the event loop only."""

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()

    def add(self, direction: Direction, purpose: str, count: int) -> None:
        """Count bytes that passed a socket."""
        assert purpose in PURPOSES
        self._bytes[direction, purpose] += count

    def total(self, direction: Direction) -> int:
        """All bytes of one direction."""
        return sum(self._bytes[direction, purpose] for purpose in PURPOSES)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Bytes by direction and purpose, every purpose named."""
        return {
            direction: {purpose: self._bytes[direction, purpose] for purpose in PURPOSES}
            for direction in ("up", "down")
        }

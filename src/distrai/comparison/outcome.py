"""What a run has come to: parameters, bytes, tokens, time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Params = tuple[Tensor, ...]


@dataclass
class Outcome:
    """Filled in while a cell is trained. Bytes are those of payloads, in all and for all peers together."""

    params: Params = ()
    """What is published: the model of everybody."""
    steps: int = 0
    """Inner steps that count, of all peers."""
    tokens: int = 0
    steps_dropped: int = 0
    """Inner steps whose update came too late to count."""
    payload_up: int = 0
    payload_down: int = 0
    round_bytes: list[int] = field(default_factory=list)
    """Bytes of one update of each round of a cycle of fragments."""
    train_s: float = 0.0
    """What the inner steps took here."""
    trained_steps: int = 0

    def figures(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "steps_dropped": self.steps_dropped,
            "payload_up": self.payload_up,
            "payload_down": self.payload_down,
            "round_bytes": self.round_bytes,
            "step_s": self.train_s / self.trained_steps if self.trained_steps else 0.0,
        }


@dataclass
class Curve:
    """Loss on the tuning split on the way."""

    wanted: int
    """Points, at most one a round."""
    rounds: int
    measure: Callable[[Params], float]
    points: list[dict[str, float]] = field(default_factory=list)

    def add(self, number: int, tokens: int, payload_up: float, params: Params) -> None:
        """Take note of round ``number`` (from 1), if it is one of those that are looked at."""
        if (number * self.wanted) // self.rounds > ((number - 1) * self.wanted) // self.rounds:
            value = round(self.measure(params), 5)
            self.points.append({"tokens": tokens, "payload_up_per_peer": payload_up, "bits_per_byte": value})

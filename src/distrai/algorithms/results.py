"""What goes into an outer step and what comes out of encoding and stepping."""

from dataclasses import dataclass

from torch import Tensor

from distrai.algorithms.state import GlobalState


@dataclass(frozen=True)
class Entry:
    """A certified update: the member (32 bytes), the tokens it trained on (at least 1), its opened payload, and
    by how many rounds its start was older than this round's.

    A payload may be a view of a mapped file: it is read span by span.
    """

    member: bytes
    tokens: int
    payload: bytes | memoryview
    staleness: int = 0


@dataclass(frozen=True)
class Encoded:
    """A payload, and both futures of the error feedback (None without it; always over the whole layout)."""

    payload: bytes
    pending_feedback: tuple[Tensor, ...] | None
    """If the certificate accepts the update with a weight above 0."""
    carried_feedback: tuple[Tensor, ...] | None
    """If it does not, for whatever reason."""

    def feedback(self, accepted: bool) -> tuple[Tensor, ...] | None:
        """The buffer for the next round."""
        return self.pending_feedback if accepted else self.carried_feedback


@dataclass(frozen=True)
class StepResult:
    """The next state, and for each entry, in the order given, its weight (0: it did not count) and why not
    ("" if it did).
    """

    state: GlobalState
    weights: tuple[int, ...]
    reasons: tuple[str, ...]

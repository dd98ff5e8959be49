"""Where the time of a run went, from the event logs of its peers (all on one machine, so their clocks are one)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from distrai.peer.journal import Trained
from distrai.runs.logs import PeerLog

Span = tuple[float, float]


@dataclass(frozen=True)
class Timing:
    """The first ``rounds`` rounds of a run. Pauses, when no peer ran, do not count."""

    logs: Sequence[PeerLog]
    rounds: int

    @cached_property
    def active(self) -> list[Span]:
        """When at least one peer ran: disjoint spans, in order."""
        return merged(span for log in self.logs for span in log.sessions)

    @property
    def wall_s(self) -> float:
        """Seconds in which at least one peer ran."""
        return sum(end - start for start, end in self.active)

    def between(self, start: float, end: float) -> float:
        """Seconds between two times in which at least one peer ran."""
        return sum(max(0.0, min(end, last) - max(start, first)) for first, last in self.active)

    @cached_property
    def landed(self) -> dict[int, float]:
        """When the first peer had applied each round's certificate."""
        found: dict[int, float] = {}
        for log in self.logs:
            for number, applied in log.applied.items():
                if number <= self.rounds:
                    found[number] = min(applied.at, found.get(number, applied.at))
        return found

    def durations(self) -> list[float]:
        """How long each round took, the first from when its training began."""
        return [self.between(*span) for span in self._spans().values()]

    def overheads(self) -> list[float]:
        """For each round with updates: from the last inner step of its slowest peer to the applied certificate."""
        ends = {
            number: max(item.ended for item in done)
            for number in self.landed
            if (done := self._certified(number))
        }
        return [self.between(end, self.landed[number]) for number, end in ends.items()]

    def cpu_overheads(self) -> list[float]:
        """CPU seconds that each peer spent on each round beside its model: messages, codec, checks, state, disk."""
        found = []
        for log in self.logs:
            for number, now in log.spent.items():
                before = log.spent.get(number - 1)
                if before is not None and before.total_s <= now.total_s:  # else another process began
                    found.append((now.total_s - now.model_s) - (before.total_s - before.model_s))
        return found

    def utilisation(self) -> float | None:
        """The share of the peers' time that went into inner steps that counted."""
        spans = self._spans()
        total = sum(self.between(*span) for span in spans.values()) * len(self.logs)
        if total <= 0:
            return None
        spent = 0.0
        for number, span in spans.items():
            # An update trained before a pause may count in a round that took less than its training.
            longest = self.between(*span)
            spent += sum(min(item.seconds, longest) for item in self._certified(number))
        return spent / total

    def _spans(self) -> dict[int, Span]:
        spans: dict[int, Span] = {}
        for number, end in self.landed.items():
            began = [log.trained[number].began for log in self.logs if number in log.trained]
            start = self.landed.get(number - 1, min(began, default=end))
            spans[number] = (start, end)
        return spans

    def _certified(self, number: int) -> list[Trained]:
        """The training of those whose updates are in a round's certificate, as far as they logged it."""
        members = {
            member for log in self.logs if number in log.applied for member in log.applied[number].members
        }
        return [log.trained[number] for log in self.logs if log.member in members and number in log.trained]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of spans as disjoint ones, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found

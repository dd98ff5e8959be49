"""The arithmetic of the utilisation benchmark: from event logs to shares of what training alone reaches.

A peer's training of a round is over at the end of its last inner step. From the end of one round's to the end of
another's is what the rounds between took, waiting for updates and certificates included, in whatever order training
and communication went on meanwhile. A window leaves out the rounds at the beginning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import fmean
from typing import Any

from distrai.runs.logs import PeerLog

BITS = 8
MBIT = 1e6
FOREIGN_MAX, DRIFT_MAX = 0.05, 0.05
"""A run is disturbed if others took a larger share of the cores, or training alone changed by more, meanwhile."""


@dataclass(frozen=True)
class Window:
    """The rounds after ``after``, up to ``last``."""

    after: int
    last: int

    @property
    def rounds(self) -> range:
        """The rounds in it."""
        return range(self.after + 1, self.last + 1)


class Unsteady(ValueError):
    """A run was not what is to be measured: the message says what happened."""


def counted_tokens(log: PeerLog, number: int) -> int:
    """The tokens of a peer's training of a round if its update is in the certificate, else 0: lost work is no use."""
    applied = log.applied.get(number)
    counted = applied is not None and log.member in applied.members
    return log.trained[number].tokens if counted else 0


def tokens_per_s(log: PeerLog, window: Window) -> float:
    """A peer's certified tokens a second."""
    tokens = sum(counted_tokens(log, number) for number in window.rounds)
    return tokens / (log.trained[window.last].ended - log.trained[window.after].ended)


def by_round(logs: Sequence[PeerLog], window: Window, alone: float) -> list[float]:
    """The utilisation in each round of a window: all peers' certified tokens a second over ``alone``."""
    single = (Window(number - 1, number) for number in window.rounds)
    return [sum(tokens_per_s(log, each) for log in logs) / alone for each in single]


def busy_share(log: PeerLog, window: Window) -> float:
    """The share of a window's time that a peer was in inner steps, however slow codec and network made them."""
    spent = sum(log.trained[number].seconds for number in window.rounds)
    return spent / (log.trained[window.last].ended - log.trained[window.after].ended)


def check_steady(logs: Sequence[PeerLog], rounds: int) -> None:
    """Raise Unsteady unless all peers took part in every round, without a restart, and agree on every state."""
    for log in logs:
        if len(log.sessions) != 1:
            raise Unsteady(f"{log.name} was started {len(log.sessions)} times")
        missing = {*range(1, rounds + 1)} - ({*log.trained} & {*log.applied})
        if missing:
            raise Unsteady(f"{log.name} has no account of the rounds {sorted(missing)}")
    for number in range(1, rounds + 1):
        if len({(log.applied[number].head, log.applied[number].state_root) for log in logs}) != 1:
            raise Unsteady(f"the peers do not agree on the state after round {number}")


def alone_per_s(answers: Sequence[Mapping[str, float]]) -> float:
    """Tokens a second of all reference processes together, which trained at the same time."""
    return sum(answer["tokens"] / answer["seconds"] for answer in answers)


def alone_per_cpu_s(answers: Sequence[Mapping[str, float]]) -> float:
    """What they would have reached if nobody else had used their cores: training waits for nothing but its core."""
    return sum(answer["tokens"] / answer["cpu_s"] for answer in answers)


def is_disturbed(foreign_share: float, alone: Sequence[float]) -> bool:
    """Whether something else went on beside a run, so that its figure says little."""
    return foreign_share > FOREIGN_MAX or max(alone) / min(alone) - 1 > DRIFT_MAX


def figures(
    logs: Sequence[PeerLog],
    window: Window,
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """What a run reached beside what the same number of processes did alone, just before and just after it.

    ``utilisation_at_least`` is over what they would have done on idle cores: other work beside a run lowers it.
    """
    alone = fmean((alone_per_s(before), alone_per_s(after)))
    undisturbed = max(alone_per_cpu_s(before), alone_per_cpu_s(after))
    tokens = sum(tokens_per_s(log, window) for log in logs)
    rounds = by_round(logs, window, alone)
    return {
        "utilisation": round(tokens / alone, 4),
        "utilisation_at_least": round(tokens / undisturbed, 4),
        "by_round": [round(item, 4) for item in rounds],
        "tokens_per_s": round(tokens, 1),
        "alone_per_s": [round(alone_per_s(before), 1), round(alone_per_s(after), 1)],
        "alone_per_cpu_s": round(undisturbed, 1),
        "busy_share": round(fmean(busy_share(log, window) for log in logs), 4),
        "round_s": round(
            fmean(log.trained[window.last].ended - log.trained[window.after].ended for log in logs)
            / len(window.rounds),
            3,
        ),
        "cpu_s_beside_model": round(fmean(beside_model_s(log, window) for log in logs), 3),
    }


def beside_model_s(log: PeerLog, window: Window) -> float:
    """CPU seconds that a peer spent on a round beside its model: codec, messages, checks, state, disk."""
    first, last = log.spent[window.after], log.spent[window.last]
    return ((last.total_s - first.total_s) - (last.model_s - first.model_s)) / len(window.rounds)


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and extremes of repeated runs, of those that were not disturbed if there are any."""
    taken = [run for run in runs if not run["disturbed"]] or runs
    values = [run["utilisation"] for run in taken]
    told = {"mean": round(fmean(values), 4), "min": min(values), "max": max(values)}
    return told | {"runs": len(taken), "disturbed": sum(run["disturbed"] for run in taken)}


def best(arms: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The arm that reached most, with its inner state; None if there is none.

    An arm whose runs were all disturbed counts with what it reached at least.
    """
    reached = [_reached(arm) for arm in arms]
    return max(reached, key=lambda each: float(each["utilisation"]), default=None)


def _reached(arm: Mapping[str, Any]) -> dict[str, Any]:
    told = arm["utilisation"]
    least = max(float(run["utilisation_at_least"]) for run in arm["runs"])
    value = least if told["disturbed"] else told["mean"]
    return {
        "arm": arm["arm"],
        "utilisation": value,
        "disturbed": bool(told["disturbed"]),
        "inner_state": arm["inner_state"],
    }


def link_mbit(payload_bytes: int, compute_s: float, share: float) -> float:
    """The rate at which rounds that compute for ``compute_s`` and then move ``payload_bytes`` each way compute for
    ``share`` of the time, in Mbit/s with two digits, rounded down.
    """
    exact = payload_bytes * BITS / MBIT / (compute_s * (1 / share - 1))
    unit = 10.0 ** (floor(log10(exact)) - 1)
    return floor(exact / unit) * unit

"""What a peer writes into its event log about its own work, for whoever tells the run's story later.

None of it is for the engine. Times are of this machine's clock, and only compared with others of it.
"""

import time

import msgspec

from distrai.network.counters import PURPOSES, Counters
from distrai.peer.log import EventLog
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId

RUNNING, TRAINED, TRAFFIC, EVALUATED, SPENT = "running", "trained", "traffic", "evaluated", "spent"
"""Kinds of log entries."""

Traffic = dict[str, dict[str, int]]
"""Bytes at the socket by direction (up, down) and purpose."""


class Running(msgspec.Struct, frozen=True):
    """A process of this home began to take part."""

    member: str


class Trained(msgspec.Struct, frozen=True):
    """Inner training of a round: mean loss in nats per token, seconds in inner steps, when the first began and the last
    ended.
    """

    loss: float
    steps: int
    tokens: int
    seconds: float
    began: float
    ended: float


class Evaluated(msgspec.Struct, frozen=True, omit_defaults=True):
    """Held-out loss of the common state after the entry's round."""

    loss: float
    bits_per_byte: float
    samples: int
    accuracy: float | None = None
    """Of pairs: the share in which the model has come to prefer the chosen answer."""


class Spent(msgspec.Struct, frozen=True):
    """CPU seconds of this process until now, and those of them that went into the model: training and looking at it."""

    total_s: float
    model_s: float


class Journal:
    """The peer's own account. ``counters`` are those of this process; what earlier ones counted is added."""

    def __init__(self, log: EventLog, counters: Counters) -> None:
        self._log, self._counters = log, counters
        entry = log.last(TRAFFIC)
        self._before: Traffic = {} if entry is None else msgspec.json.decode(entry.data, type=Traffic)

    def running(self, member: MemberId) -> None:
        """Log that this process begins."""
        self._write(RUNNING, 0, ZERO_HASH, Running(member.hex()))

    def trained(self, round_number: int, head: Hash, trained: Trained) -> None:
        """Log the inner training of a round, which starts from ``head``."""
        self._write(TRAINED, round_number, head, trained)

    def evaluated(self, round_number: int, head: Hash, seen: Evaluated) -> None:
        """Log a held-out loss of the state at ``head``."""
        self._write(EVALUATED, round_number, head, seen)

    def traffic(self, round_number: int, head: Hash) -> Traffic:
        """Log and return the bytes of all processes of this home (but what one that was killed had not logged yet)."""
        total = self.total()
        self._write(TRAFFIC, round_number, head, total)
        return total

    def spent(self, round_number: int, head: Hash, model_s: float) -> None:
        """Log the CPU seconds of this process, of which ``model_s`` went into the model."""
        self._write(SPENT, round_number, head, Spent(time.process_time(), model_s))

    def total(self) -> Traffic:
        """The bytes until now."""
        now = self._counters.snapshot()
        return {
            direction: {
                purpose: now[direction][purpose] + self._before.get(direction, {}).get(purpose, 0)
                for purpose in PURPOSES
            }
            for direction in ("up", "down")
        }

    def _write(self, kind: str, round_number: int, head: Hash, facts: object) -> None:
        self._log.append(kind, round_number, head, msgspec.json.encode(facts))

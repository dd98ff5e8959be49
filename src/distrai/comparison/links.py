"""How long a run would have taken over given links: simulated from who waits for whom.

A peer's update is done when its inner steps are; a certificate follows once all that it lists have been brought to
everybody: each peer sends its payload once (others pass it on, as a swarm does) and receives those of the others, while
the announcement, the list, the attestations and the ledger's word each take a latency. With overlap, tau inner steps of
the next round run meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distrai.comparison.cells import Cell
from distrai.comparison.sections import LinkSection
from distrai.comparison.timetable import Round

MESSAGES = 4
"""Latencies from an update to its certificate: announced, listed, attested, landed."""
ALL_REDUCE_MESSAGES = 2
"""Latencies of an average of gradients: there and back."""


@dataclass(frozen=True)
class Wall:
    """Simulated seconds of a run."""

    total_s: float
    compute_s: float
    """What the slowest peer computes."""

    @property
    def utilisation(self) -> float:
        """Share of the time in which the slowest peer computes."""
        return self.compute_s / self.total_s if self.total_s else 1.0


def transfer_s(link: LinkSection, sent: int, received: int, messages: int) -> float:
    """Seconds to send and, meanwhile, to receive so many bytes."""
    up, down = sent * 8e-6 / link.up_mbit, received * 8e-6 / link.down_mbit
    return max(up, down) + messages * link.latency_ms / 1000


def wall_of(
    cell: Cell, rounds: Sequence[Round], sizes: Sequence[int], link: LinkSection, step_s: float
) -> Wall:
    """The wall time of a cell by its timetable; ``sizes``: payload bytes of an update, by fragment.

    ``step_s`` is what a step took here, unless the link says another time.
    """
    step = link.step_s or step_s
    if cell.arm.averages_gradients:
        compute = cell.steps * step
        return Wall(compute + cell.steps * transfer_s(link, sizes[0], sizes[0], ALL_REDUCE_MESSAGES), compute)
    paired = not cell.arm.spec.global_state
    speeds, tau = cell.arm.speeds, cell.arm.spec.overlap
    certified = [0.0]
    done: dict[int, tuple[int, float]] = {}
    """The round and the time in which each peer last finished an update."""
    computed = [0.0] * len(speeds)
    for number, round_ in enumerate(rounds, start=1):
        for job in round_.begun:
            each = step * speeds[job.peer]
            last, at = done.get(job.peer, (-1, 0.0))
            ahead = tau if last == job.base else 0
            start = max(at + ahead * each, certified[job.base]) if ahead else certified[job.base]
            done[job.peer] = (number, start + (job.steps - ahead) * each)
            computed[job.peer] += job.steps * each
        size = sizes[(number - 1) % len(sizes)]
        others = len(round_.listed) - (
            len(round_.listed) == len(speeds)
        )  # all but its own, if it has one in it
        received = size * (1 if paired else others)
        moved = transfer_s(link, size, received, MESSAGES) if round_.listed else 0.0
        ready = max((done[job.peer][1] for job in round_.listed), default=0.0)
        certified.append(max(certified[-1], ready + moved))
    return Wall(certified[-1], max(computed))

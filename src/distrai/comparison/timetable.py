"""Who trains when, and which certificate lists what: known before anything is trained.

Time is virtual: a peer needs ``steps * speed`` for its inner steps, and everything else takes none. The rules are those
of the rounds of the network: everybody who is there begins at the newest head; a round closes once ``quorum`` updates
are held (everybody's if it is 0) and lists all that are held; an update may be listed in ``staleness`` rounds after the
one it was made for, and whoever's update was listed, or is too old, begins again at the newest head. So a synchronous
run is the case in which everybody is waited for, and nothing here depends on losses or on the clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distrai.comparison.plan import Arm
from distrai.comparison.sections import AbsenceSection


@dataclass(frozen=True)
class Job:
    """One update of one peer."""

    peer: int
    base: int
    """The round whose state it starts from (0: the initial one)."""
    steps: int
    first_step: int
    """Steps that the peer has taken before, in all its jobs: they say which samples are next."""


@dataclass(frozen=True)
class Round:
    """One certificate."""

    begun: tuple[Job, ...]
    """What is begun at the head before it."""
    listed: tuple[Job, ...]
    """What it lists, in the order of the peers."""
    dropped: tuple[Job, ...] = ()
    """What became too old with it."""

    @property
    def steps(self) -> int:
        """Inner steps that count."""
        return sum(job.steps for job in self.listed)


def job_steps(arm: Arm, inner_steps: int) -> tuple[int, ...]:
    """Steps that each peer takes in a round: H, or by its speed as much as the fastest one leaves time for."""
    if arm.spec.pace == "fixed":
        return (inner_steps,) * len(arm.speeds)
    fastest = min(arm.speeds)
    least = max(1, arm.spec.overlap)
    return tuple(max(least, math.floor(inner_steps * fastest / own)) for own in arm.speeds)


def timetable(arm: Arm, inner_steps: int, total_steps: int) -> list[Round]:
    """The rounds of a run of H ``inner_steps``, until ``total_steps`` of all peers together have counted."""
    desk = _Desk(arm, job_steps(arm, inner_steps))
    rounds: list[Round] = []
    done = 0
    while done < total_steps:
        rounds.append(desk.next_round())
        done += rounds[-1].steps
    return rounds


def is_there(absent: Sequence[AbsenceSection], peer: int, number: int) -> bool:
    """Whether a peer takes part in round ``number`` (from 1)."""
    return all(
        number >= item.start and (number - item.start) % item.every == 0
        for item in absent
        if item.peer == peer
    )


class _Desk:
    """The state of things at a head."""

    def __init__(self, arm: Arm, steps: Sequence[int]) -> None:
        self.arm, self.steps = arm, steps
        self.head, self.now = 0, 0.0
        self.taken = [0] * len(steps)
        self.due: dict[int, tuple[float, Job]] = {}
        """What has been begun and not been listed, by peer: when it is done, and the job."""

    def next_round(self) -> Round:
        """Go on until the next certificate."""
        begun = [self._begin(peer) for peer in range(len(self.steps)) if self._is_free(peer)]
        self.head += 1
        if not self.due:
            return Round((), ())  # nobody is there: an empty round
        wanted = len(self.due) if self.arm.spec.quorum == 0 else min(self.arm.spec.quorum, len(self.due))
        self.now = max(self.now, sorted(end for end, _ in self.due.values())[wanted - 1])
        listed = [job for end, job in self.due.values() if end <= self.now]
        # The next head lists nothing older than S rounds after the one that it was made for.
        dropped = [
            job
            for _, job in self.due.values()
            if job not in listed and job.base + self.arm.spec.staleness < self.head
        ]
        for job in (*listed, *dropped):
            del self.due[job.peer]
        return Round(tuple(begun), _ordered(listed), _ordered(dropped))

    def _is_free(self, peer: int) -> bool:
        return peer not in self.due and is_there(self.arm.absent, peer, self.head + 1)

    def _begin(self, peer: int) -> Job:
        job = Job(peer, self.head, self.steps[peer], self.taken[peer])
        self.taken[peer] += job.steps
        self.due[peer] = (self.now + job.steps * self.arm.speeds[peer], job)
        return job


def _ordered(jobs: Sequence[Job]) -> tuple[Job, ...]:
    return tuple(sorted(jobs, key=lambda job: job.peer))

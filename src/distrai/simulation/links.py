"""Packets between peers: delayed, lost, repeated, overtaken; and who can reach whom."""

from collections.abc import Callable
from random import Random

from distrai.protocol.primitives import MemberId
from distrai.simulation.clock import Clock
from distrai.simulation.scenario import Scenario


class LinkModel:
    """All links between the members of a run."""

    def __init__(self, clock: Clock, random: Random, scenario: Scenario) -> None:
        self.clock, self.random, self.links = clock, random, scenario.links
        self.slow: dict[MemberId, float] = {}
        self.faulty = True
        self._cut_off: set[MemberId] = set()
        self._one_way = False

    def split(self, members: set[MemberId], one_way: bool) -> None:
        """Cut ``members`` off from the others; ``one_way``: they still hear them."""
        self._cut_off, self._one_way = members, one_way

    @property
    def is_split(self) -> bool:
        """Whether somebody is cut off."""
        return bool(self._cut_off)

    def reaches(self, source: MemberId, target: MemberId) -> bool:
        """Whether packets get from one to the other now."""
        if not self._cut_off:
            return True
        flap_s = self.links.flap_s
        if flap_s and int(self.clock.now / flap_s) % 2:
            return True
        inside, outside = source in self._cut_off, target in self._cut_off
        return inside == outside or (self._one_way and outside)

    def delay_s(self, source: MemberId, target: MemberId) -> float:
        """How long the next packet takes."""
        slow = max(self.slow.get(source, 1.0), self.slow.get(target, 1.0))
        return self.random.uniform(*self.links.delay_s) * slow

    def carry(self, source: MemberId, target: MemberId, deliver: Callable[[], None]) -> None:
        """Call ``deliver`` when the packet arrives: later, never, or twice."""
        copies = 1
        if self.faulty:
            if not self.reaches(source, target) or self.random.random() < self.links.lost:
                return
            copies += self.random.random() < self.links.repeated
        for _ in range(copies):
            self.clock.after(self.delay_s(source, target), deliver)

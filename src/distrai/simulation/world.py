"""What all simulated peers share: time, chance, links, ledger, and the watch that is kept over them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from distrai.peer.round import Rules
from distrai.protocol.messages import Signed, open_envelope
from distrai.protocol.primitives import MemberId
from distrai.protocol.standing import RunRules
from distrai.simulation.clock import Clock
from distrai.simulation.ledger import LedgerModel
from distrai.simulation.links import LinkModel
from distrai.simulation.report import Report
from distrai.simulation.scenario import Scenario
from distrai.simulation.toy import BLOCK_SAMPLES, DOMAIN, WORK, recover

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer
    from distrai.simulation.watch import Watch

ROUNDS_MAX = 1 << 40
"""Simulated runs end by themselves."""
MEMORY = 4096
"""Decoded messages that are kept: everybody sees the same bytes."""


@dataclass
class World:
    """One simulated run."""

    scenario: Scenario
    random: Random
    clock: Clock
    links: LinkModel
    ledger: LedgerModel
    report: Report
    rules: Rules
    peers: dict[MemberId, "SimulatedPeer"] = field(default_factory=dict)
    faulty: bool = True
    healed_at: float = 0.0
    rounds_at_healing: int = 0
    failures_at_healing: int = 0
    """How many roll calls of the round that was on then had failed."""
    _opened: dict[bytes, Signed] = field(default_factory=dict)
    watch: "Watch" = field(init=False)
    begin_again: Callable[["SimulatedPeer"], None] = field(init=False)
    """What a peer does that cannot go on from what it has."""

    def opened(self, raw: bytes) -> Signed:
        """What an envelope says; for honest senders only."""
        if raw not in self._opened:
            if len(self._opened) >= MEMORY:
                self._opened.clear()
            self._opened[raw] = open_envelope(raw, DOMAIN, recover)
        return self._opened[raw]

    def is_liar(self, member: MemberId) -> bool:
        """Whether a member does something else than its engine says."""
        peer = self.peers.get(member)
        return peer is not None and not peer.is_honest

    def chance(self, probability: float) -> bool:
        """Whether a fault of this probability happens now."""
        return self.faulty and probability > 0 and self.random.random() < probability


def make_world(scenario: Scenario, seed: int) -> World:
    """An empty world."""
    random, clock = Random(seed), Clock()  # noqa: S311 - reproducible on purpose
    limits = scenario.limits
    rules = Rules(
        RunRules(
            limits.min_seats,
            BLOCK_SAMPLES,
            limits.max_seats,
            staleness=scenario.staleness,
            lag=1 if scenario.staleness or scenario.overlap else 0,
        ),
        replace(WORK, sealed_bytes=WORK.sealed_bytes * scenario.fragments, overlap=scenario.overlap),
        scenario.timing,
        scenario.min_updates,
        ROUNDS_MAX,
        float(limits.stall_seconds),
        quorum=scenario.quorum,
    )
    return World(
        scenario=scenario,
        random=random,
        clock=clock,
        links=LinkModel(clock, random, scenario),
        ledger=LedgerModel(clock, random, scenario.ledger, limits),
        report=Report(scenario.name, seed),
        rules=rules,
    )

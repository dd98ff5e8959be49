"""A simulated peer: the real engine, which may die at any moment, and a disk, which does not."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from distrai.peer.engine import Engine
from distrai.peer.events import (
    BlobStored,
    Effect,
    Event,
    GossipDue,
    LedgerChanged,
    MessageReceived,
    StateApplied,
    Tick,
)
from distrai.peer.identity import Identity
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.messages import SALT_SIZE
from distrai.protocol.primitives import Hash, MemberId
from distrai.simulation.disk import Disk
from distrai.simulation.effects import do
from distrai.simulation.ledger import GENESIS_HEAD, GENESIS_STATE, RUN
from distrai.simulation.world import World

Twist = Callable[["SimulatedPeer", Effect], Iterable[Effect]]
"""What a liar makes of each effect of an honest engine."""

POLL_S = 0.5
GOSSIP_S = 0.5
GOSSIP_PEERS = 2


class SimulatedPeer:
    """One member. ``twist`` makes it a liar; ``memory`` is what its twist remembers."""

    def __init__(self, world: World, identity: Identity, twist: Twist | None = None, name: str = "") -> None:
        self.world, self.identity, self.twist, self.name = world, identity, twist, name
        self.random = Random(world.random.getrandbits(64))  # noqa: S311 - reproducible on purpose
        self.disk = Disk()
        self.engine: Engine | None = None
        self.life = 0
        self.clock_offset = 0.0
        self.slow = 1.0
        self.applied_at = 0.0
        self.is_frail = False
        self.silent_through = 0
        self.training: Hash | None = None
        self.memory: dict[str, Any] = {}
        self._woken = 0
        self._position = self.disk.position

    @property
    def is_honest(self) -> bool:
        """Whether it does what its engine says."""
        return self.twist is None

    @property
    def member(self) -> MemberId:
        """The member id."""
        return self.identity.member

    @property
    def now(self) -> float:
        """This peer's own monotonic clock: it starts anywhere, and again anywhere after a crash."""
        return self.world.clock.now + self.clock_offset

    # Life and death

    def start(self) -> None:
        """Begin, or go on from disk."""
        self.life += 1
        self.clock_offset = self.random.uniform(1, 1e5) - self.world.clock.now
        disk = self.disk
        genesis = (RUN, GENESIS_HEAD, GENESIS_STATE)
        self.engine = Engine(self.identity, self.world.rules, disk.checkpoint, genesis)
        self._position = disk.position
        records, held = disk.own_records(), list(disk.blobs)
        self.carry_out(self.engine.resume(records, held, self.now, self.silent_through))
        standing = disk.checkpoint.standing
        if standing is not None:
            self.later(self.random.uniform(0, POLL_S), lambda: self.tell(StateApplied(standing.head)))
        self.later(self.random.uniform(0, POLL_S), self._poll)
        self.later(self.random.uniform(0, GOSSIP_S), self._gossip)

    def crash(self) -> None:
        """Die now, and come back later."""
        if self.engine is None:
            return
        self.engine, self.training = None, None
        self.life += 1
        self.world.report.crashes += 1
        if self.is_frail and self.world.chance(self.world.scenario.crashes.log_lost):
            self.disk.lose_log()
            self.silent_through = self.world.ledger.round + 1  # it may have spoken in the round that is on
        self.later(self.random.uniform(*self.world.scenario.crashes.down_s), self.start)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless this life (or death) is over by then."""
        life = self.life
        self.world.clock.after(delay_s, lambda: action() if self.life == life else None)

    def tell(self, event: Event) -> None:
        """Give the engine an event, and carry out what it says."""
        if self.engine is None:
            return
        self.world.report.events += 1
        try:
            effects = self.engine.handle(event, self.now)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            if self.is_honest:
                self.world.watch.raised(self, error)
            self.engine = None
            return
        if self.is_honest:
            self.world.watch.handled(self, effects)
        self.carry_out(effects)

    def carry_out(self, effects: list[Effect]) -> None:
        """Carry out effects in order; a crash in between loses the rest."""
        for effect in effects:
            if self.is_honest and self.world.chance(self.world.scenario.crashes.per_effect):
                self.crash()
                return
            for twisted in self.twist(self, effect) if self.twist else (effect,):
                do(self, twisted)

    # What others bring and ask for

    def hear(self, raws: tuple[bytes, ...], data: bytes | None) -> None:
        """A packet arrived, perhaps with a blob."""
        if self.engine is None:
            return
        if data is not None:
            blob = blob_ref(data)
            self.disk.blobs[blob.hash] = data
            self.tell(BlobStored(blob.hash))
        for raw in raws:
            self.tell(MessageReceived(raw))

    def serve(self, blob: BlobRef, to: MemberId) -> bytes | None:
        """Another peer asks for a blob; None: it gets no answer."""
        world = self.world
        both_ways = world.links.reaches(self.member, to) and world.links.reaches(to, self.member)
        withheld = self.memory.get("withheld") == blob.hash
        if self.engine is None or not both_ways or withheld or world.chance(world.scenario.blob_failures):
            return None
        return self.disk.blobs.get(blob.hash)

    # Timers

    def wake_at(self, at: float) -> None:
        """Tick at this time of the own clock, instead of the one before."""
        self._woken += 1
        asked = self._woken
        self.later(at - self.now, lambda: self.tell(Tick()) if self._woken == asked else None)

    def _poll(self) -> None:
        self.look_at_ledger()
        self.later(self.random.uniform(0.5, 1.5) * POLL_S, self._poll)

    def look_at_ledger(self) -> None:
        """Learn what the ledger has new."""
        events = self.world.ledger.events_after(self._position)
        if events:
            self._position = events[-1].at
            self.tell(LedgerChanged(events))

    def _gossip(self) -> None:
        others = [member for member in self.world.peers if member != self.member]
        chosen = self.random.sample(others, min(GOSSIP_PEERS, len(others)))
        self.tell(GossipDue(tuple(chosen), self.random.randbytes(SALT_SIZE)))
        self.later(self.random.uniform(0.8, 1.2) * GOSSIP_S, self._gossip)

"""A simulated peer: the real engine, which may die at any moment, and a disk, which does not."""

from collections.abc import Callable, Iterable
from math import inf
from random import Random
from typing import Any

from distrai.peer.engine import Engine
from distrai.peer.events import (
    BlobStored,
    Effect,
    Event,
    GossipDue,
    MessageReceived,
    StateApplied,
    Tick,
)
from distrai.peer.gossip import choose_listeners
from distrai.peer.identity import ROUNDING_S, Identity
from distrai.protocol.assignment import Block
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.errors import ReorgTooDeep
from distrai.protocol.messages import SALT_SIZE
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.standing import Standing
from distrai.simulation.compute import head_of
from distrai.simulation.disk import Disk
from distrai.simulation.effects import do
from distrai.simulation.eye import Eye
from distrai.simulation.toy import GENESIS, RUN
from distrai.simulation.world import World

Twist = Callable[["SimulatedPeer", Effect], Iterable[Effect]]
"""What a liar makes of each effect of an honest engine."""

POLL_S = 0.5
GOSSIP_S = 0.5


class SimulatedPeer:
    """One member. ``twist`` makes it a liar; ``memory`` is what its twist remembers."""

    def __init__(self, world: World, identity: Identity, twist: Twist | None = None, name: str = "") -> None:
        self.world, self.identity, self.twist, self.name = world, identity, twist, name
        self.random = Random(world.random.getrandbits(64))  # noqa: S311 - reproducible on purpose
        self.eye = Eye(world)
        self.disk = Disk()
        self.engine: Engine | None = None
        self.life = 0
        """How often it was started or died; 0 as long as there is no process of this member."""
        self.clock_offset = 0.0
        self.slow = 1.0
        self.computing_until = 0.0
        self.state: tuple[Hash, Hash] = (GENESIS.head, GENESIS.state_root)
        """The head that the state in memory follows, and its root."""
        self.is_frail = False
        self.is_gone = False
        """It is dead for good."""
        self.is_entering = False
        """It waits for a snapshot."""
        self.is_leaving = False
        self.is_away = False
        """It left, and may come back."""
        self.keys = 0
        """How often it changed its key."""
        self.silent_through = 0
        self.training: Hash | None = None
        self.ahead: tuple[Hash, Block] | None = None
        """For which head and block the first steps of the next round are taken already."""
        self.memory: dict[str, Any] = {}
        self._wake_at = self._timer_at = inf

    @property
    def is_honest(self) -> bool:
        """Whether it does what its engine says."""
        return self.twist is None

    @property
    def member(self) -> MemberId:
        """The member id."""
        return self.identity.member

    @property
    def seat_key(self) -> Address:
        """The own key that the seat has, or the newest."""
        standing = None if self.engine is None else self.engine.standing
        known = None if standing is None else standing.seat_key(self.member)
        return self.identity.signs_with(known)[0]

    @property
    def now(self) -> float:
        """This peer's own monotonic clock: it starts anywhere, and again anywhere after a crash."""
        return self.world.clock.now + self.clock_offset

    def broke(self, rule: str) -> None:
        """Report what an honest peer should not do."""
        if self.is_honest:
            self.world.watch.broke(self, rule)

    # Life and death

    def start(self) -> None:
        """Begin, or go on from disk."""
        if self.is_gone or self.engine is not None:
            return
        self.life += 1
        self.clock_offset = self.random.uniform(1, 1e5) - self.world.clock.now
        self.computing_until = 0.0
        self._wake_at = self._timer_at = inf
        checkpoint = self.disk.kept[-1]
        self.load(checkpoint.standing)
        genesis = (RUN, GENESIS.head, GENESIS.state_root)
        self.engine = Engine(self.identity, self.world.rules, self.disk.kept, genesis)
        self.eye.follow_from(checkpoint.at)
        records, held = self.disk.own_records(), list(self.disk.blobs)
        self.carry_out(self.engine.resume(records, held, self.now, self.silent_through))
        if checkpoint.standing is not None:
            applied = StateApplied(checkpoint.standing.head)
            self.later(self.random.uniform(0, POLL_S), lambda: self.tell(applied))
        self.later(self.random.uniform(0, POLL_S), self._poll)
        self.later(self.random.uniform(0, GOSSIP_S), self._gossip)

    def load(self, standing: Standing | None) -> None:
        """Take the state after a head from disk."""
        head = head_of(standing)
        root = GENESIS.state_root if head == GENESIS.head else self.disk.states[head]
        self.state = (head, root)
        self.training = self.ahead = None

    def crash(self) -> None:
        """Die now, and come back later."""
        if self.engine is None:
            return
        self.stop()
        self.world.report.crashes += 1
        if self.is_frail and self.world.chance(self.world.scenario.crashes.log_lost):
            self.disk.lose_log()
            rounds = self.eye.node.blocks[-1].contract.round
            # It may have spoken in the round that is on, also where blocks that made further ones are hidden just now.
            self.silent_through = rounds + 1 + self.world.scenario.ledger.depth
        self.later(self.random.uniform(*self.world.scenario.crashes.down_s), self.start)

    def stop(self) -> None:
        """Stop now, until somebody starts it again."""
        self.engine, self.training, self.ahead = None, None, None
        self.life += 1

    def die(self) -> None:
        """Stop for good."""
        self.is_gone = True
        self.stop()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless this life (or death) is over by then."""
        life = self.life
        self.world.clock.after(delay_s, lambda: action() if self.life == life else None)

    def finish(self, work: Callable[[], Event | None]) -> None:
        """Do some computing, and tell the engine what came out."""
        event = work()
        if event is not None:
            self.tell(event)

    def tell(self, event: Event) -> None:
        """Give the engine an event, and carry out what it says."""
        if self.engine is None:
            return
        self.world.report.events += 1
        try:
            effects = self.engine.handle(event, self.now)
        except ReorgTooDeep:
            self.stop()
            self.world.report.too_deep += 1
            self.world.begin_again(self)
            return
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
        if self.twist is not None:
            for effect in effects:
                for twisted in self.twist(self, effect):
                    do(self, twisted)
            return
        chance, probability = self.world.chance, self.world.scenario.crashes.per_effect
        for effect in effects:
            if chance(probability):
                self.crash()
                return
            do(self, effect)

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
        """Tick at this time of the own clock, instead of the one before.

        Most are asked for again before they come: a timer that is set and not too late is left alone.
        """
        self._wake_at = at
        if at < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        at = self._timer_at = self._wake_at
        delay_s = max(at - self.now, ROUNDING_S)  # less would be lost in the sum: time would stand still
        self.later(delay_s, lambda: self._time_came() if self._timer_at == at else None)

    def _time_came(self) -> None:
        self._timer_at = inf
        if self._wake_at > self.now + ROUNDING_S:
            self._set_timer()
        else:
            self.tell(Tick())

    def _poll(self) -> None:
        self.look_at_ledger()
        self.later(self.random.uniform(0.5, 1.5) * POLL_S, self._poll)

    def look_at_ledger(self) -> None:
        """Learn what the ledger has new."""
        for event in self.eye.look(self.random):
            self.tell(event)

    def _gossip(self) -> None:
        round_ = None if self.engine is None else self.engine.round
        others = () if round_ is None else round_.everyone
        seats = [] if round_ is None else [one for one in others if one in round_.standing.seat_members]
        listeners = choose_listeners(seats, others, self.random)
        self.tell(GossipDue(listeners, self.random.randbytes(SALT_SIZE)))
        self.later(self.random.uniform(0.8, 1.2) * GOSSIP_S, self._gossip)

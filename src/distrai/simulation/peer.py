"""A simulated peer: the real engine, and effects carried out in virtual time."""

from collections.abc import Callable, Iterable
from random import Random

from distrai.peer.engine import Engine
from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    Effect,
    Evaluate,
    Event,
    Fetch,
    FetchList,
    GossipDue,
    LedgerChanged,
    ListArrived,
    LookAtLedger,
    MessageReceived,
    Note,
    OfferList,
    Open,
    Persist,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Submit,
    Tick,
    Train,
    TrainingDone,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.identity import Identity
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.errors import ProtocolError
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import SALT_SIZE, ListOffer
from distrai.protocol.primitives import Hash, MemberId
from distrai.simulation.disk import Disk
from distrai.simulation.ledger import GENESIS_HEAD, GENESIS_STATE, RUN
from distrai.simulation.toy import (
    INNER_STEPS,
    WORK,
    open_payload,
    payload_of,
    seal_payload,
    state_root_of,
)
from distrai.simulation.world import World

Twist = Callable[["SimulatedPeer", Effect], Iterable[Effect]]
"""What a liar makes of each effect of an honest engine."""

WORK_S = (0.0, 0.05)
"""How long it takes to open an update, or to compute a state."""
POLL_S = 0.5
GOSSIP_S = 0.5
FETCH_S = (0.05, 0.5)
NO_ANSWER_S = 1.0


class SimulatedPeer:
    """One member: an engine that may die, and a disk that does not."""

    def __init__(self, world: World, identity: Identity, twist: Twist | None = None, name: str = "") -> None:
        self.world, self.identity, self.twist, self.name = world, identity, twist, name
        self.random = Random(world.random.getrandbits(64))  # noqa: S311 - reproducible on purpose
        self.disk = Disk()
        self.engine: Engine | None = None
        self.life = 0
        self.clock_offset = 0.0
        self.slow = 1.0
        self.work_done_at = 0.0
        self.training: Hash | None = None
        self.memory: dict[str, object] = {}
        self._woken = 0

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
        self.position = disk.position
        effects = self.engine.resume(disk.own_records(), list(disk.blobs), self.now)
        self.carry_out(effects)
        if disk.checkpoint.standing is not None:
            self.later(self.random.uniform(0, 0.3), lambda: self.applied(disk.checkpoint.standing))
        self.later(self.random.uniform(0, POLL_S), self._poll)
        self.later(self.random.uniform(0, GOSSIP_S), self._gossip)

    def crash(self) -> None:
        """Die now, and come back later."""
        if self.engine is None:
            return
        self.engine, self.training = None, None
        self.life += 1
        self.world.report.crashes += 1
        down_s = self.random.uniform(*self.world.scenario.crashes.down_s)
        life = self.life
        self.world.clock.after(down_s, lambda: self.start() if self.life == life else None)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless this life is over by then."""
        life = self.life
        self.world.clock.after(delay_s, lambda: action() if self.life == life else None)

    def tell(self, event: Event) -> None:
        """Give the engine an event, and carry out what it says."""
        if self.engine is None:
            return
        self.world.report.events += 1
        try:
            effects = self.engine.handle(event, self.now)
        except (ProtocolError, AssertionError, KeyError, ValueError, TypeError) as error:
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
                self.do(twisted)
            if self.engine is None:
                return

    # Effects

    def do(self, effect: Effect) -> None:  # noqa: C901 - one plain dispatch
        """Carry out one effect."""
        match effect:
            case Persist():
                self.disk.records.append(effect)
            case Send():
                self._send(effect)
            case Fetch(blob, holders):
                self._fetch(blob, holders, lambda: self.tell(BlobStored(blob.hash)))
            case FetchList(blob, holder):
                self._fetch(blob, (holder,), lambda: self._list_fetched(blob))
            case OfferList():
                self._offer(effect)
            case Open():
                self._open(effect)
            case Evaluate():
                self._evaluate(effect)
            case Apply():
                self._apply(effect)
            case Train():
                self._train(effect)
            case StopTraining():
                self.training = None
            case Submit(body, signatures):
                if not self.world.chance(self.world.scenario.ledger.lost):
                    delay_s = self.random.uniform(0.05, 0.5)
                    self.world.clock.after(delay_s, lambda: self.world.ledger.submit((body, signatures)))
            case WakeAt(at):
                self._wake_at(at)
            case LookAtLedger():
                self.later(0.05, self._look_at_ledger)
            case Note() if self.is_honest:
                self.world.watch.noted(self, effect)
            case _:
                pass

    def _send(self, send: Send) -> None:
        self.world.watch.sent(self, send)
        data = self.disk.blobs.get(send.blob.hash) if send.blob and self.world.scenario.inline_blobs else None
        for target in send.to:
            peer = self.world.peers[target]
            self.world.links.carry(self.member, target, lambda peer=peer: peer.hear(send.raws, data))  # type: ignore[misc]

    def hear(self, raws: tuple[bytes, ...], data: bytes | None) -> None:
        """A packet arrived."""
        if self.engine is None:
            return
        if data is not None:
            self.store(data)
        for raw in raws:
            self.tell(MessageReceived(raw))

    def store(self, data: bytes) -> None:
        """Store a blob, then say so."""
        blob = blob_ref(data)
        self.disk.blobs[blob.hash] = data
        self.tell(BlobStored(blob.hash))

    def serves(self, blob: BlobRef, to: MemberId) -> bytes | None:
        """Another peer asks for a blob."""
        if self.engine is None or self.world.chance(self.world.scenario.blob_failures):
            return None
        both_ways = self.world.links.reaches(self.member, to) and self.world.links.reaches(to, self.member)
        if self.world.faulty and not both_ways:
            return None
        if self.memory.get("withheld") == blob.hash:
            return None
        return self.disk.blobs.get(blob.hash)

    def _fetch(self, blob: BlobRef, holders: tuple[MemberId, ...], then: Callable[[], None]) -> None:
        """Ask one holder after the other."""
        if blob.hash in self.disk.blobs:
            self.later(0.0, then)
            return
        if not holders:
            self.later(0.0, lambda: self.tell(BlobFailed(blob.hash)))
            return
        data = self.world.peers[holders[0]].serves(blob, self.member)
        if data is None:
            self.later(NO_ANSWER_S, lambda: self._fetch(blob, holders[1:], then))
            return

        def arrived() -> None:
            self.disk.blobs[blob.hash] = data
            then()

        self.later(self.random.uniform(*FETCH_S) * self.slow, arrived)

    def _list_fetched(self, blob: BlobRef) -> None:
        self.tell(ListArrived(decode_list(self.disk.blobs[blob.hash])))

    def _offer(self, offer: OfferList) -> None:
        certified = self.disk.lists.get(offer.updates_root)
        if certified is None or self.engine is None or self.engine.round is None:
            return
        data = certified.to_bytes()
        blob = blob_ref(data)
        self.disk.blobs[blob.hash] = data
        fields = {**self.engine.round.header(), "round": offer.round, "updates_root": offer.updates_root}
        message = ListOffer(**fields, blob_hash=blob.hash, blob_size=blob.size)
        self.do(Send((offer.to,), (self.identity.seal(message).raw,), blob))

    def _open(self, effect: Open) -> None:
        error = None
        try:
            open_payload(effect.update, self.disk.blobs[effect.update.blob_hash], effect.key)
        except ProtocolError as problem:
            error = f"{type(problem).__name__}: {problem}"
        self.later(self.random.uniform(*WORK_S), lambda: self.tell(UpdateOpened(effect.id, error)))

    def _evaluate(self, effect: Evaluate) -> None:
        before = effect.standing
        root = state_root_of(before.state_root, effect.certified, self.disk.blobs)
        computed = StateComputed(before.head, effect.certified.updates_root, root)
        self.later(self.random.uniform(*WORK_S), lambda: self.tell(computed))

    def _apply(self, effect: Apply) -> None:
        """Compute the state and make the head durable: it takes a while, one after the other."""
        started = self.work_done_at = max(self.work_done_at, self.world.clock.now) + self.random.uniform(*WORK_S)

        def done() -> None:
            before = effect.before.state_root
            root = state_root_of(before, effect.certified, self.disk.blobs)
            if self.is_honest:
                self.world.watch.applied(self, effect, root)
            self.disk.save_applied(effect, root)
            self.applied(effect.standing)

        self.later(started - self.world.clock.now, done)

    def applied(self, standing: object) -> None:
        """The state of this head is in memory."""
        self.tell(StateApplied(standing.head))  # type: ignore[attr-defined]

    def _train(self, effect: Train) -> None:
        head = effect.standing.head
        self.training = head

        def done() -> None:
            if self.training != head:
                return
            self.training = None
            key = self.random.randbytes(32)
            sealed = seal_payload(payload_of(self.member, effect.standing), key, effect.standing, self.member)
            self.disk.blobs[sealed.blob.hash] = sealed.data
            tokens = INNER_STEPS * WORK.tokens_per_step
            self.tell(TrainingDone(head, sealed.blob, key, INNER_STEPS, tokens))

        self.later(self.random.uniform(*self.world.scenario.train_s) * self.slow, done)

    # Timers

    def _wake_at(self, at: float) -> None:
        self._woken += 1
        asked = self._woken
        self.later(at - self.now, lambda: self.tell(Tick()) if self._woken == asked else None)

    def _poll(self) -> None:
        self._look_at_ledger()
        self.later(self.random.uniform(0.5, 1.5) * POLL_S, self._poll)

    def _look_at_ledger(self) -> None:
        events = self.world.ledger.events_after(self.position)
        if events:
            self.position = events[-1].at
            self.tell(LedgerChanged(events))

    def _gossip(self) -> None:
        others = [member for member in self.world.peers if member != self.member]
        chosen = self.random.sample(others, min(2, len(others)))
        self.tell(GossipDue(tuple(chosen), self.random.randbytes(SALT_SIZE)))
        self.later(self.random.uniform(0.8, 1.2) * GOSSIP_S, self._gossip)

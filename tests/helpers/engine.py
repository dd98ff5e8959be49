"""One engine at a table of members whose messages the test writes: no sockets, clocks or disks."""

import math
from dataclasses import dataclass, field, replace

import msgspec

from distrai.peer.engine import Checkpoint, Engine
from distrai.peer.events import (
    BlobStored,
    Effect,
    Event,
    LedgerChanged,
    ListArrived,
    MessageReceived,
    Note,
    Open,
    Persist,
    Send,
    Tick,
    TrainingDone,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.identity import Identity, Timing
from distrai.peer.round import Rules
from distrai.protocol.bases import Base
from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.cipher import binding, key_hash
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, Joined, Position, Started
from distrai.protocol.lists import CertifiedList, Entry, Trainer
from distrai.protocol.merkle import trainers_root
from distrai.protocol.messages import (
    BodySignature,
    Have,
    Key,
    Message,
    Proposal,
    Signed,
    Update,
    open_envelope,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.seating import drops, promotions
from distrai.protocol.standing import RunRules, Standing, following_cursor, start
from distrai.simulation.toy import (
    BLOCK_SAMPLES,
    DOMAIN,
    INNER_STEPS,
    WORK,
    Sealed,
    make_identity,
    recover,
    seal_payload,
)

RUN = 7
GENESIS_HEAD = keccak(b"genesis")
GENESIS_STATE = keccak(b"state 0")
NEXT_STATE = keccak(b"state 1")
TIMING = Timing(d0_s=3.0, cut_s=10.0, hard_s=20.0)
STARTED_AT = Position(1, 0, ZERO_HASH)
"""Where the ledger has the start."""
BEGAN = 1000.0
"""Local time at which the engine under test sees its head."""


@dataclass(frozen=True)
class Made:
    """An update with what it was made of."""

    signed: Signed
    sealed: Sealed

    @property
    def id(self) -> Hash:
        return self.signed.id

    @property
    def blob(self) -> Hash:
        return self.sealed.blob.hash


@dataclass
class Table:
    """``seats`` members in the order of their ids, and ``guests`` that train without a seat."""

    seats: int = 4
    guests: int = 0
    min_seats: int = 1
    min_updates: int = 1
    rounds: int = 100
    stall_s: float = math.inf
    staleness: int = 0
    quorum: int = 0
    everybody: list[Identity] = field(init=False)
    standing: Standing = field(init=False)

    def __post_init__(self) -> None:
        made = [make_identity(index) for index in range(self.seats + self.guests)]
        seated = sorted(made[: self.seats], key=lambda identity: identity.member)
        self.everybody = seated + made[self.seats :]
        trainers = tuple(sorted(Trainer(who.member, who.address) for who in made))
        seats = [Trainer(who.member, who.address) for who in seated]
        roster = {who.member: who.address for who in self.everybody}
        self.standing = replace(start(RUN, GENESIS_HEAD, GENESIS_STATE, seats, roster), trainers=trainers)

    @property
    def rules(self) -> Rules:
        run = RunRules(self.min_seats, BLOCK_SAMPLES, staleness=self.staleness, lag=int(self.staleness > 0))
        limits = (self.min_updates, self.rounds, self.stall_s)
        return Rules(run, WORK, TIMING, *limits, quorum=self.quorum)

    def header(self, who: int) -> dict:
        standing = self.standing
        previous = {"run": RUN, "round": standing.round + 1, "previous_head": standing.head}
        return {**previous, "member": self.everybody[who].member}

    def sign(self, who: int, message: Message) -> Signed:
        return self.everybody[who].seal(message)

    def again(self, who: int, signed: Signed, **changes) -> Signed:
        """The same message with other content."""
        return self.sign(who, msgspec.structs.replace(signed.message, **changes))

    def update(
        self, who: int, payload: bytes = b"work", base: Standing | Base | None = None, **changes
    ) -> Made:
        """``base`` is what it was trained from, by default the newest head."""
        base = self.standing if base is None else base
        member = self.everybody[who].member
        content = (payload + member)[:40].ljust(40, b".")
        sealed = seal_payload(content, keccak(b"key" + content), base, member)
        bound = binding(RUN, base.round + 1, base.head, member)
        fields = {
            **self.header(who),
            "round": base.round + 1,
            "previous_head": base.head,
            "version": 1,
            "base_round": base.round,
            "base_state_root": base.state_root,
            "fragment": 0,
            "tau": 0,
            "inner_steps": INNER_STEPS,
            "tokens": INNER_STEPS * WORK.tokens_per_step,
            "codec": WORK.codec,
            "blob_hash": sealed.blob.hash,
            "blob_size": sealed.blob.size,
            "key_hash": key_hash(sealed.key, bound),
            "trace_root": ZERO_HASH,
        }
        return Made(self.sign(who, Update(**{**fields, **changes})), sealed)

    def have(self, who: int, updates) -> Signed:
        return self.sign(who, Have(**self.header(who), updates=tuple(sorted(item.id for item in updates))))

    def key(self, who: int, made: Made, **changes) -> Signed:
        message = made.signed.message
        place = {"round": message.round, "previous_head": message.previous_head}
        content = {"update": made.id, "key": made.sealed.key}
        return self.sign(who, Key(**{**self.header(who), **place, **content, **changes}))

    def listed(self, updates) -> CertifiedList:
        ordered = sorted(updates, key=lambda made: made.signed.message.member)
        entries = tuple(Entry(made.signed.raw, made.sealed.key) for made in ordered)
        cursor = following_cursor(self.standing, self.rules.run)
        return CertifiedList(cursor, self.standing.next_trainers, entries)

    def body(self, updates, **changes) -> Body:
        listed, standing = self.listed(updates), self.standing
        trainers = [(trainer.member, trainer.key) for trainer in standing.next_trainers]
        body = Body(
            run=RUN,
            round=standing.round + 1,
            previous_head=standing.head,
            updates_root=listed.updates_root,
            state_root=NEXT_STATE if updates else standing.state_root,
            trainers_root=trainers_root(listed.cursor, trainers),
            promotions=promotions(standing, self.rules.run),
            drops=drops(standing, self.rules.run),
        )
        return msgspec.structs.replace(body, **changes)

    def proposal(self, who: int, attempt: int, updates, body: Body | None = None, **changes) -> Signed:
        ordered = sorted(updates, key=lambda made: made.signed.message.member)
        content = {
            "attempt": attempt,
            "body": encode_canonical(self.body(updates) if body is None else body),
            "updates": tuple(made.id for made in ordered),
            "haves": (),
            "keys": (),
        }
        return self.sign(who, Proposal(**{**self.header(who), **content, **changes}))

    def attest(self, who: int, body: Body) -> Signed:
        attestation = self.everybody[who].sign(DOMAIN.digest(body.id))
        return self.sign(who, BodySignature(**self.header(who), body_id=body.id, attestation=attestation))

    def certified(self, body: Body, block: int = 10) -> Certified:
        return Certified(Position(block, 0, keccak(b"%d" % block)), body, body.head)

    def opening(self) -> tuple:
        """The ledger's first events: all join, and the run starts."""
        joined = [
            Joined(Position(0, index, ZERO_HASH), who.member, who.address, True)
            for index, who in enumerate(self.everybody)
        ]
        seats = tuple(sorted(Trainer(who.member, who.address) for who in self.everybody))
        return (*joined, Started(STARTED_AT, self.standing.head, seats))

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.standing, self.roster, STARTED_AT)

    @property
    def roster(self) -> dict[MemberId, Address]:
        return {who.member: who.address for who in self.everybody}

    def engine(
        self, checkpoint: Checkpoint | None = None, who: int = 0, identity: Identity | None = None
    ) -> Engine:
        """An engine that goes on from ``checkpoint``, by default the first head; before it was only the beginning."""
        genesis = (RUN, GENESIS_HEAD, GENESIS_STATE)
        last = checkpoint or self.checkpoint
        kept = [last] if last == Checkpoint() else [Checkpoint(), last]
        return Engine(identity or self.everybody[who], self.rules, kept, genesis)

    def proposer_at(self, attempt: int) -> int:
        return (self.standing.round + 1 + attempt) % self.seats


class Driven:
    """An engine, everything that it said so far, and its local time."""

    def __init__(
        self,
        table: Table,
        who: int = 0,
        checkpoint: Checkpoint | None = None,
        records=(),
        held=(),
        silent_through: int = 0,
        identity: Identity | None = None,
    ) -> None:
        """``checkpoint`` is by default the first head; ``records`` and ``held`` are what a life before left on disk.

        ``identity`` is that of ``who``, with other keys.
        """
        self.table, self.who = table, who
        self.now = BEGAN
        self.engine = table.engine(checkpoint, who, identity)
        self.all: list[Effect] = []
        self.last = self._carry_out(self.engine.resume(records, held, self.now, silent_through))

    def _carry_out(self, effects: list[Effect]) -> list[Effect]:
        self.all += effects
        self.last = effects
        return effects

    def tell(self, event: Event) -> list[Effect]:
        return self._carry_out(self.engine.handle(event, self.now))

    def hear(self, *messages: Signed) -> list[Effect]:
        """Receive messages; returns the effects of all of them."""
        effects = [effect for signed in messages for effect in self.tell(MessageReceived(signed.raw))]
        self.last = effects
        return effects

    def tick(self, at: float) -> list[Effect]:
        """Let the time come, in seconds since the head."""
        self.now = BEGAN + at
        return self.tell(Tick())

    def train(self, base: Standing | None = None) -> Made:
        """Finish the own training from ``base`` (by default the newest head); returns the own update."""
        base = base or self.table.standing
        made = self.table.update(self.who, base=base)
        done = TrainingDone(base.head, made.sealed.blob, made.sealed.key, INNER_STEPS, 32)
        self.tell(done)
        return made

    def get(self, *updates: Made) -> None:
        """Receive updates with their ciphertexts."""
        for made in updates:
            self.tell(BlobStored(made.blob))
            self.hear(made.signed)

    def land(self, updates=(), block: int = 10, **changes) -> Certified:
        """A certificate over these updates lands, with everything it needs; the table moves on with the engine."""
        event = self.table.certified(self.table.body(updates, **changes), block)
        for made in updates:
            self.tell(BlobStored(made.blob))
        self.tell(LedgerChanged((event,)))
        if self.engine.standing == self.table.standing:
            self.tell(ListArrived(self.table.listed(updates)))
        assert self.engine.standing.head == event.head
        self.table.standing = self.engine.standing
        return event

    def open_all(self, error: str | None = None) -> list[Effect]:
        """Answer every Open that was asked for so far."""
        asked = [effect.id for effect in self.all if isinstance(effect, Open)]
        return [effect for name in asked for effect in self.tell(UpdateOpened(name, error))]

    def said(self, kind: str, effects=None) -> list[Signed]:
        """The own messages of a kind that were sent, in order."""
        return [
            signed
            for effect in (self.all if effects is None else effects)
            if isinstance(effect, Send)
            for signed in map(self.opened, effect.raws)
            if signed.message.kind == kind and signed.message.member == self.table.everybody[self.who].member
        ]

    def opened(self, raw: bytes) -> Signed:
        return open_envelope(raw, DOMAIN, recover)

    def of(self, kind: type[Effect]) -> list:
        """All effects of a kind so far."""
        return [effect for effect in self.all if isinstance(effect, kind)]

    @property
    def refused(self) -> list[str]:
        """The rules that were broken so far, in order."""
        return [str(note.facts["rule"]) for note in self.of(Note) if note.what == "refused"]

    @property
    def wakes_at(self) -> float:
        """When the engine wants to be woken, in seconds since the head."""
        return self.of(WakeAt)[-1].at - BEGAN

    @property
    def persisted(self) -> list[Persist]:
        return self.of(Persist)


def everyone_spoke(peer: Driven, updates, keys=True) -> None:
    """All other seats send Haves that name ``updates``, and the authors their keys."""
    table = peer.table
    others = [who for who in range(table.seats) if who != peer.who]
    peer.hear(*(table.have(who, updates) for who in others))
    if keys:
        reveal(peer, updates)


def reveal(peer: Driven, updates) -> None:
    """The authors of ``updates`` send their keys."""
    table = peer.table
    members = [who.member for who in table.everybody]
    for made in updates:
        who = members.index(made.signed.message.member)
        if who != peer.who:
            peer.hear(table.key(who, made))

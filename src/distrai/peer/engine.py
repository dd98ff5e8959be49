"""The peer engine: a pure state machine, ``(state, event) -> (state, effects)``.

It follows the ledger from head to head, keeps the messages of the round in between, and says what is to be done. The
same code is driven by asyncio in ``runtime.py`` and by virtual time in ``simulation/``.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from distrai.peer.answers import choose_answer
from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    Effect,
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
    Persist,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Train,
    TrainingDone,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.identity import Identity
from distrai.peer.round import Round, Rules
from distrai.protocol.assignment import assigned_block
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.errors import (
    BadSignature,
    ForeignRun,
    MessageTooLarge,
    ProtocolError,
    UnknownUpdate,
    WrongHead,
)
from distrai.protocol.ledger_events import Certified, Joined, KeyChanged, LedgerEvent, Left, Started
from distrai.protocol.lists import CertifiedList, check_list, check_signatures
from distrai.protocol.messages import (
    SHORT_NAME_SIZE,
    BodySignature,
    Digest,
    Have,
    Key,
    ListOffer,
    ListRequest,
    Proposal,
    Signed,
    Update,
    open_envelope,
    short_name,
)
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.standing import Standing, advance, check_succession, following_cursor, start

EARLY_MESSAGES_MAX = 512
"""Messages of the next round that are kept until this peer sees its head."""
BLOBS_REMEMBERED = 8192
"""Blobs that the engine knows to be held; older ones belong to rounds that are long over."""
LIST_BYTES_PER_TRAINER = 1 << 10
"""Bytes of a list for each who trains in its round or the next: an envelope with its key has about 500."""
LISTS_KEPT = 16
"""Lists of the last rounds that are answered from memory."""


@dataclass(frozen=True)
class Checkpoint:
    """Where an engine can go on from: a head, and who takes part as of the ledger events taken so far."""

    standing: Standing | None = None
    roster: Mapping[MemberId, Address] = field(default_factory=dict)


@dataclass
class Landing:
    """A certificate that the ledger took and that is not applied yet: its list, or a ciphertext, is missing."""

    event: Certified
    certified: CertifiedList | None = None
    missing: set[Hash] = field(default_factory=set)
    asked_at: float = float("-inf")
    offered_at: dict[MemberId, float] = field(default_factory=dict)


class Engine:
    """One member's part in one run."""

    def __init__(
        self, identity: Identity, rules: Rules, checkpoint: Checkpoint, genesis: tuple[int, Hash, Hash]
    ) -> None:
        """``genesis`` is (run, genesis head, initial state root), which the start of the run builds on."""
        self.identity = identity
        self.rules = rules
        self.run, self.genesis_head, self.genesis_state = genesis
        self.standing = checkpoint.standing
        self.roster = dict(checkpoint.roster)
        self.round: Round | None = None
        self.pending: deque[LedgerEvent] = deque()
        self.landing: Landing | None = None
        self.lists: dict[Hash, CertifiedList] = {}
        self.held: dict[Hash, None] = {}
        self.records: dict[Hash, list[Persist]] = {}
        self.early: dict[Hash, tuple[MemberId, bytes]] = {}
        self.silent_through = 0
        self.effects: list[Effect] = []

    # Life

    def resume(
        self, records: Iterable[Persist], held: Iterable[Hash], now: float, silent_through: int = 0
    ) -> list[Effect]:
        """Go on after a restart: ``records`` are own ones of the newest heads, ``held`` the blobs that are kept.

        In rounds up to ``silent_through`` this peer says nothing: it no longer knows what it has said in them.
        """
        self.silent_through = silent_through
        for blob in held:
            self._hold(blob)
        for record in records:
            self.records.setdefault(record.head, []).append(record)
            if record.listed is not None:
                self._remember(record.listed)
        if self.standing is not None:
            self._begin_round(self.standing, now)
        return self._finish(now)

    def _restore(self, round_: Round, record: Persist, now: float) -> None:
        """Take back one own message; it is sent again by the next digests."""
        signed = open_envelope(record.raw, self.identity.domain, self.identity.recover)
        own = round_.own
        match signed.message:
            case Update():
                own.update, own.secret = signed, record.secret
            case Have():
                own.have = signed
            case Key():
                own.key = signed
            case Proposal(attempt=attempt):
                own.proposed.add(attempt)
            case BodySignature(body_id=body_id):
                assert record.body is not None and record.listed is not None
                own.bodies[body_id] = (record.body, record.listed)
        attempt = signed.message.attempt if isinstance(signed.message, Proposal) else 0
        round_.book.add(signed, now, attempt)
        others = round_.everyone
        blob = signed.message.blob if isinstance(signed.message, Update) else None
        self.effects.append(Send(others, (record.raw,), blob))

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at local time ``now`` (seconds, monotonic) and say what to do."""
        match event:
            case LedgerChanged(events):
                self.pending.extend(events)
            case MessageReceived(raw):
                self._receive(raw, now)
            case BlobStored(blob):
                self._hold(blob)
            case BlobFailed(blob):
                if self.round is not None:
                    self.round.fetching.discard(blob)
            case ListArrived(certified):
                self._list_arrived(certified)
            case UpdateOpened(update, error):
                self._opened(update, error)
            case StateComputed(head, updates_root, state_root):
                if self.round is not None and self.round.standing.head == head:
                    self.round.agreement.states[updates_root] = state_root
            case StateApplied(head):
                self._applied(head)
            case TrainingDone(head=head):
                self._trained(event, head, now)
            case GossipDue(peers, salt):
                self._gossip(peers, salt)
            case _:
                pass  # Tick: only time has passed
        return self._finish(now)

    def _finish(self, now: float) -> list[Effect]:
        """Follow the ledger as far as possible, do what is due in the round, and ask to be woken."""
        self._follow(now)
        if self.round is not None:
            self.effects += self.round.progress(now)
            self.effects.append(WakeAt(self.round.wake_at(now)))
        effects, self.effects = self.effects, []
        return effects

    # Following the ledger

    def _follow(self, now: float) -> None:
        while True:
            if self.landing is not None:
                if not self._land(self.landing, now):
                    return
                self.landing = None
            if not self.pending:
                return
            event = self.pending.popleft()
            match event:
                case Joined(member=member, key=key):
                    self.roster[member] = key
                case KeyChanged(member=member, key=key) if member in self.roster:
                    self.roster[member] = key
                case Left(member=member):
                    self.roster.pop(member, None)
                case Started(seats=seats):
                    standing = start(self.run, self.genesis_head, self.genesis_state, seats, self.roster)
                    if standing.head != event.head:
                        raise WrongHead("the ledger's first head does not follow from genesis and seats")
                    self._begin_round(standing, now)
                    self._train(standing)
                case Certified():
                    self.landing = Landing(event)
                case _:
                    pass

    def _land(self, landing: Landing, now: float) -> bool:
        """Step 9: apply exactly what landed. False as long as something of it is missing here."""
        assert self.standing is not None
        body = landing.event.body
        if landing.certified is None:
            landing.certified = self._find_list(body)
            if landing.certified is None:
                self._ask_for_list(landing, now)
                return False
        updates = landing.certified.updates
        landing.missing = {update.blob_hash for update in updates if update.blob_hash not in self.held}
        if landing.missing:
            self._fetch_landed(landing, updates, now)
            return False
        check_succession(self.standing, self.rules.run, body)
        listed = [update.member for update in updates]
        self._remember(landing.certified)
        before = self.standing
        after = advance(before, self.rules.run, body, listed, self.roster)
        if after.head != landing.event.head:
            raise WrongHead(f"the ledger's head of round {body.round} does not follow from its body")
        self.effects.append(StopTraining())
        own = self.identity.member in listed
        self.effects.append(
            Apply(before, after, body, landing.certified, own, dict(self.roster), landing.event.at)
        )
        self._begin_round(after, now)
        return True

    def _find_list(self, body: Body) -> CertifiedList | None:
        """The list that ``body`` commits to, if it is known: signed here, or offered by somebody."""
        assert self.standing is not None
        if body.is_empty:
            return CertifiedList(
                following_cursor(self.standing, self.rules.run), self.standing.next_trainers, ()
            )
        own = [] if self.round is None else [certified for _, certified in self.round.own.bodies.values()]
        known = (certified for certified in own if certified.updates_root == body.updates_root)
        return next(known, None) or self.lists.get(body.updates_root)

    def _ask_for_list(self, landing: Landing, now: float) -> None:
        if now < landing.asked_at + self.rules.timing.d0_s or self.round is None:
            return
        landing.asked_at = now
        request = ListRequest(**self.round.header(), updates_root=landing.event.body.updates_root)
        self.effects.append(Send(self.round.everyone, (self.identity.seal(request).raw,)))

    def _fetch_landed(self, landing: Landing, updates: tuple[Update, ...], now: float) -> None:
        """Get the ciphertexts of a certified list: whoever trains may hold them."""
        if now < landing.asked_at + self.rules.timing.d0_s or self.round is None:
            return
        landing.asked_at = now
        for update in updates:
            if update.blob_hash in landing.missing and update.blob_hash not in self.round.fetching:
                holders = tuple(m for m in (update.member, *self.round.everyone) if m != self.identity.member)
                self.round.fetching.add(update.blob_hash)
                self.effects.append(Fetch(update.blob, tuple(dict.fromkeys(holders))))

    def _begin_round(self, standing: Standing, now: float) -> None:
        self.standing = standing
        self.round = Round(self.identity, self.rules, standing, now)
        self.round.silent = standing.round < self.silent_through
        self.round.book.held.update(self.held)
        for record in self.records.pop(standing.head, ()):
            self._restore(self.round, record, now)
        early, self.early = list(self.early.values()), {}
        for _, raw in early:
            self._receive(raw, now)

    def _applied(self, head: Hash) -> None:
        if self.standing is not None and self.standing.head == head:
            self._train(self.standing)

    def _train(self, standing: Standing) -> None:
        """Step 1, unless this member is no trainer, has trained in this round already, or the run is over."""
        assert self.round is not None
        member = self.identity.member
        if standing.round >= self.rules.rounds or self.round.silent:
            return
        if self.round.own.update is not None or standing.trainer_key(member) != self.identity.address:
            return
        block = assigned_block(
            member, standing.trainer_members, standing.head, standing.cursor, self.rules.run.block_samples
        )
        self.effects.append(Train(standing, block))

    def _trained(self, done: TrainingDone, head: Hash, now: float) -> None:
        self._hold(done.blob.hash)
        if self.round is not None and self.round.standing.head == head:
            self.round.announce(done, now)

    # Messages

    def _receive(self, raw: bytes, now: float) -> None:
        try:
            signed = open_envelope(raw, self.identity.domain, self.identity.recover)
        except ProtocolError as error:
            self._refuse(error)
            return
        message = signed.message
        try:
            if message.run != self.run:
                raise ForeignRun(f"a message of run {message.run}, not of run {self.run}")
            if isinstance(message, Digest | ListRequest | ListOffer):
                self._check_known(signed)
                self._service(signed, now)
            elif self.round is None:
                self._take_before_start(signed, raw)
            elif not self.round.book.knows(signed.id):
                self._take(signed, raw, now)
        except UnknownUpdate:
            pass  # a key that came before its update: the digests bring both in order
        except ProtocolError as error:
            self._refuse(error, signed)

    def _take_before_start(self, signed: Signed, raw: bytes) -> None:
        """Somebody has seen the first head already: keep what it says until this peer has."""
        if self.roster.get(signed.message.member) == signed.signer:
            self._keep_early(signed, raw)
        self.effects.append(LookAtLedger())

    def _take(self, signed: Signed, raw: bytes, now: float) -> None:
        assert self.round is not None and self.standing is not None
        message = signed.message
        if message.round > self.standing.round + 1:
            self._check_known(signed)
            self._keep_early(signed, raw)
            self.effects.append(LookAtLedger())
            return
        if message.round <= self.standing.round:
            return  # of a round that is over: it came late, and changes nothing any more
        self.round.take(signed, now)

    def _keep_early(self, signed: Signed, raw: bytes) -> None:
        """Keep a message for later; where room is short, at the cost of whoever sent most of what is kept."""
        if len(self.early) >= EARLY_MESSAGES_MAX and signed.id not in self.early:
            counts = Counter(member for member, _ in self.early.values())
            loudest = max(counts, key=lambda member: counts[member])
            del self.early[next(name for name, (member, _) in self.early.items() if member == loudest)]
        self.early.setdefault(signed.id, (signed.message.member, raw))

    def _check_known(self, signed: Signed) -> None:
        """Raise unless the member that a message names takes part in the run now, and signed it."""
        member = signed.message.member
        keys = {self.roster.get(member)}
        if self.standing is not None:
            keys |= {self.standing.seat_key(member), self.standing.trainer_key(member)}
        if signed.signer not in keys:
            raise BadSignature("not signed by the key of the member that it names")

    def _refuse(self, error: ProtocolError, signed: Signed | None = None) -> None:
        facts: dict[str, str | int] = {"rule": type(error).__name__, "why": str(error)}
        if signed is not None:
            facts |= {
                "kind": signed.message.kind,
                "member": signed.message.member.hex(),
                "signer": signed.signer.hex(),
            }
        self.effects.append(Note("refused", facts))

    def _service(self, signed: Signed, now: float) -> None:
        """Answer who knows less, learn from who knows more."""
        message = signed.message
        if isinstance(message, Digest):
            self._answer_digest(message)
        elif isinstance(message, ListRequest):
            known = message.updates_root in self.lists
            if self.standing is not None and (known or message.round <= self.standing.round):
                self.effects.append(OfferList(message.member, message.round, message.updates_root))
        elif isinstance(message, ListOffer):
            self._take_offer(message, now)

    def _take_offer(self, offer: ListOffer, now: float) -> None:
        """Fetch a list that may be the one that is missing: of a possible size, and no more often than asked for."""
        landing = self.landing
        if landing is None or landing.certified is not None or self.standing is None:
            return
        if landing.event.body.updates_root != offer.updates_root:
            return
        people = len(self.standing.trainers) + len(self.standing.next_trainers)
        if offer.blob_size > LIST_BYTES_PER_TRAINER * (people + 1):
            raise MessageTooLarge(f"a list of {offer.blob_size} bytes where {people} take part")
        if now >= landing.offered_at.get(offer.member, float("-inf")) + self.rules.timing.d0_s:
            landing.offered_at[offer.member] = now
            self.effects.append(FetchList(BlobRef(offer.blob_hash, offer.blob_size), offer.member))

    def _answer_digest(self, digest: Digest) -> None:
        if self.standing is None or self.round is None:
            return
        if digest.round > self.standing.round + 1:
            self.effects.append(LookAtLedger())
        if digest.previous_head != self.standing.head:
            return
        starts = range(0, len(digest.known), SHORT_NAME_SIZE)
        names = {digest.known[at : at + SHORT_NAME_SIZE] for at in starts}
        objects = self.round.book.objects()
        lacking = [signed.raw for signed in objects if short_name(signed.id, digest.salt) not in names]
        lacking = choose_answer(lacking, int.from_bytes(digest.salt))
        if lacking:
            self.effects.append(Send((digest.member,), tuple(lacking)))

    def _gossip(self, peers: tuple[MemberId, ...], salt: bytes) -> None:
        if self.round is None:
            return
        known = b"".join(short_name(signed.id, salt) for signed in self.round.book.objects())
        digest = Digest(**self.round.header(), salt=salt, known=known)
        self.effects.append(Send(peers, (self.identity.seal(digest).raw,)))
        self.round.fetch_missing()

    # Blobs, payloads, lists

    def _hold(self, blob: Hash) -> None:
        self.held[blob] = None
        if len(self.held) > BLOBS_REMEMBERED:
            del self.held[next(iter(self.held))]
        if self.round is not None:
            self.round.fetching.discard(blob)
            self.round.book.hold(blob)

    def _opened(self, update: Hash, error: str | None) -> None:
        if self.round is None or update not in self.round.opening:
            return
        self.round.opening.discard(update)
        self.round.book.opened[update] = error
        if error is not None:
            signed = self.round.book.updates[update]
            facts: dict[str, str | int] = {"rule": error.partition(":")[0], "why": error, "kind": "update"}
            facts |= {"member": signed.message.member.hex(), "signer": signed.signer.hex()}
            self.effects.append(Note("refused", facts))

    def _list_arrived(self, certified: CertifiedList) -> None:
        """Take a list that somebody offered, if it is the one that the landed certificate commits to."""
        if self.landing is None or self.landing.certified is not None:
            return
        if certified.updates_root in self.lists:
            return  # several answered: this one came when the next list was wanted already
        try:
            check_list(certified, self.landing.event.body)
            assert self.standing is not None
            keys = {trainer.member: trainer.key for trainer in self.standing.trainers}
            check_signatures(certified, keys, self.identity.domain, self.identity.recover)
        except ProtocolError as error:
            self._refuse(error)
            return
        self.landing.certified = certified
        self.landing.asked_at = float("-inf")  # now for the ciphertexts, at once
        self._remember(certified)

    def _remember(self, certified: CertifiedList) -> None:
        self.lists[certified.updates_root] = certified
        while len(self.lists) > LISTS_KEPT:
            self.lists.pop(next(iter(self.lists)))

"""Following the ledger from head to head, forwards and, after a reorg, back: step 9. Part of ``engine.py``.

Whatever the ledger takes is the round, for everyone. What a head's round needs beside the event (the list, the
ciphertexts) is asked for until it is here.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from distrai.peer.checkpoint import Checkpoint, KnownLists, Landing
from distrai.peer.events import Apply, Fetch, FetchList, Refollow, Revert, Send, StopTraining
from distrai.peer.round import Round
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.checks import may_be_listed
from distrai.protocol.errors import MessageTooLarge, ProtocolError, ReorgTooDeep, WrongHead
from distrai.protocol.history import enrol
from distrai.protocol.ledger_events import (
    Certified,
    CheckedIn,
    Deactivated,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    Started,
)
from distrai.protocol.lists import CertifiedList, check_list, check_signatures, root_of_trainers
from distrai.protocol.messages import ListOffer, ListRequest, Update
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.standing import Standing, advance, call_roll, check_place, following_cursor, start

if TYPE_CHECKING:
    from distrai.peer.engine import Engine

KEPT_HEADS = 8
"""Heads before the newest one to which a reorg may lead back."""
LIST_BYTES_PER_TRAINER = 1 << 10
"""Bytes of a list for each who trains in its round or the next: an envelope with its key has about 500."""


class Following:
    """What one engine knows of the ledger."""

    def __init__(
        self, engine: "Engine", checkpoints: Sequence[Checkpoint], genesis: tuple[int, Hash, Hash]
    ) -> None:
        """``checkpoints``: kept ones, oldest first; it goes on from the last."""
        self.engine, self.genesis = engine, genesis
        self.kept: deque[Checkpoint] = deque(checkpoints or (Checkpoint(),), KEPT_HEADS + 1)
        self.rounds: dict[Hash, Round] = {}
        """The rounds that followed the kept heads: after a reorg they may be on again."""
        self.standing = self.kept[-1].standing
        self.roster = dict(self.kept[-1].roster)
        self.pending: deque[LedgerEvent] = deque()
        self.landing: Landing | None = None
        self.lists = KnownLists()
        self._keys: dict[Address, MemberId] | None = None

    @property
    def keys(self) -> dict[Address, MemberId]:
        """Whose key each is: the seat's, the trainer's and the current one of each who takes part.

        Also those of ledger events that wait for the list of a round: who is behind must understand who is not.
        """
        if self._keys is not None:
            return self._keys
        known = {key: member for member, key in self.roster.items()}
        known |= {item.key: item.member for item in self.pending if isinstance(item, Joined | KeyChanged)}
        if self.standing is not None:
            known |= {seat.key: seat.member for seat in self.standing.seats}
            known |= {trainer.key: trainer.member for trainer in self.standing.trainers}
            known |= {one.key: one.member for one in self.standing.roster}  # one who left may be promoted yet
        self._keys = known
        return known

    def newest_key(self, member: MemberId) -> Address | None:
        """The key that a member has by the newest ledger event told: whoever is further on knows it by this one.

        Who left and still has a seat is known by the seat's key only: changes of other keys say nothing about this run.
        """
        key = self.roster.get(member)
        for event in self.pending:
            match event:
                case Joined(member=other, key=told) if other == member:
                    key = told
                case KeyChanged(member=other, key=told) if other == member and key is not None:
                    key = told
                case Left(member=other) | Deactivated(member=other) if other == member:
                    key = None
                case _:
                    pass
        if key is None and self.standing is not None:
            return self.standing.seat_key(member) or self.standing.trainer_key(member)
        return key

    def knows(self, head: Hash) -> bool:
        """Whether this is one of the kept heads: a message that names it belongs to the round after it and no other."""
        return any(item.standing is not None and item.standing.head == head for item in self.kept)

    # Forwards

    def hear(self, events: Iterable[LedgerEvent]) -> None:
        """The ledger told these; they are taken in their order, as far as possible."""
        self.pending.extend(events)
        self._keys = None

    def go_on(self, now: float) -> None:
        """Take events in their order, as far as what they need is here."""
        while True:
            if self.landing is not None:
                if not self._land(self.landing, now):
                    return
                self.landing = None
            if not self.pending:
                return
            self._take(self.pending.popleft(), now)

    def _take(self, event: LedgerEvent, now: float) -> None:
        self._keys = None
        enrol(self.roster, event)
        match event:
            case Started():
                self._start(event, now)
            case Certified():
                self.landing = Landing(event)
            case RollCalled():
                self._call_roll(event, now)
            case CheckedIn(round=number) if self.standing is not None and number == self.standing.round + 1:
                assert self.engine.round is not None
                self.engine.round.roll_call.take(event, now)
            case _:
                pass

    def _start(self, event: Started, now: float) -> None:
        standing = start(*self.genesis, event.seats, self.roster)
        self._check_head(standing, event.head)
        self._keep(standing, event.at, now)
        self.engine.train(standing)

    def _call_roll(self, event: RollCalled, now: float) -> None:
        before = self.standing
        assert before is not None
        after = call_roll(before, self.engine.rules.run, event.drops, self.roster)
        self._check_head(after, event.head)
        apply = Apply(
            before, after, None, None, False, dict(self.roster), event.at, self._leftovers(after, ())
        )
        self._apply(apply, now)

    def _land(self, landing: Landing, now: float) -> bool:
        """Apply exactly what landed. False as long as something of it is missing here."""
        before, body = self.standing, landing.event.body
        assert before is not None
        if landing.certified is None:
            landing.certified = self._find_list(before, body)
            if landing.certified is None:
                self._ask_for_list(landing, now)
                return False
        updates, held = landing.certified.updates, self.engine.held
        landing.missing = {update.blob_hash for update in updates if update.blob_hash not in held}
        if landing.missing:
            self._fetch_landed(landing, updates, now)
            return False
        check_place(before, body)
        self.lists.remember(landing.certified)
        after = advance(before, body, landing.certified, self.roster, self.engine.rules.run.staleness)
        self._check_head(after, landing.event.head)
        own = any(update.member == self.engine.identity.member for update in updates)
        apply = Apply(before, after, body, landing.certified, own, dict(self.roster), landing.event.at)
        self._apply(replace(apply, leftovers=self._leftovers(after, updates)), now)
        return True

    def _leftovers(self, after: Standing, listed: tuple[Update, ...]) -> tuple[BlobRef, ...]:
        """Ciphertexts of updates that were not listed in this round and cannot be in a later one.

        Only those that came since the head that their update starts from: an author may announce any blob that was here
        before as its own, the recipe or old ciphertexts.
        """
        known = () if self.engine.round is None else self.engine.round.book.updates.values()
        updates = [signed.message for signed in known if isinstance(signed.message, Update)]
        wanted = {update.blob for update in (*listed, *(one for one in updates if may_be_listed(one, after)))}
        held = self.engine.held
        over = {update.blob for update in updates if held.get(update.blob_hash, -1) >= update.base_round}
        return tuple(sorted(over - wanted))

    def _apply(self, apply: Apply, now: float) -> None:
        if not self.engine.trains_on(apply.standing):
            self._stop_training()
        self.engine.effects.append(apply)
        self._keep(apply.standing, apply.at, now)

    def _stop_training(self) -> None:
        self.engine.training = None
        self.engine.effects.append(StopTraining())

    def _check_head(self, standing: Standing, head: Hash) -> None:
        if standing.head != head:
            raise WrongHead(
                f"the ledger's head of round {standing.round} does not follow from what is before it"
            )

    def _keep(self, standing: Standing, at: Position, now: float) -> None:
        """A new head: remember where it stands, and begin the round that follows."""
        self._keys = None
        self.standing = standing
        self.kept.append(Checkpoint(standing, dict(self.roster), at))
        self.begin_round(standing, now)

    def begin_round(self, standing: Standing, now: float) -> None:
        """Begin the round that follows a head, with what was known of it if it was on before."""
        known = self.rounds.pop(standing.head, None)
        others = tuple(self.rounds.values()) if standing.bases else ()
        round_ = self.engine.begin_round(standing, known, others, now)
        self.rounds[standing.head] = round_
        while len(self.rounds) > KEPT_HEADS + 1:
            self.rounds.pop(next(iter(self.rounds)))

    # Back

    def rewind(self, to_block: int, now: float) -> None:
        """Go back to the newest kept head that the chain still has. Raises ReorgTooDeep if it has none of them."""
        self.pending.clear()
        self.landing = self._keys = None
        while self.kept and (at := self.kept[-1].at) is not None and at.block_number > to_block:
            self.kept.pop()
        if not self.kept:
            raise ReorgTooDeep(
                f"the ledger went back to block {to_block}, further than {KEPT_HEADS} heads: join again from a snapshot"
            )
        checkpoint = self.kept[-1]
        self.roster = dict(checkpoint.roster)
        if checkpoint.standing != self.standing:
            self.standing = checkpoint.standing
            self._stop_training()
            self.engine.effects.append(Revert(self.standing))
            self.engine.applied = None
            if self.standing is None:
                self.engine.round, self.engine.reverting = None, True
            else:
                self.begin_round(self.standing, now)
        elif self.engine.round is not None:
            self.engine.round.roll_call.forget()
        self.engine.effects.append(Refollow(checkpoint.at))

    # What a landed certificate needs

    def _find_list(self, standing: Standing, body: Body) -> CertifiedList | None:
        """The list that ``body`` commits to, if it is known: signed here, or offered by somebody."""
        roots = (body.updates_root, body.trainers_root)
        own = (
            [] if self.engine.round is None else [known for _, known in self.engine.round.own.bodies.values()]
        )
        signed = next((known for known in own if (known.updates_root, known.trainers_root) == roots), None)
        if signed is not None:
            return signed
        for certified in own:
            self.lists.remember(certified)
        if body.trainers_root not in self.lists.people:
            cursor = following_cursor(standing, self.engine.rules.run)
            people = root_of_trainers(cursor, standing.next_trainers)
            self.lists.people[people] = (cursor, standing.next_trainers)
        return self.lists.find(body)

    def _ask_for_list(self, landing: Landing, now: float) -> None:
        round_ = self.engine.round
        if now < landing.asked_at + self.engine.rules.timing.d0_s or round_ is None:
            return
        landing.asked_at = now
        request = ListRequest(**round_.header(), updates_root=landing.event.body.updates_root)
        self.engine.effects.append(Send(round_.everyone, (self.engine.seal(request).raw,)))

    def take_offer(self, offer: ListOffer, now: float) -> None:
        """Fetch a list that may be the one that is missing: of a possible size, and no more often than asked for."""
        landing, standing = self.landing, self.standing
        if landing is None or landing.certified is not None or standing is None:
            return
        body = landing.event.body
        if (body.round, body.updates_root) != (offer.round, offer.updates_root):
            return
        people = len(standing.authors) + len(standing.next_trainers)
        if offer.blob_size > LIST_BYTES_PER_TRAINER * (people + 1):
            raise MessageTooLarge(f"a list of {offer.blob_size} bytes where {people} take part")
        if now >= landing.offered_at.get(offer.member, float("-inf")) + self.engine.rules.timing.d0_s:
            landing.offered_at[offer.member] = now
            self.engine.effects.append(FetchList(BlobRef(offer.blob_hash, offer.blob_size), offer.member))

    def take_list(self, certified: CertifiedList) -> None:
        """Take a list that somebody offered, if it is the one that the landed certificate commits to."""
        landing, standing = self.landing, self.standing
        if landing is None or landing.certified is not None or standing is None:
            return
        roots = (certified.updates_root, certified.trainers_root)
        if roots[0] in self.lists.entries and roots[1] in self.lists.people:
            return  # several answered: this one came when the next list was wanted already
        try:
            check_list(certified, landing.event.body)
            keys = standing.signing_keys(certified.updates)
            identity = self.engine.identity
            check_signatures(certified, keys, identity.domain, identity.recover)
        except ProtocolError as error:
            self.engine.refuse(error)
            return
        landing.certified = certified
        landing.asked_at = float("-inf")  # now for the ciphertexts, at once
        self.lists.remember(certified)

    def _fetch_landed(self, landing: Landing, updates: tuple[Update, ...], now: float) -> None:
        """Get the ciphertexts of a certified list: whoever trains may hold them."""
        round_ = self.engine.round
        if now < landing.asked_at + self.engine.rules.timing.d0_s or round_ is None:
            return
        landing.asked_at = now
        for update in updates:
            if update.blob_hash in landing.missing and update.blob_hash not in round_.fetching:
                holders = tuple(
                    member
                    for member in (update.member, *round_.everyone)
                    if member != self.engine.identity.member
                )
                round_.fetching.add(update.blob_hash)
                self.engine.effects.append(Fetch(update.blob, tuple(dict.fromkeys(holders))))

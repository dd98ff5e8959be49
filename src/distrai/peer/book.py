"""The messages of one round, as one peer knows them: what is kept, what is refused, and what follows from them.

Limits are per author, so a flood costs its sender. A refusal is a ``ProtocolError`` that names the rule.
"""

from collections.abc import Iterator
from contextlib import suppress

from distrai.peer.identity import Identity
from distrai.protocol.assignment import proposer
from distrai.protocol.checks import (
    WorkRules,
    check_author,
    check_have,
    check_place,
    check_proposal,
    check_update,
)
from distrai.protocol.cipher import binding, check_key
from distrai.protocol.errors import (
    BadSignature,
    Equivocation,
    MalformedMessage,
    MessageTooLarge,
    ProtocolError,
    TooManyMessages,
    UnknownUpdate,
    WrongKey,
    WrongProposer,
)
from distrai.protocol.lists import CertifiedList, Entry
from distrai.protocol.messages import BodySignature, Have, Key, Proposal, Signed, Update
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.standing import Standing

UPDATES_PER_AUTHOR = 2
BODIES_PER_MEMBER = 12
ATTEMPTS_AHEAD_MAX = 64
LISTS_REMEMBERED = 64


class RoundBook:
    """Everything received for the round that follows ``standing``."""

    def __init__(self, identity: Identity, standing: Standing, work: WorkRules, next_cursor: int) -> None:
        self.identity = identity
        self.standing = standing
        self.work = work
        self.next_cursor = next_cursor
        self.updates: dict[Hash, Signed] = {}
        self.held: set[Hash] = set()
        self.first_held: dict[MemberId, Hash] = {}
        """What a Have of now would name: of each author the oldest update that is held whole, of these the first."""
        self.haves: dict[MemberId, Signed] = {}
        self.second_haves: dict[MemberId, Signed] = {}
        self.more_haves: dict[Hash, Signed] = {}
        self.naming: dict[Hash, set[MemberId]] = {}
        self.keys: dict[Hash, Signed] = {}
        self.opened: dict[Hash, str | None] = {}
        self.proposals: dict[tuple[MemberId, int], Signed] = {}
        self.received_at: dict[Hash, float] = {}
        self.signatures: dict[Hash, dict[MemberId, Signed]] = {}
        self.lists: dict[tuple[Hash, ...], CertifiedList] = {}

    # What is known

    def objects(self) -> Iterator[Signed]:
        """Every message worth relaying, in an order in which a receiver can check each one."""
        yield from self.updates.values()
        yield from self.haves.values()
        yield from self.second_haves.values()
        yield from self.keys.values()
        yield from self.proposals.values()
        yield from self.more_haves.values()
        for by_member in self.signatures.values():
            yield from by_member.values()

    def knows(self, identity: Hash) -> bool:
        """Whether a message of this name is kept already."""
        return identity in self.received_at

    def named_by(self, update: Hash, without: set[MemberId] | None = None) -> int:
        """How many seats have a Have that names ``update``: any one, of a seat that sent several."""
        return len(self.naming.get(update, set()) - (without or set()))

    def updates_of(self, update: Update) -> list[Hash]:
        """The updates of the same author from the same base, in the order of their arrival."""
        place = (update.member, update.round)
        known = ((name, signed.message) for name, signed in self.updates.items())
        return [name for name, other in known if (other.member, other.round) == place]

    def has_quorum_of_haves(self) -> bool:
        """Whether two thirds of the seats have spoken."""
        return len(self.haves) >= self.standing.quorum

    def is_open(self, update: Hash) -> bool:
        """Whether an update's key is known and its payload passed the absolute checks."""
        return update in self.keys and self.opened.get(update, "not opened") is None

    def named_by_quorum(self) -> list[Hash]:
        """What two thirds of the seats say they hold, whether it is known here or not."""
        quorum = self.standing.quorum
        return [name for name, seats in self.naming.items() if len(seats) >= quorum]

    def candidates(self) -> list[Hash]:
        """The updates that two thirds of the seats hold."""
        return [name for name in self.named_by_quorum() if name in self.updates]

    def allowed(self) -> list[Hash]:
        """What may be listed: held by two thirds and opened; in the order of their members."""
        return self.in_order([name for name in self.candidates() if self.is_open(name)])

    def required(self) -> list[Hash]:
        """What must be listed: allowed, also without the word of seats that sent two different Haves."""
        liars, quorum = set(self.second_haves), self.standing.quorum
        return [name for name in self.allowed() if self.named_by(name, liars) >= quorum]

    def haves_naming(self, updates: list[Hash]) -> tuple[Hash, ...]:
        """The Haves, sorted by hash, that name any of ``updates``."""
        wanted = set(updates)
        known = (*self.haves.values(), *self.second_haves.values(), *self.more_haves.values())
        haves = ((signed.id, signed.message) for signed in known)
        return tuple(
            sorted(name for name, have in haves if isinstance(have, Have) and wanted & {*have.updates})
        )

    def in_order(self, updates: list[Hash]) -> list[Hash]:
        """Sorted by member, as a certificate lists them."""
        return sorted(updates, key=lambda name: self.updates[name].message.member)

    def certified_list(self, updates: list[Hash]) -> CertifiedList:
        """The list blob for ``updates``; their keys are known. Made once: it is asked for after every event."""
        names = tuple(self.in_order(updates))
        if names not in self.lists:
            if len(self.lists) >= LISTS_REMEMBERED:
                self.lists.clear()
            entries = tuple(self._entry(name) for name in names)
            self.lists[names] = CertifiedList(self.next_cursor, self.standing.next_trainers, entries)
        return self.lists[names]

    def _entry(self, update: Hash) -> Entry:
        key = self.keys[update].message
        assert isinstance(key, Key)
        return Entry(self.updates[update].raw, key.key)

    def author_of_blob(self, blob: Hash) -> list[Hash]:
        """The updates whose ciphertext is ``blob``: one, unless somebody announces another's."""
        return [name for name, signed in self.updates.items() if signed.message.blob_hash == blob]  # type: ignore[attr-defined]

    # What arrives

    def add(self, signed: Signed, now: float, attempt: int) -> None:
        """Keep a message, or raise the ProtocolError that says why not. ``attempt`` is the own one."""
        message = signed.message
        check_place(message, self.standing)
        check_author(signed, self.standing)
        match message:
            case Update():
                self._add_update(signed, message)
            case Have():
                self._add_have(signed, message)
            case Key():
                self._add_key(signed, message)
            case Proposal():
                self._add_proposal(signed, message, attempt)
            case BodySignature():
                self._add_signature(signed, message)
            case _:
                raise MalformedMessage(f"a {message.kind} is no message of a round")
        self.received_at[signed.id] = now

    def _add_update(self, signed: Signed, update: Update) -> None:
        check_update(update, self.standing, self.work)
        earlier = self.updates_of(update)
        wanted = 3 * self.named_by(signed.id) > len(self.standing.seats)
        if len(earlier) >= UPDATES_PER_AUTHOR and not wanted:
            raise TooManyMessages(f"more than {UPDATES_PER_AUTHOR} updates of one author")
        self.updates[signed.id] = signed
        if update.blob_hash in self.held:
            self._name(signed.id)

    def _name(self, update: Hash) -> None:
        """The ciphertext of ``update`` is held: name it from now on, unless an older one of its author is."""
        message = self.updates[update].message
        first = self.first_held.get(message.member)
        if first is None or message.round < self.updates[first].message.round:
            self.first_held[message.member] = update

    def _add_have(self, signed: Signed, have: Have) -> None:
        check_have(have)
        self._check_count(have.updates)
        if have.member not in self.haves:
            self.haves[have.member] = signed
        elif have.member not in self.second_haves:
            self.second_haves[have.member] = signed
        elif self._is_relied_on(signed.id, have.member):
            self.more_haves[signed.id] = signed
        else:
            raise Equivocation("more than two different Haves of one seat")
        for name in have.updates:
            self.naming.setdefault(name, set()).add(have.member)

    def _check_count(self, names: tuple[Hash, ...]) -> None:
        """Raise unless ``names`` can be one of each author: longer lists only make others keep and relay them."""
        if len(names) > len(self.standing.authors):
            raise MessageTooLarge(f"{len(names)} updates named where {len(self.standing.authors)} train")

    def _is_relied_on(self, have: Hash, member: MemberId) -> bool:
        """Whether a proposal needs this Have of a liar: else a list that one seat may propose no other could sign."""
        kept = sum(signed.message.member == member for signed in self.more_haves.values())
        proposals = [signed.message for signed in self.proposals.values()]
        return kept < len(proposals) and any(
            isinstance(proposal, Proposal) and have in proposal.haves for proposal in proposals
        )

    def _add_key(self, signed: Signed, key: Key) -> None:
        if key.update not in self.updates:
            raise UnknownUpdate("a key for an update that is not known here")
        if key.update in self.keys:
            raise TooManyMessages("a second key for one update")
        update = self.updates[key.update].message
        assert isinstance(update, Update)
        if key.member != update.member:
            raise WrongKey("only the author of an update reveals its key")
        if key.round != update.round:
            raise WrongKey("a key belongs to the round of its update")
        bound = binding(update.run, update.round, update.previous_head, update.member)
        check_key(key.key, bound, update.key_hash)
        self.keys[key.update] = signed

    def _add_proposal(self, signed: Signed, proposal: Proposal, attempt: int) -> None:
        check_proposal(proposal)
        self._check_count(proposal.updates)
        self._check_count(proposal.keys)
        rightful = proposer(self.standing.seat_members, proposal.round, proposal.attempt)
        if proposal.member != rightful or proposal.attempt > attempt + ATTEMPTS_AHEAD_MAX:
            raise WrongProposer(f"attempt {proposal.attempt} is not the turn of this seat")
        if (proposal.member, proposal.attempt) in self.proposals:
            raise TooManyMessages("a second proposal for one attempt")
        self.proposals[proposal.member, proposal.attempt] = signed

    def _add_signature(self, signed: Signed, signature: BodySignature) -> None:
        digest = self.identity.domain.digest(signature.body_id)
        if self.identity.recover(digest, signature.attestation) != signed.signer:
            raise BadSignature("the attestation is not by the key that sent it")
        if signature.member in self.signatures.get(signature.body_id, {}):
            # There are many valid signatures of one body: one of each seat is kept.
            raise TooManyMessages("a second signature of one seat under one body")
        bodies = sum(signature.member in by_member for by_member in self.signatures.values())
        if bodies >= BODIES_PER_MEMBER:
            raise TooManyMessages(f"signatures of one seat under more than {BODIES_PER_MEMBER} bodies")
        self.signatures.setdefault(signature.body_id, {})[signature.member] = signed

    def hold(self, blob: Hash) -> None:
        """The ciphertext named ``blob`` is held whole."""
        self.held.add(blob)
        for name in self.author_of_blob(blob):
            self._name(name)

    # From one round to the next

    def carry_over(self, known: "RoundBook", now: float) -> list[Update]:
        """Take over from the book of another round which updates may still be listed in this one, with their keys.

        Those that start from a head of this chain, are young enough, and were not listed. Haves, proposals and
        signatures are of one round only.
        """
        taken = []
        for signed in (*known.updates.values(), *known.keys.values()):
            base = self.standing.base_at(signed.message.round - 1)
            if base is None or base.head != signed.message.previous_head or self.knows(signed.id):
                continue
            with suppress(ProtocolError):
                self.add(signed, now, 0)
                taken += [signed.message] if isinstance(signed.message, Update) else []
        self.opened.update({name: error for name, error in known.opened.items() if name in self.updates})
        return taken

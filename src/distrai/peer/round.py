"""One round, from the head it follows to the certificate: steps 1 to 8 of the rules, as conditions on what is known.

Every step asks "is it time, and has it not been done?", so steps may be tried after any event, in any order, and again
after a crash. What a step has decided is persisted before it is sent.
"""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distrai.peer.agreement import Agreement
from distrai.peer.book import RoundBook
from distrai.peer.events import Effect, Fetch, Note, Open, Persist, ReportFault, Send, TrainingDone
from distrai.peer.identity import Identity, Timing
from distrai.peer.roll_call import RollCall
from distrai.protocol.bases import Base
from distrai.protocol.body import Body
from distrai.protocol.checks import WorkRules, author_key
from distrai.protocol.cipher import binding, key_hash
from distrai.protocol.errors import ProtocolError
from distrai.protocol.faults import Place, is_fault, place_of
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import (
    UPDATE_VERSION,
    Have,
    Key,
    Message,
    Signed,
    Update,
)
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId
from distrai.protocol.standing import RunRules, Standing, following_cursor


@dataclass(frozen=True)
class Rules:
    """What the recipe fixes about a round."""

    run: RunRules
    work: WorkRules
    timing: Timing
    min_updates: int
    rounds: int
    """How many rounds the run has."""
    stall_s: float = math.inf
    """Without a certificate for so long a roll call may open: the ledger's stall time, as a local duration."""
    measured_pace: bool = False
    """Whether slower peers take fewer inner steps."""
    quorum: int = 0
    """A round may close as soon as so many updates are held, or those of all trainers; 0: it waits for all of them."""


@dataclass
class Own:
    """What this peer has said in the round; restored from disk after a crash."""

    update: Signed | None = None
    secret: bytes = b""
    have: Signed | None = None
    key: Signed | None = None
    proposed: set[int] = field(default_factory=set)
    bodies: dict[Hash, tuple[Body, CertifiedList]] = field(default_factory=dict)


class Round:
    """The round that follows ``standing``, seen by one member."""

    def __init__(self, identity: Identity, rules: Rules, standing: Standing, now: float) -> None:
        self.identity = identity
        self.rules = rules
        self.standing = standing
        self.book = RoundBook(identity, standing, rules.work, following_cursor(standing, rules.run))
        self.own = Own()
        self.silent = False
        """Listen, but neither train nor say anything."""
        self.began_at = now
        self.all_seats_held_at: float | None = None
        self.enough_held_at: float | None = None
        self.quorum_at: float | None = None
        self.required_since: dict[Hash, float] = {}
        self.opening: set[Hash] = set()
        self.fetching: set[Hash] = set()
        self.reported: set[Place] = set()
        self.effects: list[Effect] = []
        self.agreement = Agreement(self)
        self.roll_call = RollCall(self)

    # Small questions

    @property
    def member(self) -> MemberId:
        """The own member id."""
        return self.identity.member

    @cached_property
    def is_seat(self) -> bool:
        """Whether this peer attests in this round."""
        key = self.standing.seat_key(self.member)
        return key is not None and self.identity.owns(key)

    @property
    def everyone(self) -> tuple[MemberId, ...]:
        """All others that take part in the round."""
        members = {*self.standing.seat_members, *self.standing.trainer_members} - {self.member}
        return tuple(sorted(members))

    def settled_at(self) -> float | None:
        """When proposals begin, or None as long as fewer than two thirds have spoken."""
        return None if self.quorum_at is None else self.quorum_at + self.rules.timing.settle_s

    def attempt(self, now: float) -> int:
        """The own attempt; 0 before settling too."""
        settled = self.settled_at()
        if settled is None or now < settled:
            return 0
        return self.rules.timing.attempt_at(now - settled)[0]

    def header(self) -> dict[str, Any]:
        """The fields that every own message of this round begins with."""
        return {
            "run": self.standing.run,
            "round": self.standing.round + 1,
            "previous_head": self.standing.head,
            "member": self.member,
        }

    # Doing things

    def say(
        self,
        message: Message,
        to: tuple[MemberId, ...],
        secret: bytes = b"",
        body: Body | None = None,
        listed: CertifiedList | None = None,
    ) -> Signed:
        """Sign, keep, persist and send an own message."""
        signed = self.identity.seal(message, author_key(message, self.standing))
        self.effects.append(Persist(message.previous_head, message.round, signed.raw, secret, body, listed))
        blob = None
        if isinstance(message, Update):
            blob = message.blob
        self.effects.append(Send(to, (signed.raw,), blob))
        return signed

    def keep(self, signed: Signed, now: float) -> None:
        """Take an own message into the book, as everybody else does."""
        if not self.book.knows(signed.id):
            self.book.add(signed, now, self.attempt(now))

    def inherit(self, known: "Round", now: float) -> None:
        """Take over what was known of the round when it was on before; its timers begin anew.

        After a reorg the same head may stand for another view of who takes part: what does not fit it is left out.
        """
        for signed in known.book.objects():
            if not self.book.knows(signed.id):
                with suppress(ProtocolError):
                    self.book.add(signed, now, 0)
        self.book.opened.update(known.book.opened)
        self.agreement.states.update(known.agreement.states)

    def carry_over(self, known: "Round", now: float, in_flight: set[Hash]) -> None:
        """Go on with the updates of another round that may still be listed; ``in_flight`` are being fetched already."""
        for update in self.book.carry_over(known.book, now):
            if update.blob_hash in in_flight:
                self.fetching.add(update.blob_hash)
            self.fetch(update)

    def take(self, signed: Signed, now: float) -> None:
        """Keep a received message, or raise the ProtocolError that refuses it."""
        self.book.add(signed, now, self.attempt(now))
        if isinstance(signed.message, Update):
            earlier = [name for name in self.book.updates_of(signed.message) if name != signed.id]
            if earlier:
                self._note_equivocation(signed)
                self._report(self.book.updates[earlier[0]], signed)
            self.fetch(signed.message)
        if isinstance(signed.message, Have) and signed.message.member in self.book.second_haves:
            self._note_equivocation(signed)

    def _report(self, first: Signed, second: Signed) -> None:
        """Have the ledger take what two Updates for one place cost; once for each place and author."""
        assert isinstance(first.message, Update)
        assert isinstance(second.message, Update)
        place = place_of(first.message)
        is_own = place.member == self.member  # another machine with this key: what it costs is lost anyway
        if not is_own and is_fault(first.message, second.message) and place not in self.reported:
            self.reported.add(place)
            self.effects.append(ReportFault(first, second))

    def _note_equivocation(self, signed: Signed) -> None:
        facts: dict[str, str | int] = {"rule": "Equivocation", "member": signed.message.member.hex()}
        self.effects.append(
            Note("equivocation", {**facts, "kind": signed.message.kind, "id": signed.id.hex()})
        )

    def fetch(self, update: Update) -> None:
        """Get the ciphertext of ``update`` from its author or from who says that it holds it."""
        if update.blob_hash in self.book.held or update.blob_hash in self.fetching:
            return
        names = self.book.author_of_blob(update.blob_hash)
        holders = [
            member
            for member, have in sorted(self.book.haves.items())
            if any(name in have.message.updates for name in names)  # type: ignore[attr-defined]
        ]
        others = [member for member in (update.member, *holders) if member != self.member]
        if others:
            self.fetching.add(update.blob_hash)
            self.effects.append(Fetch(update.blob, tuple(dict.fromkeys(others))))

    def fetch_missing(self) -> None:
        """Try again for every ciphertext that is not held."""
        for signed in self.book.updates.values():
            assert isinstance(signed.message, Update)
            self.fetch(signed.message)

    # Step 1: train, seal, announce

    def announce(self, done: TrainingDone, now: float) -> None:
        """Sign the own update and tell everybody, unless it is too late to count."""
        base = self.standing.base_of_head(done.head)
        if base is None or self.own.update is not None or self._is_too_late(base):
            return
        number = base.round + 1
        bound = binding(self.standing.run, number, base.head, self.member)
        update = Update(
            run=self.standing.run,
            round=number,
            previous_head=base.head,
            member=self.member,
            version=UPDATE_VERSION,
            base_round=base.round,
            base_state_root=base.state_root,
            fragment=self.rules.work.fragment_of(number),
            tau=done.tau,
            inner_steps=done.inner_steps,
            tokens=done.tokens,
            codec=self.rules.work.codec,
            blob_hash=done.blob.hash,
            blob_size=done.blob.size,
            key_hash=key_hash(done.key, bound),
            trace_root=ZERO_HASH,
        )
        self.own.update = self.say(update, self.everyone, secret=done.key)
        self.own.secret = done.key
        self.keep(self.own.update, now)
        self.book.hold(done.blob.hash)

    def _is_too_late(self, base: Base) -> bool:
        """Whether no list can hold an update from ``base`` any more: two thirds have said what this one may hold."""
        is_last = base.round <= self.standing.round - self.rules.run.staleness
        return is_last and self.quorum_at is not None

    # The steps that conditions drive

    def progress(self, now: float) -> list[Effect]:
        """Do whatever it is time for; returns the effects since the last call."""
        if self.standing.round < self.rules.rounds:
            if not self.silent:
                self._take_steps(now)
            if self.is_seat:
                self.effects += self.roll_call.act(now)
        effects, self.effects = self.effects, []
        return effects

    def _take_steps(self, now: float) -> None:
        """Steps 2 to 8; none once the run has all its rounds, else it would go on with empty ones."""
        self._watch(now)
        if self.is_seat:
            self._cut(now)
        self._reveal(now)
        self._open()
        if self.is_seat:
            self.agreement.agree_at_once(now)
            self.agreement.propose(now)
            self.agreement.consider_proposals(now)
            self.agreement.submit(now)

    def _watch(self, now: float) -> None:
        """Remember when things became so: the rules count from there."""
        held = self.book.first_held
        if self.all_seats_held_at is None and all(member in held for member in self.standing.seat_members):
            self.all_seats_held_at = now
        if self.enough_held_at is None and self._are_enough_held():
            self.enough_held_at = now
        if self.quorum_at is None and self.book.has_quorum_of_haves():
            self.quorum_at = now
        if self.quorum_at is not None:
            required = set(self.book.required())
            self.required_since = {name: self.required_since.get(name, now) for name in required}

    def _are_enough_held(self) -> bool:
        """Whether the recipe's quorum of updates is held, or those of as many as train.

        Those of more than a third of the seats in any case: else a few that are fast, or pretend to be, close one round
        after the other, until the honest ones have missed so many that they lose their seats.
        """
        if self.rules.quorum == 0:
            return False
        held, seats = self.book.first_held, self.standing.seat_members
        enough = min(self.rules.quorum, len(self.standing.trainers))
        return len(held) >= enough and sum(seat in held for seat in seats) >= len(seats) // 3 + 1

    def cut_at(self) -> float:
        """When to send the Have, as far as it is known now: at the latest ``hard_s`` after the head.

        Where a quorum of updates is enough, a moment after that: else, of two that come at once, each would be named by
        half of the seats, and neither be listed.
        """
        timing = self.rules.timing
        times = [self.began_at + timing.hard_s]
        held = self.book.first_held
        if self.all_seats_held_at is not None:
            everybody = all(member in held for member in self.standing.trainer_members)
            times.append(self.all_seats_held_at + (0 if everybody else timing.all_seats_wait_s))
        if self.enough_held_at is not None:
            times.append(self.enough_held_at + timing.join_cut_s)
        if len(held) >= self.standing.quorum:
            times.append(self.began_at + timing.cut_s)
        if self.quorum_at is not None:
            times.append(self.quorum_at + timing.join_cut_s)
        return min(times)

    def _cut(self, now: float) -> None:
        """Step 2: say once which updates are held."""
        if self.own.have is not None or now < self.cut_at():
            return
        have = Have(**self.header(), updates=tuple(sorted(self.book.first_held.values())))
        self.own.have = self.say(have, self.everyone)
        self.keep(self.own.have, now)
        self._watch(now)

    def _reveal(self, now: float) -> None:
        """Step 3: once two thirds have spoken nobody can get in any more, so nobody can copy.

        Where an update may be listed later, too, its key is told only when two thirds of a round name it: before that
        it is not in this round's list, and a copy of it could be in the next one's.
        """
        update = self.own.update
        if self.quorum_at is None or update is None or self.own.key is not None:
            return
        if self.rules.run.staleness and self.book.named_by(update.id) < self.standing.quorum:
            return
        place = {"round": update.message.round, "previous_head": update.message.previous_head}
        key = Key(**{**self.header(), **place}, update=update.id, key=self.own.secret)
        self.own.key = self.say(key, self.everyone)
        self.keep(self.own.key, now)

    def _open(self) -> None:
        """Decrypt and check what two thirds hold and whose key is known."""
        if self.quorum_at is None:
            return
        for name in self.book.candidates():
            update = self.book.updates[name].message
            assert isinstance(update, Update)
            if name in self.book.opened or name in self.opening or name not in self.book.keys:
                continue
            if update.blob_hash not in self.book.held:
                self.fetch(update)
                continue
            key = self.book.keys[name].message
            assert isinstance(key, Key)
            self.opening.add(name)
            self.effects.append(Open(name, update, key.key))

    def refuse(self, signed: Signed, error: ProtocolError) -> None:
        """Log which rule a message broke, and whose it is."""
        facts: dict[str, str | int] = {
            "rule": type(error).__name__,
            "why": str(error),
            "kind": signed.message.kind,
        }
        facts |= {"member": signed.message.member.hex(), "signer": signed.signer.hex()}
        self.effects.append(Note("refused", facts))

    def wake_at(self, now: float) -> float:
        """The next time at which a condition may become true by itself."""
        times = [now + self.rules.timing.hard_s]
        if self.own.have is None:
            times.append(self.cut_at())
        settled = self.settled_at()
        if settled is not None:
            times.append(settled)
            times.append(settled + self.rules.timing.attempt_at(max(0.0, now - settled))[2])
        times += [self.agreement.submit_at(body_id, at) for body_id, at in self.agreement.complete_at.items()]
        if self.is_seat and self.standing.round < self.rules.rounds:
            times.append(self.roll_call.due_at(now))
        return min(time for time in times if time > now)

"""The peer engine: a pure state machine, ``(state, event) -> (state, effects)``.

It follows the ledger from head to head (``following.py``), keeps the messages of the round in between (``mailbox.py``,
``round.py``), and says what is to be done. The same code is driven by asyncio in ``runtime.py`` and by virtual time in
``simulation/``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import (
    BlobFailed,
    BlobStored,
    Effect,
    Event,
    FinishTraining,
    GossipDue,
    LedgerChanged,
    LedgerRewound,
    ListArrived,
    MessageReceived,
    Note,
    Persist,
    Send,
    StateApplied,
    StateComputed,
    Train,
    TrainAhead,
    TrainingDone,
    UpdateOpened,
    WakeAt,
)
from distrai.peer.following import KEPT_HEADS, Following
from distrai.peer.identity import Identity
from distrai.peer.mailbox import Mailbox
from distrai.peer.pace import Pace
from distrai.peer.round import Round, Rules
from distrai.protocol.checks import may_be_listed
from distrai.protocol.errors import ProtocolError
from distrai.protocol.messages import (
    BodySignature,
    Digest,
    Have,
    Key,
    Message,
    Proposal,
    Signed,
    Update,
    open_envelope,
    short_name,
)
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.standing import Standing, block_ahead, block_of

__all__ = ["Checkpoint", "Engine"]

BLOBS_REMEMBERED = 8192
"""Blobs that the engine knows to be held; older ones belong to rounds that are long over."""

RECORDED_HEADS = 2 * (KEPT_HEADS + 1)
RECORDED_HEADS_MAX = 256
"""Heads whose own messages are remembered: more only while forks replace each other."""


class Engine:
    """One member's part in one run."""

    def __init__(
        self,
        identity: Identity,
        rules: Rules,
        checkpoints: Sequence[Checkpoint],
        genesis: tuple[int, Hash, Hash],
    ) -> None:
        """``checkpoints``: kept ones, oldest first (none before round 1).

        ``genesis`` is (run, genesis head, initial state root), which the start of the run builds on.
        """
        self.identity = identity
        self.rules = rules
        self.run = genesis[0]
        self.round: Round | None = None
        self.held: dict[Hash, int] = {}
        """Blobs that are here, with the round that was on when they came; -1: before this start."""
        self.records: dict[Hash, list[Persist]] = {}
        self.silent_through = 0
        self.training: Hash | None = None
        """The head that this peer trains from, where that may go on while others follow it; None if it does not."""
        self.applied: Hash | None = None
        """The head whose state is there, until another one is on its way."""
        self.reverting = False
        """The state is on its way back to that of before round 1: no training before it is there."""
        self.effects: list[Effect] = []
        self.trained_from: Hash | None = None
        """The head from which training was asked for last."""
        self.pace = Pace(rules.work.inner_steps_max, rules.measured_pace, rules.run.staleness == 0)
        self.following = Following(self, checkpoints, genesis)
        self.mailbox = Mailbox(self)

    @property
    def standing(self) -> Standing | None:
        """The newest head that this peer follows, and what it fixes."""
        return self.following.standing

    @property
    def roster(self) -> Mapping[MemberId, Address]:
        """Who takes part as of the ledger's events taken so far."""
        return self.following.roster

    # Life

    def resume(
        self, records: Iterable[Persist], held: Iterable[Hash], now: float, silent_through: int = 0
    ) -> list[Effect]:
        """Go on after a restart: ``records`` are own ones of the newest heads, ``held`` the blobs that are kept.

        In rounds up to ``silent_through`` this peer says nothing: it no longer knows what it has said in them.
        """
        self.silent_through = silent_through
        for blob in held:
            self.held[blob] = -1
        for record in records:
            self.records.setdefault(record.head, []).append(record)
            if record.listed is not None:
                self.following.lists.remember(record.listed)
        if self.standing is not None:
            self.following.begin_round(self.standing, now)
        return self._finish(now)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at local time ``now`` (seconds, monotonic) and say what to do.

        Raises ProtocolError where the ledger itself makes no sense: ReorgTooDeep, WrongHead.
        """
        match event:
            case LedgerChanged(events):
                self.following.hear(events)
            case LedgerRewound(to_block):
                self.following.rewind(to_block, now)
            case MessageReceived(raw):
                self.mailbox.receive(raw, now)
            case BlobStored(blob):
                self._hold(blob)
            case BlobFailed(blob):
                if self.round is not None:
                    self.round.fetching.discard(blob)
            case ListArrived(certified):
                self.following.take_list(certified)
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
        self.following.go_on(now)
        if self.round is not None:
            self.effects += self.round.progress(now)
            training = self.trained_from == self.round.standing.head
            if self.pace.watch(self.round, now, training=training):
                self.effects.append(FinishTraining())
            due_at = self.pace.due_at(self.round) if training else math.inf
            self.effects.append(WakeAt(min(self.round.wake_at(now), due_at)))
        effects, self.effects = self.effects, []
        for effect in effects:
            if isinstance(effect, Persist):
                self._keep_record(effect)
        return effects

    def _keep_record(self, record: Persist) -> None:
        """Own messages: after a reorg they are said again, never others in their place.

        Any head of a round after the oldest kept one may be on again, also one of a fork that lost and comes back.
        """
        self.records.setdefault(record.head, []).append(record)
        oldest = self.following.kept[0].standing
        if oldest is not None and len(self.records) > RECORDED_HEADS:
            recent = {head: own for head, own in self.records.items() if own[0].round > oldest.round}
            self.records = dict(list(recent.items())[-RECORDED_HEADS_MAX:])

    # Rounds

    def begin_round(
        self, standing: Standing, known: Round | None, others: Sequence[Round], now: float
    ) -> Round:
        """The round that follows ``standing``; ``known`` is the same round as it was before a reorg.

        ``others`` are rounds whose updates may still be listed in this one.
        """
        last, self.round = self.round, Round(self.identity, self.rules, standing, now)
        round_ = self.round
        self.pace.begin_round(round_)
        round_.silent = standing.round < self.silent_through
        round_.book.held.update(self.held)
        for base in standing.bases:
            self._restore_update(round_, base.head, now, say=last is None)
        for record in self.records.get(standing.head, ()):
            self._restore(round_, record, now)
        if known is not None:
            round_.inherit(known, now)
        for other in others:
            round_.carry_over(other, now, set() if last is None else last.fetching)
        self.mailbox.receive_early(now)
        return round_

    def _restore_update(self, round_: Round, base: Hash, now: float, *, say: bool) -> None:
        """Go on with an own update from an earlier head that may still be listed; ``say`` it again after a restart."""
        kept = []
        for record in self.records.get(base, ()):
            message = open_envelope(record.raw, self.identity.domain, self.identity.recover).message
            if isinstance(message, Update) and not may_be_listed(message, round_.standing):
                return
            if isinstance(message, Update | Key):
                kept.append(record)
        for record in kept:
            self._restore(round_, record, now, say=say)

    def _restore(self, round_: Round, record: Persist, now: float, *, say: bool = True) -> None:
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
        blob = signed.message.blob if isinstance(signed.message, Update) else None
        if say:
            self.effects.append(Send(round_.everyone, (record.raw,), blob))

    def _applied(self, head: Hash) -> None:
        if head == self.following.genesis[1]:
            self.reverting = False
            head = self.standing.head if self.standing is not None and self.standing.round == 0 else head
        self.applied = head
        if self.standing is not None and self.standing.head == head:
            self.train(self.standing)

    def train(self, standing: Standing) -> None:
        """Step 1, unless this member is no trainer, or the run is over; after the own update, begin the next round."""
        assert self.round is not None
        if not self._trains(standing.round, standing.trainer_key(self.identity.member)):
            return
        if self.round.own.update is not None:
            self._train_ahead(standing)
            return
        if self.trains_on(standing):
            return
        self.training = standing.head if self.rules.run.staleness else None
        self.trained_from = standing.head
        block = block_of(standing, self.rules.run, self.identity.member)
        self.effects.append(Train(standing, block, self.pace.steps(self.round)))

    def _trains(self, rounds: int, key: Address | None) -> bool:
        """Whether this member, whose updates are signed with ``key``, trains when so many rounds are over."""
        assert self.round is not None
        if rounds >= self.rules.rounds or self.round.silent or self.reverting:
            return False
        return key is not None and self.identity.owns(key)

    def _train_ahead(self, standing: Standing) -> None:
        """Where rounds overlap: begin the round after the one that follows ``standing``, as it is to be expected."""
        member = self.identity.member
        key = next((one.key for one in standing.next_trainers if one.member == member), None)
        block = block_ahead(standing, self.rules.run, member)
        if self.rules.work.overlap and block is not None and self._trains(standing.round + 1, key):
            self.effects.append(TrainAhead(standing, block))

    def trains_on(self, standing: Standing) -> bool:
        """Whether what this peer trains just now may still be listed after ``standing``."""
        return self.training is not None and standing.base_of_head(self.training) is not None

    def _trained(self, done: TrainingDone, head: Hash, now: float) -> None:
        self._hold(done.blob.hash)
        if self.training == head:
            self.training = None
        round_ = self.round
        base = None if round_ is None else round_.standing.base_of_head(head)
        if round_ is None or base is None:
            return
        self.pace.trained(self.identity.member, base.round + 1, done.inner_steps, now)
        round_.announce(done, now)
        if round_.own.update is not None:
            self._train_ahead(round_.standing)
        elif self.applied == round_.standing.head != head:
            self.train(
                round_.standing
            )  # it came too late for every list: begin anew, from where the others are

    # Messages

    def seal(self, message: Message) -> Signed:
        """Sign an own message that is part of no round, with the key that the ledger named last.

        Not with the one that this round's head gives: the others may be further on, and not know it any more.
        """
        return self.identity.seal(message, self.following.newest_key(self.identity.member))

    def refuse(self, error: ProtocolError, signed: Signed | None = None) -> None:
        """Log which rule something broke, and whose it is."""
        facts: dict[str, str | int] = {"rule": type(error).__name__, "why": str(error)}
        if signed is not None:
            facts |= {
                "kind": signed.message.kind,
                "member": signed.message.member.hex(),
                "signer": signed.signer.hex(),
            }
        self.effects.append(Note("refused", facts))

    def _gossip(self, peers: tuple[MemberId, ...], salt: bytes) -> None:
        if self.round is None:
            return
        known = b"".join(short_name(signed.id, salt) for signed in self.round.book.objects())
        digest = Digest(**self.round.header(), salt=salt, known=known)
        self.effects.append(Send(peers, (self.seal(digest).raw,)))
        self.round.fetch_missing()

    # Blobs and payloads

    def _hold(self, blob: Hash) -> None:
        self.held.setdefault(blob, 0 if self.standing is None else self.standing.round)
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

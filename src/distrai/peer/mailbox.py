"""What an engine does with the messages of others: keep, answer, put off, refuse. Part of ``engine.py``."""

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from distrai.peer.answers import choose_answer
from distrai.peer.events import LookAtLedger, OfferList, Send
from distrai.protocol.errors import (
    AlreadyListed,
    BadSignature,
    ForeignHead,
    ForeignRun,
    ProtocolError,
    UnknownUpdate,
)
from distrai.protocol.messages import (
    SHORT_NAME_SIZE,
    Digest,
    Key,
    ListOffer,
    ListRequest,
    Message,
    Signed,
    Update,
    open_envelope,
    short_name,
)
from distrai.protocol.primitives import Hash, MemberId

if TYPE_CHECKING:
    from distrai.peer.engine import Engine

ANSWER_PAUSE_D0 = 1 / 4
"""Between two answers to the same member, as a share of D0."""
ANSWERED_MAX = 4096
EARLY_MESSAGES_MAX = 512
"""Messages of heads that this peer has not seen yet that are kept until it sees them."""


class Mailbox:
    """The messages that arrive at one engine."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.early: dict[Hash, tuple[MemberId, bytes]] = {}
        self.answered: dict[tuple[MemberId, str], float] = {}
        """When each member got its last answer to a question of a kind."""

    def receive(self, raw: bytes, now: float) -> None:
        """Take one envelope, from whomever."""
        engine = self.engine
        try:
            signed = open_envelope(raw, engine.identity.domain, engine.identity.recover)
        except ProtocolError as error:
            engine.refuse(error)
            return
        message = signed.message
        try:
            if message.run != engine.run:
                raise ForeignRun(f"a message of run {message.run}, not of run {engine.run}")
            if isinstance(message, Digest | ListRequest | ListOffer):
                self._check_known(signed)
                self._serve(signed, now)
            elif engine.round is None:
                self._take_before_start(signed, raw)
            elif not engine.round.book.knows(signed.id):
                self._take(signed, raw, now)
        except UnknownUpdate:
            pass  # a key that came before its update: the digests bring both in order
        except ProtocolError as error:
            engine.refuse(error, signed)

    def receive_early(self, now: float) -> None:
        """A new head: what came too early may be of its round."""
        early, self.early = list(self.early.values()), {}
        for _, raw in early:
            self.receive(raw, now)

    def _take_before_start(self, signed: Signed, raw: bytes) -> None:
        """Somebody has seen the first head already: keep what it says until this peer has."""
        if self.engine.following.roster.get(signed.message.member) == signed.signer:
            self._keep_early(signed, raw)
        self.engine.effects.append(LookAtLedger())

    def _take(self, signed: Signed, raw: bytes, now: float) -> None:
        round_, message = self.engine.round, signed.message
        assert round_ is not None
        following = round_.standing.round + 1
        if message.round > following or (
            message.round == following and message.previous_head != round_.standing.head
        ):
            self._check_known(signed)
            if self.engine.following.knows(message.previous_head):
                raise ForeignHead(
                    f"a message of round {message.round} that follows the head of another round"
                )
            self._keep_early(signed, raw)
            self.engine.effects.append(LookAtLedger())
        elif message.round == following:
            round_.take(signed, now)
            round_.roll_call.hear(message.member, now)
        elif isinstance(message, Update | Key) and round_.standing.base_of_head(message.previous_head):
            with suppress(AlreadyListed):
                round_.take(signed, now)
        # else of a round that is over: it came late, and changes nothing any more

    def _keep_early(self, signed: Signed, raw: bytes) -> None:
        """Keep a message for later; where room is short, at the cost of whoever sent most of what is kept."""
        if len(self.early) >= EARLY_MESSAGES_MAX and signed.id not in self.early:
            counts = Counter(member for member, _ in self.early.values())
            loudest = max(counts, key=lambda member: counts[member])
            del self.early[next(name for name, (member, _) in self.early.items() if member == loudest)]
        self.early.setdefault(signed.id, (signed.message.member, raw))

    def _check_known(self, signed: Signed) -> None:
        """Raise unless the member that a message names takes part in the run now, and signed it."""
        if self.engine.following.keys.get(signed.signer) != signed.message.member:
            raise BadSignature("not signed by the key of the member that it names")

    def _serve(self, signed: Signed, now: float) -> None:
        """Answer who knows less, learn from who knows more."""
        message, standing = signed.message, self.engine.standing
        if isinstance(message, ListOffer):
            self.engine.following.take_offer(message, now)
        elif not self._may_answer(message, now):
            return
        elif isinstance(message, Digest):
            self._answer_digest(message, now)
        elif isinstance(message, ListRequest) and standing is not None and message.round <= standing.round:
            self.engine.effects.append(OfferList(message.member, message.round, message.updates_root))

    def _may_answer(self, message: Message, now: float) -> bool:
        """Whether it is long enough since this member asked last: answers cost more than questions."""
        name = (message.member, message.kind)
        if now < self.answered.get(name, float("-inf")) + ANSWER_PAUSE_D0 * self.engine.rules.timing.d0_s:
            return False
        if len(self.answered) >= ANSWERED_MAX:
            self.answered.clear()
        self.answered[name] = now
        return True

    def _answer_digest(self, digest: Digest, now: float) -> None:
        round_, effects = self.engine.round, self.engine.effects
        if round_ is None:
            return
        standing = round_.standing
        if digest.round > standing.round + 1:
            effects.append(LookAtLedger())
        if digest.previous_head != standing.head:
            return
        round_.roll_call.hear(digest.member, now)
        starts = range(0, len(digest.known), SHORT_NAME_SIZE)
        names = {digest.known[at : at + SHORT_NAME_SIZE] for at in starts}
        objects = round_.book.objects()
        lacking = [signed.raw for signed in objects if short_name(signed.id, digest.salt) not in names]
        lacking = choose_answer(lacking, int.from_bytes(digest.salt))
        if lacking:
            effects.append(Send((digest.member,), tuple(lacking)))

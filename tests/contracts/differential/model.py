"""The rules of the registry in Python, from ``rounds.md`` and ``ledger.md`` alone: a plain model that copies nothing.

Every action gives the set of all rules that it breaks. The contract must refuse with one of them, whichever it looks at
first, and must accept if there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from distrai.protocol.body import Body, has_quorum, roll_call_head, start_head
from distrai.protocol.primitives import Address, Hash, MemberId

DOUBLINGS_MAX = 8
GRACE_SHARE = Fraction(1, 4)
NOT_RECOVERED = {"ECDSAInvalidSignature", "UnsortedSigners", "NotASeatKey"}
"""What may be said of a signature over something else: it recovers to nobody, or to anybody."""


@dataclass(frozen=True)
class Rules:
    """The limits of a run."""

    min_seats: int
    max_seats: int
    stall_seconds: int
    roll_call: Fraction
    epoch_rounds: int
    is_open: bool


@dataclass(frozen=True)
class Signed:
    """What is wrong with the signatures of a certificate, and how many there are by whom."""

    signers: tuple[Address, ...]
    faults: frozenset[str] = frozenset()


@dataclass
class Call:
    """A roll call: whose window ends when, and who is in it."""

    round: int
    closes_at: int
    failures: int
    present: set[MemberId] = field(default_factory=set)


@dataclass
class Model:
    """One run and its members. Time is given with every action."""

    run: int
    rules: Rules
    owner: Address
    head: Hash
    state_root: Hash
    keys: dict[MemberId, Address] = field(default_factory=dict)
    past: dict[Address, MemberId] = field(default_factory=dict)
    joined: set[MemberId] = field(default_factory=set)
    left: set[MemberId] = field(default_factory=set)
    seats: dict[MemberId, Address] = field(default_factory=dict)
    started: bool = False
    round: int = 0
    head_at: int = 0
    epoch_seats: int = 0
    epoch_left: int = 0
    call: Call | None = None

    # Members

    def add(self, member: MemberId, key: Address) -> None:
        self.keys[member], self.past[key] = key, member

    def rotate(self, member: MemberId, key: Address, signer: Address) -> set[str]:
        broken = set()
        if key in self.past:
            broken.add("KeyTaken")
        if signer != key:
            broken.add("WrongSigner")
        if not broken:
            self.add(member, key)
        return broken

    def join(
        self, member: MemberId, sender: Address, signer: Address | None, inviter: Address | None
    ) -> set[str]:
        broken = set()
        by_itself = sender == self.keys[member]
        if member in self.joined:
            broken.add("AlreadyJoined")
        if member in self.left and not by_itself:
            broken.add("RejoinOnlyByKey")
        if not by_itself and signer != self.keys[member]:
            broken |= {"WrongSigner", "ECDSAInvalidSignatureLength"}
        if not self.rules.is_open and inviter != self.owner:
            broken |= {"WrongSigner", "ECDSAInvalidSignatureLength"}
        if not broken:
            self.joined.add(member)
            self.left.discard(member)
            if not self.started and len(self.seats) < self.rules.max_seats:
                self.seats[member] = self.keys[member]
        return broken

    def leave(self, member: MemberId, is_entitled: bool) -> set[str]:
        broken = set() if is_entitled else {"NotMember"}
        if member not in self.joined:
            broken.add("NotJoined")
        if not broken:
            self.joined.remove(member)
            self.left.add(member)
            if not self.started:
                self.seats.pop(member, None)
        return broken

    # Rounds

    def start(self, members: Sequence[MemberId], sender: Address, now: int) -> set[str]:
        broken = _unsorted(members)
        if self.started:
            broken.add("RunNotOpen")
        if sender != self.owner:
            broken.add("NotOwner")
        if len(members) != len(self.seats):
            broken.add("SeatsDiffer")
        if len(members) < self.rules.min_seats:
            broken.add("TooFewSeats")
        if set(members) - set(self.seats):
            broken.add("NotASeat")
        if not broken:
            self.started = True
            self.seats = {member: self.keys[member] for member in members}
            self.epoch_seats, self.epoch_left = len(self.seats), self.rules.epoch_rounds
            self._advance(start_head(self.head, list(self.seats.items())), 0, now)
        return broken

    def certify(self, body: Body, signed: Signed, now: int) -> set[str]:
        if not self.started:
            return {"RunNotStarted"}
        seats = {member: key for member, key in self.seats.items() if member not in body.drops}
        seats |= {item.member: item.key for item in body.promotions}
        broken = self._broken_by_place(body) | self._broken_by_signatures(signed)
        broken |= self._broken_by_changes(body, len(seats))
        if not broken:
            self.seats, self.state_root = seats, body.state_root
            if not body.is_empty:
                self.epoch_left -= 1
                if self.epoch_left == 0:
                    self.epoch_seats, self.epoch_left = len(seats), self.rules.epoch_rounds
            self._advance(body.head, body.round, now)
        return broken

    def _broken_by_place(self, body: Body) -> set[str]:
        broken = set()
        if body.round != self.round + 1:
            broken.add("WrongRound")
        if body.previous_head != self.head:
            broken.add("WrongPreviousHead")
        if body.is_empty and body.state_root != self.state_root:
            broken.add("EmptyRoundChangesState")
        return broken

    def _broken_by_signatures(self, signed: Signed) -> set[str]:
        broken = set(signed.faults)
        if not has_quorum(len(signed.signers), len(self.seats)):
            broken.add("NotEnoughSignatures")
        if set(signed.signers) - set(self.seats.values()):
            broken.add("NotASeatKey")
        if list(signed.signers) != sorted(set(signed.signers)):
            broken.add("UnsortedSigners")
        return broken

    def _broken_by_changes(self, body: Body, seats: int) -> set[str]:
        promoted = [item.member for item in body.promotions]
        broken = _unsorted(body.drops) | _unsorted(promoted)
        if set(body.drops) - set(self.seats):
            broken.add("NotASeat")
        if any(self.past.get(item.key) != item.member for item in body.promotions):
            broken.add("NeverRegistered")
        if set(promoted) & set(body.drops):
            broken.add("PromotedAndDropped")
        if promoted and seats > self.rules.max_seats:
            broken.add("TooManySeats")
        if body.drops and seats < self.rules.min_seats:
            broken.add("TooFewSeats")
        return broken

    def _advance(self, head: Hash, number: int, now: int) -> None:
        self.head, self.round, self.head_at = head, number, now

    # Roll calls

    @property
    def current_call(self) -> Call | None:
        """The call of the round that is under way; a head makes every older one void."""
        return self.call if self.call is not None and self.call.round == self.round + 1 else None

    @property
    def needed(self) -> int:
        share = max(self.epoch_seats, len(self.seats)) * self.rules.roll_call
        return -(-share.numerator // share.denominator)

    def closable_at(self, call: Call) -> int:
        grace = self.rules.stall_seconds * GRACE_SHARE
        return call.closes_at - (-grace.numerator // grace.denominator)

    def check_in(self, key: Address, now: int) -> set[str]:
        member = next((member for member, held in self.seats.items() if held == key), None)
        if member is None or not self.started:
            return {"NotASeatSender", "RunNotStarted"}
        call = self.current_call
        if call is None:
            if now < self.head_at + self.rules.stall_seconds:
                return {"NotStalled"}
            self.call = self._open(0, now)
        elif now < call.closes_at:
            if member in call.present:
                return {"AlreadyCheckedIn"}
        elif now < self.closable_at(call):
            return {"WindowClosed"}
        elif len(call.present) >= self.needed:
            return {"RollCallComplete"}
        else:
            self.call = self._open(min(call.failures + 1, DOUBLINGS_MAX), now)
        assert self.call is not None
        self.call.present.add(member)
        return set()

    def _open(self, failures: int, now: int) -> Call:
        return Call(self.round + 1, now + self.rules.stall_seconds * 2**failures, failures)

    def close(self, drops: Sequence[MemberId], now: int) -> set[str]:
        call = self.current_call
        if call is None:
            return {"NoRollCall"}
        broken = _unsorted(drops)
        if now < self.closable_at(call):
            broken.add("NotClosable")
        if len(call.present) < self.needed:
            broken.add("TooFewCheckedIn")
        if len(drops) != len(self.seats) - len(call.present):
            broken.add("DropsDiffer")
        if set(drops) & call.present:
            broken.add("SeatCheckedIn")
        if set(drops) - set(self.seats):
            broken.add("NotASeat")
        if not broken:
            self.seats = {member: self.seats[member] for member in call.present}
            head = roll_call_head(self.head, self.round + 1, self.state_root, drops)
            self._advance(head, self.round + 1, now)
        return broken


def _unsorted(members: Sequence[MemberId]) -> set[str]:
    return set() if list(members) == sorted(set(members)) else {"UnsortedMembers"}

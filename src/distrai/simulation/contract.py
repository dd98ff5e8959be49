"""A model of the registry contract for one run: who is in, which seats there are, heads, roll calls.

It decides as ``contracts/src`` does, and refuses under the same names. Time comes with every transaction, as
``block.timestamp`` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

from distrai.protocol.body import CHANGES_MAX, Body, has_quorum, roll_call_head, start_head
from distrai.protocol.errors import BadSignature
from distrai.protocol.ledger_events import (
    Certified,
    CheckedIn,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    Started,
)
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes
from distrai.simulation.toy import DOMAIN, RUN, recover
from distrai.simulation.transactions import (
    Certify,
    CheckingIn,
    Close,
    Join,
    Leave,
    Rotate,
    Start,
    Transaction,
)

DOUBLINGS_MAX = 8
GRACE_DIVISOR = 4
Event = Callable[[Position], LedgerEvent]
"""An event that has no place yet."""


class Refused(Exception):
    """The contract reverts; the name is that of its error."""


@dataclass(frozen=True)
class Limits:
    """What the owner of the run fixed. ``roll_call`` is the share of seats that a roll call needs, as a fraction."""

    min_seats: int = 1
    max_seats: int = 64
    stall_seconds: int = 3600
    roll_call: tuple[int, int] = (1, 2)
    epoch_rounds: int = 8


@dataclass(frozen=True)
class Call:
    """A roll call: which one of the run, for which round, until when one may check in, and who did."""

    number: int
    round: int
    closes_at: int
    failures: int
    present: frozenset[MemberId] = frozenset()


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise Refused(name)


def _check_sorted(members: Sequence[MemberId]) -> None:
    _require(all(first < second for first, second in pairwise(members)), "UnsortedMembers")


@dataclass
class Contract:
    """One run and the members of its registry. ``keys`` are current ones, ``past`` has every pair ever registered."""

    limits: Limits
    head: Hash
    state_root: Hash
    keys: dict[MemberId, Address] = field(default_factory=dict)
    past: dict[Address, MemberId] = field(default_factory=dict)
    parts: dict[MemberId, bool] = field(default_factory=dict)
    """Who ever joined, and whether it is in now."""
    seats: dict[MemberId, Address] = field(default_factory=dict)
    is_started: bool = False
    round: int = 0
    head_at: int = 0
    epoch_seats: int = 0
    epoch_left: int = 0
    call: Call | None = None

    def copy(self) -> Self:
        """A contract that may change without changing this one."""
        return replace(
            self, keys=dict(self.keys), past=dict(self.past), parts=dict(self.parts), seats=dict(self.seats)
        )

    def register(self, member: MemberId, key: Address) -> None:
        """Register a member, or another key of one."""
        self.keys[member], self.past[key] = key, member

    def apply(self, sent: Transaction, now: int) -> Event:
        """Take a transaction at block time ``now`` (seconds); gives the event. Raises Refused; then nothing changed."""
        match sent:
            case Join(member):
                return self._join(member)
            case Leave(member):
                return self._leave(member)
            case Rotate(member, key):
                return self._rotate(member, key)
            case Start(members):
                return self._start(members, now)
            case Certify(body, signatures):
                return self._certify(body, signatures, now)
            case CheckingIn(key):
                return self._check_in(key, now)
            case Close(drops):
                return self._close(drops, now)

    # Admission

    def _join(self, member: MemberId) -> Event:
        _require(member in self.keys, "UnknownMember")
        _require(not self.parts.get(member), "AlreadyJoined")
        self.parts[member] = True
        key = self.keys[member]
        seat = not self.is_started and len(self.seats) < self.limits.max_seats
        if seat:
            self.seats[member] = key
        return lambda at: Joined(at, member, key, seat)

    def _leave(self, member: MemberId) -> Event:
        _require(bool(self.parts.get(member)), "NotJoined")
        self.parts[member] = False
        if not self.is_started:
            self.seats.pop(member, None)
        return lambda at: Left(at, member)

    def _rotate(self, member: MemberId, key: Address) -> Event:
        _require(key not in self.past, "KeyTaken")
        self.register(member, key)
        return lambda at: KeyChanged(at, member, key)

    def _start(self, members: tuple[MemberId, ...], now: int) -> Event:
        _require(not self.is_started, "RunNotOpen")
        _require(members == tuple(sorted(self.seats)), "SeatsDiffer")
        _require(len(self.seats) >= self.limits.min_seats, "TooFewSeats")
        self.is_started = True
        self.seats = {member: self.keys[member] for member in members}
        self.epoch_seats, self.epoch_left = len(self.seats), self.limits.epoch_rounds
        head = start_head(self.head, list(self.seats.items()))
        self.head, self.head_at = head, now
        seats = tuple(Trainer(member, key) for member, key in self.seats.items())
        return lambda at: Started(at, head, seats)

    # Rounds

    def _certify(self, body: Body, signatures: Sequence[SignatureBytes], now: int) -> Event:
        _require(self.is_started, "RunNotStarted")
        _require(body.run == RUN and body.round == self.round + 1, "WrongRound")
        _require(body.previous_head == self.head, "WrongPreviousHead")
        _require(not body.is_empty or body.state_root == self.state_root, "EmptyRoundChangesState")
        self._check_signatures(body, signatures)
        seats = self._changed_seats(body)
        self.seats, self.state_root = seats, body.state_root
        if not body.is_empty:
            self.epoch_left -= 1
            if self.epoch_left == 0:
                self.epoch_left, self.epoch_seats = self.limits.epoch_rounds, len(seats)
        head = body.head
        self._advance(head, now)
        return lambda at: Certified(at, body, head)

    def _check_signatures(self, body: Body, signatures: Sequence[SignatureBytes]) -> None:
        _require(has_quorum(len(signatures), len(self.seats)), "NotEnoughSignatures")
        digest, known = DOMAIN.digest(body.id), set(self.seats.values())
        try:
            signers = [recover(digest, signature) for signature in signatures]
        except BadSignature as error:
            raise Refused("NotASeatKey") from error
        _require(all(first < second for first, second in pairwise(signers)), "UnsortedSigners")
        _require(set(signers) <= known, "NotASeatKey")

    def _changed_seats(self, body: Body) -> dict[MemberId, Address]:
        """The seats after a certificate; limits count after both promotions and drops."""
        promotions, drops = body.promotions, body.drops
        _require(max(len(promotions), len(drops)) <= CHANGES_MAX, "TooManyChanges")
        promoted = [item.member for item in promotions]
        _check_sorted(drops)
        _check_sorted(promoted)
        _require(set(drops) <= set(self.seats), "NotASeat")
        _require(all(self.past.get(item.key) == item.member for item in promotions), "NeverRegistered")
        _require(not set(promoted) & set(drops), "PromotedAndDropped")
        seats = {member: key for member, key in self.seats.items() if member not in drops}
        seats |= {item.member: item.key for item in promotions}
        _require(not promotions or len(seats) <= self.limits.max_seats, "TooManySeats")
        _require(not drops or len(seats) >= self.limits.min_seats, "TooFewSeats")
        return seats

    def _advance(self, head: Hash, now: int) -> None:
        self.head, self.head_at, self.round = head, now, self.round + 1

    # Roll calls

    @property
    def needed(self) -> int:
        """How many must check in."""
        numerator, denominator = self.limits.roll_call
        return -(-max(self.epoch_seats, len(self.seats)) * numerator // denominator)

    @property
    def current_call(self) -> Call | None:
        """The call of the round that is on."""
        return self.call if self.call is not None and self.call.round == self.round + 1 else None

    def closable_at(self, call: Call) -> int:
        """When a call may be closed: some time after its window, for certificates that are on their way."""
        return call.closes_at - (-self.limits.stall_seconds // GRACE_DIVISOR)

    def _check_in(self, key: Address, now: int) -> Event:
        member = next((member for member, held in self.seats.items() if held == key), None)
        if member is None:
            raise Refused("NotASeatSender")
        _require(self.is_started, "RunNotStarted")
        call = self._open_call(now)
        _require(member not in call.present, "AlreadyCheckedIn")
        self.call = replace(call, present=call.present | {member})
        return lambda at: CheckedIn(at, call.round, member, call.number)

    def _open_call(self, now: int) -> Call:
        """The call whose window is open, or a new one."""
        call = self.current_call
        number, failures = 0 if self.call is None else self.call.number, 0
        if call is None:
            _require(now >= self.head_at + self.limits.stall_seconds, "NotStalled")
        elif now < call.closes_at:
            return call
        else:
            _require(now >= self.closable_at(call), "WindowClosed")
            _require(len(call.present) < self.needed, "RollCallComplete")
            failures = min(call.failures + 1, DOUBLINGS_MAX)
        closes_at = now + (self.limits.stall_seconds << failures)
        return Call(number + 1, self.round + 1, closes_at, failures)

    def _close(self, drops: tuple[MemberId, ...], now: int) -> Event:
        call = self.current_call
        if call is None:
            raise Refused("NoRollCall")
        _require(now >= self.closable_at(call), "NotClosable")
        _require(len(call.present) >= self.needed, "TooFewCheckedIn")
        _require(len(drops) == len(self.seats) - len(call.present), "DropsDiffer")
        _check_sorted(drops)
        _require(not set(drops) & call.present, "SeatCheckedIn")
        _require(set(drops) <= set(self.seats), "NotASeat")
        self.seats = {member: key for member, key in self.seats.items() if member not in drops}
        before, state_root = self.head, self.state_root
        head = roll_call_head(before, call.round, state_root, drops)
        self._advance(head, now)
        return lambda at: RollCalled(at, call.round, head, before, state_root, drops)

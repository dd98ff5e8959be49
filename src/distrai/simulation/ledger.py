"""A model of the registry contract: the first valid certificate of a round wins, and is never taken back."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from distrai.peer.identity import Identity
from distrai.protocol.body import Body, has_quorum, start_head
from distrai.protocol.errors import BadSignature
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, Joined, LedgerEvent, Position, Started
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import Address, MemberId, SignatureBytes
from distrai.simulation.clock import Clock
from distrai.simulation.scenario import LedgerFaults
from distrai.simulation.toy import DOMAIN, recover

RUN = 7
GENESIS_HEAD = keccak(b"genesis")
GENESIS_STATE = keccak(b"state 0")
Certificate = tuple[Body, tuple[SignatureBytes, ...]]


class LedgerModel:
    """One run on one ledger."""

    def __init__(self, clock: Clock, random: Random, faults: LedgerFaults) -> None:
        self.clock, self.random, self.faults = clock, random, faults
        self.events: list[LedgerEvent] = []
        self.seats: dict[MemberId, Address] = {}
        self.head, self.round, self.state_root = GENESIS_HEAD, 0, GENESIS_STATE
        self.bodies: list[Body] = []
        self.closed_at: list[float] = []
        self.block = 0
        self.refused = 0
        self.reachable = True
        self._waiting: list[Certificate] = []

    def open(self, members: Sequence[Identity]) -> None:
        """Everybody joins; the run starts one block later; from then on there is a block every ``block_s``."""
        for index, identity in enumerate(members):
            self.seats[identity.member] = identity.address
            self.events.append(Joined(self._position(index), identity.member, identity.address, True))
        self.block += 1
        seats = tuple(sorted(Trainer(member, key) for member, key in self.seats.items()))
        self.head = start_head(GENESIS_HEAD, [(seat.member, seat.key) for seat in seats])
        self.events.append(Started(self._position(0), self.head, seats))
        self.clock.after(self.faults.block_s, self._mine)

    def _position(self, index: int) -> Position:
        return Position(self.block, index, keccak(b"block %d" % self.block))

    def submit(self, certificate: Certificate) -> None:
        """Take a certificate for the next block, unless it gets lost."""
        if self.reachable:
            self._waiting.append(certificate)

    def events_after(self, position: Position | None) -> tuple[LedgerEvent, ...]:
        """What a peer that knows everything up to ``position`` has not seen."""
        if not self.reachable:
            return ()
        return tuple(event for event in self.events if position is None or event.at > position)

    def _mine(self) -> None:
        self.block += 1
        waiting, self._waiting = self._waiting, []
        for body, signatures in waiting:
            if self._is_valid(body, signatures):
                self._certify(body)
            else:
                self.refused += 1
        self.clock.after(self.faults.block_s, self._mine)

    def _certify(self, body: Body) -> None:
        self.head, self.round, self.state_root = body.head, body.round, body.state_root
        for member in body.drops:
            del self.seats[member]
        self.bodies.append(body)
        self.closed_at.append(self.clock.now)
        self.events.append(Certified(self._position(0), body, body.head))

    def _is_valid(self, body: Body, signatures: Sequence[SignatureBytes]) -> bool:
        """As ``certify`` decides: it follows the head, and enough different seats signed, in ascending order."""
        if body.run != RUN or body.round != self.round + 1 or body.previous_head != self.head:
            return False
        if body.is_empty and body.state_root != self.state_root:
            return False
        if not set(body.drops) <= set(self.seats):
            return False
        digest = DOMAIN.digest(body.id)
        try:
            signers = [recover(digest, signature) for signature in signatures]
        except BadSignature:
            return False
        ascending = all(first < second for first, second in pairwise(signers))
        known = set(signers) <= set(self.seats.values())
        return ascending and known and has_quorum(len(signers), len(self.seats))

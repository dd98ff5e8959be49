"""What the ledger tells about a run, in the order in which it became true: the events of ``RunRegistry``."""

from dataclasses import dataclass

from distrai.protocol.body import Body, Genesis
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import Address, Hash, MemberId


@dataclass(frozen=True, order=True)
class Position:
    """Where an event stands on the ledger. ``block_hash`` shows a reorg; it does not order."""

    block_number: int
    log_index: int
    block_hash: Hash


@dataclass(frozen=True)
class LedgerEvent:
    """What every event has."""

    at: Position


@dataclass(frozen=True)
class RunOpened(LedgerEvent):
    """A run exists: whoever joins is a seat at once."""

    genesis: Genesis
    owner: Address


@dataclass(frozen=True)
class Joined(LedgerEvent):
    """A member takes part, with this key; as a seat at once while the run is open."""

    member: MemberId
    key: Address
    seat: bool


@dataclass(frozen=True)
class Left(LedgerEvent):
    """A member asked to leave: no trainer from the next head on, and no seat once a certificate dropped it."""

    member: MemberId


@dataclass(frozen=True)
class Deactivated(LedgerEvent):
    """A member's stake counts no more in a run that asks for stakes: from here on it is as if it had left."""

    member: MemberId


@dataclass(frozen=True)
class KeyChanged(LedgerEvent):
    """A member signs with another key from the next head on (a seat: from its promotion with that key)."""

    member: MemberId
    key: Address


@dataclass(frozen=True)
class Announced(LedgerEvent):
    """A bootstrap address of the run."""

    member: MemberId
    endpoint: str


@dataclass(frozen=True)
class Started(LedgerEvent):
    """The first head; ``seats`` are sorted by member."""

    head: Hash
    seats: tuple[Trainer, ...]


@dataclass(frozen=True)
class Certified(LedgerEvent):
    """A certificate landed: from now on this is the round, for everyone."""

    body: Body
    head: Hash


@dataclass(frozen=True)
class CheckedIn(LedgerEvent):
    """A seat says that it is alive, into the open roll call of this round. ``call`` numbers the run's roll calls."""

    round: int
    member: MemberId
    call: int


@dataclass(frozen=True)
class RollCalled(LedgerEvent):
    """A roll call closed: an empty round without the seats that did not check in."""

    round: int
    head: Hash
    previous_head: Hash
    state_root: Hash
    drops: tuple[MemberId, ...]

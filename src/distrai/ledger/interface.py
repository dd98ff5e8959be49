"""What a run needs of its ledger, whichever it is: a chain through ``LedgerClient``, or a model in a simulator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from distrai.ledger.follower import BlockMark, Reader
from distrai.ledger.keys import NodeKey
from distrai.protocol.body import Body
from distrai.protocol.ledger_events import Position
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes

__all__ = [
    "BlockMark",
    "Ledger",
    "Limits",
    "MemberState",
    "Membership",
    "Opening",
    "Reader",
    "RollCallState",
    "RunState",
]


@dataclass(frozen=True)
class Opening:
    """What a run commits to when it is opened; all of it is in the genesis head. ``parent_*`` are zero without one."""

    recipe_hash: Hash
    state_root: Hash
    data_hash: Hash
    tokenizer_hash: Hash
    parent_run: int = 0
    parent_round: int = 0
    parent_head: Hash = ZERO_HASH


@dataclass(frozen=True)
class Limits:
    """What the ledger holds of a recipe. ``stall_seconds`` is ledger time, ``roll_call_min`` a share of the seats."""

    min_seats: int
    max_seats: int
    stall_seconds: int
    roll_call_min: tuple[int, int] = (1, 2)
    epoch_rounds: int = 64
    """Non-empty rounds between two looks at how many seats a roll call is measured against."""
    open_admission: bool = False


@dataclass(frozen=True)
class RunState:
    """Where a run stands. ``round`` counts the rounds that are over; ``head_at`` is ledger time.

    Until it is started ``head`` is the genesis head and ``beacon`` is zero.
    """

    owner: Address
    recipe_hash: Hash
    started: bool
    round: int
    seats: int
    head: Hash
    head_at: int
    state_root: Hash
    beacon: Hash
    epoch_seats: int
    epoch_rounds_left: int
    limits: Limits


@dataclass(frozen=True)
class RollCallState:
    """A run's newest roll call, void once ``round`` is over; ``needed`` must check in. Times are ledger time."""

    number: int
    round: int
    closes_at: int
    closable_at: int
    failures: int
    checked_in: int
    needed: int


@dataclass(frozen=True)
class MemberState:
    """The attributes of a member. ``payout`` zero means the controller; ``key_since`` is a block number."""

    controller: Address
    rotations: int
    key: Address
    key_since: int
    payout: Address


@dataclass(frozen=True)
class Membership:
    """A member's part in a run: the key with which it attests (None without a seat), and whether it trains."""

    seat_key: Address | None
    joined: bool
    checked_in: int
    """The number of the roll call that it checked in to last."""


class Ledger(Reader, Protocol):
    """Order and membership. Every call has a deadline.

    Calls raise LedgerRefused with the contract's reason, LedgerUnreachable (nothing is known; ask again) or another
    LedgerError. What is sent is sent by the key that the ledger was connected with.
    """

    async def run_state(self, run: int) -> RunState:
        """Where a run stands."""
        ...

    async def attestations(self, body: Body, at: Position) -> tuple[SignatureBytes, ...]:
        """The signatures with which the certificate at this position was accepted."""
        ...

    async def member_of_key(self, key: Address) -> MemberId | None:
        """Whose key this is or was."""
        ...

    async def open_run(self, opening: Opening, limits: Limits) -> int:
        """Open a run and give its number; whoever joins before the start is a seat."""
        ...

    async def register(self, key: NodeKey, controller: Address, payout: Address) -> MemberId:
        """Become a member; ``key`` signs for it."""
        ...

    async def join(self, run: int, member: MemberId, key: NodeKey, invitation: bytes = b"") -> None:
        """Take part in a run."""
        ...

    async def leave(self, run: int, member: MemberId) -> None:
        """Take part no longer; a seat attests until a certificate drops it."""
        ...

    async def announce(self, run: int, member: MemberId, endpoint: str) -> None:
        """Give newcomers an address to ask first."""
        ...

    async def start(self, run: int, seats: Sequence[MemberId]) -> Hash:
        """Make the first head; ``seats`` are all that joined, sorted. Gives the head."""
        ...

    async def certify(self, body: Body, signatures: Sequence[SignatureBytes]) -> Hash:
        """End a round; ``signatures`` are sorted by signer. Gives the new head."""
        ...

    async def check_in(self, run: int, key: NodeKey) -> None:
        """Say that the seat with this key is alive, opening a roll call if the run is stalled."""
        ...

    async def close_roll_call(self, run: int, drops: Sequence[MemberId]) -> None:
        """End a roll call; ``drops`` are the seats that did not check in, sorted."""
        ...

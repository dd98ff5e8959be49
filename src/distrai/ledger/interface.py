"""What a run needs of its ledger, whichever it is: a chain through ``LedgerClient``, or a model in a simulator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from distrai.ledger.follower import BlockMark, Reader
from distrai.ledger.keys import NodeKey
from distrai.protocol.body import Body
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes

__all__ = ["BlockMark", "Ledger", "Limits", "MemberState", "Opening", "Reader", "RollCallState", "RunState"]


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
    """Limits of a run, from its recipe. Seconds are ledger time; ``roll_call_min`` is a share of the seats."""

    min_seats: int
    max_seats: int
    stall_seconds: int
    round_seconds_min: int = 0
    roll_call_min: tuple[int, int] = (1, 2)
    epoch_rounds: int = 64
    """Non-empty rounds between two looks at how many seats a roll call is measured against."""
    open_admission: bool = False


@dataclass(frozen=True)
class RunState:
    """Where a run stands. ``round`` counts the rounds that are over; ``last_at`` is ledger time."""

    owner: Address
    started: bool
    round: int
    seats: int
    head: Hash
    state_root: Hash
    beacon: Hash
    last_at: int
    epoch_count: int
    epoch_seats: int


@dataclass(frozen=True)
class RollCallState:
    """A run's roll call; ``closes_at`` is zero if none is open."""

    closes_at: int
    number: int
    present: int
    failures: int


@dataclass(frozen=True)
class MemberState:
    """The attributes of a member."""

    controller: Address
    key: Address
    payout: Address
    rotations: int


class Ledger(Reader, Protocol):
    """Order and membership. Every call has a deadline.

    Calls raise LedgerRefused with the contract's reason, LedgerUnreachable (nothing is known; ask again) or another
    LedgerError. What is sent is sent by the key that the ledger was connected with.
    """

    async def run_state(self, run: int) -> RunState:
        """Where a run stands."""
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

    async def check_in(self, run: int, member: MemberId, key: NodeKey) -> None:
        """Say that a seat is alive, opening a roll call if the run is stalled."""
        ...

    async def close_call(self, run: int, drops: Sequence[MemberId]) -> None:
        """End a roll call; ``drops`` are the seats that did not check in, sorted."""
        ...

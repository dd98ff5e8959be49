"""What the ledger tells about a run's money, in the order in which it became true.

The events of ``RewardsDistributor``, ``StakeManager`` and ``TrainingRecords``; what they mean is beside the contracts.
"""

from dataclasses import dataclass

from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.rewards import RewardTerms


@dataclass(frozen=True)
class PotOpened(LedgerEvent):
    """A run pays from the round after ``after_round`` on."""

    run: int
    owner: Address
    after_round: int
    terms: RewardTerms


@dataclass(frozen=True)
class Funded(LedgerEvent):
    """More can be earned; ``funded`` is all that ever came in, base units."""

    run: int
    sender: Address
    amount: int
    funded: int


@dataclass(frozen=True)
class MemberAllowed(LedgerEvent):
    """A member may earn from ``first_round`` on."""

    run: int
    member: MemberId
    first_round: int


@dataclass(frozen=True)
class MemberDisallowed(LedgerEvent):
    """A member earns nothing after ``last_round``."""

    run: int
    member: MemberId
    last_round: int


@dataclass(frozen=True)
class HeadMarked(LedgerEvent):
    """An epoch may end with this head; ``worked`` non-empty rounds lead to it, ``time`` is its block's."""

    run: int
    round: int
    head: Hash
    worked: int
    time: int


@dataclass(frozen=True)
class EpochSettled(LedgerEvent):
    """Two thirds of the seats signed an epoch; it can be claimed from ``active_from`` (ledger time) on."""

    run: int
    epoch: int
    root: Hash
    total: int
    last_round: int
    head: Hash
    data_hash: Hash
    active_from: int


@dataclass(frozen=True)
class EpochKilled(LedgerEvent):
    """This epoch and all after it are dead; ``live`` remain, ``kills`` were there so far."""

    run: int
    epoch: int
    live: int
    kills: int


@dataclass(frozen=True)
class RewardClaimed(LedgerEvent):
    """A member was paid; ``claimed`` is what it was paid in all. ``transaction`` is the evidence."""

    run: int
    member: MemberId
    epoch: int
    to: Address
    amount: int
    claimed: int
    transaction: Hash


@dataclass(frozen=True)
class PotClosed(LedgerEvent):
    """No round after ``last_round`` is paid, nor more than ``worked_max`` non-empty ones. ``time`` is its block's."""

    run: int
    last_round: int
    worked_max: int
    time: int


@dataclass(frozen=True)
class Refunded(LedgerEvent):
    """The owner got back what nobody earned."""

    run: int
    to: Address
    amount: int


@dataclass(frozen=True)
class StakeTermsSet(LedgerEvent):
    """What a seat of the run must stake, and what one fault costs at most."""

    run: int
    minimum: int
    fault_max: int


@dataclass(frozen=True)
class Staked(LedgerEvent):
    """A member has ``staked`` staked now."""

    run: int
    member: MemberId
    amount: int
    staked: int


@dataclass(frozen=True)
class ExitAsked(LedgerEvent):
    """A member wants its stake back while it has a seat: it counts for none any more."""

    run: int
    member: MemberId
    unbond_at: int


@dataclass(frozen=True)
class Unbonding(LedgerEvent):
    """All of a member's stake is on its way out."""

    run: int
    member: MemberId
    unbonding: int
    release_at: int


@dataclass(frozen=True)
class Withdrawn(LedgerEvent):
    """A member got its stake back."""

    run: int
    member: MemberId
    to: Address
    amount: int


@dataclass(frozen=True)
class Slashed(LedgerEvent):
    """A member signed two Updates for one place; ``active``: what is left still counts for a seat."""

    run: int
    member: MemberId
    place: Hash
    challenger: Address
    from_staked: int
    from_unbonding: int
    reward: int
    active: bool


@dataclass(frozen=True)
class RecordOpened(LedgerEvent):
    """Somebody asks for a training; ``claims`` is the ABI encoding of its Request."""

    record: int
    sender: Address
    run: int
    source: Hash
    claims: bytes
    time: int
    transaction: Hash


@dataclass(frozen=True)
class StageReached(LedgerEvent):
    """A training has come this far; stages are numbered as in ``ITrainingRecords.Stage``."""

    record: int
    stage: int
    evidence: Hash


@dataclass(frozen=True)
class RecordClosed(LedgerEvent):
    """A record is complete, by its sender or by the seats of its run."""

    record: int
    round: int
    state_root: Hash
    manifest: Hash
    table: Hash
    training_seconds: int
    gpu_seconds: int
    peers: int
    by_seats: bool

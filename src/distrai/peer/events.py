"""What can happen to a peer (events), and what it wants done about it (effects): the whole surface of the engine.

Clock, randomness, network, ledger, disk, codecs and training are all outside: they tell the engine by events and
are asked by effects. Effects are carried out in order; what is to be persisted is on disk before the next effect is
looked at.
"""

from dataclasses import dataclass

from distrai.protocol.assignment import Block
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import Signed, Update
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes
from distrai.protocol.standing import Standing


class Event:
    """Something happened."""


@dataclass(frozen=True)
class LedgerChanged(Event):
    """New events of the run, in the ledger's order, each given once."""

    events: tuple[LedgerEvent, ...]


@dataclass(frozen=True)
class LedgerRewound(Event):
    """The ledger's blocks above ``to_block`` are not on its chain any more: what came with them did not happen.

    Nothing more of the ledger may be told until ``Refollow`` says from where on.
    """

    to_block: int


@dataclass(frozen=True)
class MessageReceived(Event):
    """An envelope arrived, from whomever."""

    raw: bytes


@dataclass(frozen=True)
class BlobStored(Event):
    """A blob is held whole, and can be served."""

    blob: Hash


@dataclass(frozen=True)
class BlobFailed(Event):
    """Nobody who was asked served the blob in time."""

    blob: Hash


@dataclass(frozen=True)
class ListArrived(Event):
    """The bytes of a list that somebody offered, decoded."""

    certified: CertifiedList


@dataclass(frozen=True)
class UpdateOpened(Event):
    """An update was decrypted and its payload checked; ``error`` says which absolute check it failed."""

    update: Hash
    error: str | None


@dataclass(frozen=True)
class StateComputed(Event):
    """Where the list with this root leads to from the state of ``head``."""

    head: Hash
    updates_root: Hash
    state_root: Hash


@dataclass(frozen=True)
class StateApplied(Event):
    """The private and common state now follow ``head`` (after Apply or Revert): training may start from it."""

    head: Hash


@dataclass(frozen=True)
class TrainingDone(Event):
    """The own inner steps from ``head`` are done, encoded, sealed and stored.

    ``tau`` of them were taken before the state of ``head`` was there.
    """

    head: Hash
    blob: BlobRef
    key: bytes
    inner_steps: int
    tokens: int
    tau: int = 0


@dataclass(frozen=True)
class GossipDue(Event):
    """Time to tell ``peers`` what is known here; they and the ``salt`` (16 bytes) are drawn at random outside."""

    peers: tuple[MemberId, ...]
    salt: bytes


@dataclass(frozen=True)
class Tick(Event):
    """The time that ``WakeAt`` asked for has come."""


class Effect:
    """Something to be done."""


@dataclass(frozen=True)
class Persist(Effect):
    """Make durable: an own message of the round that follows ``head``, with what is needed to stand by it.

    ``secret`` is the key of an own update, ``listed`` the list of a signed body, ``body`` that body.
    """

    head: Hash
    round: int
    raw: bytes
    secret: bytes = b""
    body: Body | None = None
    listed: CertifiedList | None = None


@dataclass(frozen=True)
class Send(Effect):
    """Send an envelope, with the blob it names where that is small."""

    to: tuple[MemberId, ...]
    raws: tuple[bytes, ...]
    blob: BlobRef | None = None


@dataclass(frozen=True)
class Fetch(Effect):
    """Get a blob from any of ``holders`` (the likeliest first)."""

    blob: BlobRef
    holders: tuple[MemberId, ...]


@dataclass(frozen=True)
class FetchList(Effect):
    """Get the blob of a list from who offered it, and report it decoded."""

    blob: BlobRef
    holder: MemberId


@dataclass(frozen=True)
class OfferList(Effect):
    """Answer a request for the list of an earlier round, from disk."""

    to: MemberId
    round: int
    updates_root: Hash


@dataclass(frozen=True)
class Open(Effect):
    """Decrypt and check the payload of an update."""

    id: Hash
    update: Update
    key: bytes


@dataclass(frozen=True)
class Evaluate(Effect):
    """Compute the state root that a list leads to."""

    standing: Standing
    certified: CertifiedList


@dataclass(frozen=True)
class Apply(Effect):
    """A certificate landed: make its state the current one, and settle the own error feedback.

    Or a roll call closed: then there is neither ``body`` nor ``certified``, and the state stays as it was.
    ``standing`` is what holds from now on, ``own`` says whether the own update was in the list; ``roster`` and ``at``
    are who takes part and the ledger position up to which events were taken: with ``standing`` a checkpoint.
    """

    before: Standing
    standing: Standing
    body: Body | None
    certified: CertifiedList | None
    own: bool
    roster: dict[MemberId, Address]
    at: Position
    leftovers: tuple[BlobRef, ...] = ()
    """Ciphertexts of the round that are held and not in the list: nobody needs them once no reorg can list them."""


@dataclass(frozen=True)
class Revert(Effect):
    """The ledger took heads back: state and private state are again those that follow ``standing``.

    None: those of before round 1. What was applied since is void; StateApplied (of the genesis head for None) says when
    it is done.
    """

    standing: Standing | None


@dataclass(frozen=True)
class Refollow(Effect):
    """Tell the ledger's events after this position from now on, those told before too. None: from the first on."""

    after: Position | None


@dataclass(frozen=True)
class Train(Effect):
    """Run ``steps`` inner steps from the current state on this block of the data."""

    standing: Standing
    block: Block
    steps: int


@dataclass(frozen=True)
class TrainAhead(Effect):
    """The own update of the round that follows ``standing`` is announced: begin the round after that one.

    As many inner steps as the recipe lets overlap, on this block of the data. If that round turns out to be another
    one, Train names another block, and these steps were for nothing.
    """

    standing: Standing
    block: Block


@dataclass(frozen=True)
class FinishTraining(Effect):
    """The others are waiting: end after the current inner step, and seal what was learned so far."""


@dataclass(frozen=True)
class StopTraining(Effect):
    """The round is over without the own update."""


@dataclass(frozen=True)
class Submit(Effect):
    """Send a certificate to the ledger; signatures are sorted by signer."""

    body: Body
    signatures: tuple[SignatureBytes, ...]


@dataclass(frozen=True)
class CheckIn(Effect):
    """Tell the ledger that this seat is alive: into the open roll call, or to open one."""


@dataclass(frozen=True)
class CloseRollCall(Effect):
    """Ask the ledger to end the round without the seats that did not check in (sorted)."""

    absent: tuple[MemberId, ...]


@dataclass(frozen=True)
class ReportFault(Effect):
    """A member signed two different Updates for one place: tell the ledger, where it has a stake to lose."""

    first: Signed
    second: Signed


@dataclass(frozen=True)
class WakeAt(Effect):
    """Send a Tick at this local time (seconds, monotonic); replaces the one asked for before."""

    at: float


@dataclass(frozen=True)
class LookAtLedger(Effect):
    """Somebody seems to know more of the ledger: do not wait for the next look at it."""


@dataclass(frozen=True)
class Note(Effect):
    """For the event log: ``what`` happened, with short facts about it."""

    what: str
    facts: dict[str, str | int]

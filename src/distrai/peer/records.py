"""How what the engine persists becomes the bytes of log entries, and back."""

import msgspec

from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.protocol.bases import Base
from distrai.protocol.body import Body, Genesis, roll_call_head
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList, Trainer
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.standing import ListedRound, Seat, Standing

OWN = "own"
"""Kind of the log entries that hold an own message."""
MEMBER = "member"
"""Kind of the log entry that every log begins with: whose it is, and from which round on it is whole."""
APPLIED = "applied"
"""Kind of the log entries that hold a checkpoint."""
ADOPTED = "adopted"
"""Kind of the log entries that say that a snapshot follows: checkpoints before it are void."""
REVERTED = "reverted"
"""Kind of the log entries that say to which head a reorg led back: checkpoints after it are void."""


class _Own(msgspec.Struct, frozen=True, array_like=True):
    raw: bytes
    secret: bytes
    body: Body | None
    listed: CertifiedList | None


class _Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    run: int
    round: int
    head: Hash
    state_root: Hash
    seats: tuple[tuple[MemberId, Address, int, int], ...]
    trainers: tuple[Trainer, ...]
    cursor: int
    next_trainers: tuple[Trainer, ...]
    recent: tuple[tuple[int, tuple[MemberId, ...]], ...]
    enrolled: tuple[Trainer, ...]
    roster: tuple[tuple[MemberId, Address], ...]
    at: tuple[int, int, Hash]
    before: Hash = ZERO_HASH
    bases: tuple[tuple[int, Hash, Hash, tuple[Trainer, ...]], ...] = ()
    spent: tuple[tuple[MemberId, int], ...] = ()


class CertificateRecord(msgspec.Struct, frozen=True, array_like=True):
    """A certificate as it is published: the body, and the signatures that the ledger accepted."""

    body: Body
    signatures: tuple[SignatureBytes, ...]


class RollCallRecord(msgspec.Struct, frozen=True, array_like=True):
    """A closed roll call as it is published: an empty round, whose head commits to all of this."""

    round: int
    previous_head: Hash
    state_root: Hash
    drops: tuple[MemberId, ...]

    @property
    def head(self) -> Hash:
        """The head that it made."""
        return roll_call_head(self.previous_head, self.round, self.state_root, self.drops)


class GenesisRecord(msgspec.Struct, frozen=True, array_like=True):
    """How a run began: what its genesis head commits to, and the seats of its first head."""

    genesis: Genesis
    seats: tuple[Trainer, ...]


def encode_own(record: Persist) -> bytes:
    """The data of an ``own`` entry."""
    return msgspec.msgpack.encode(_Own(record.raw, record.secret, record.body, record.listed))


def decode_own(data: bytes, head: Hash, round_number: int) -> Persist:
    """The record of an ``own`` entry."""
    own = msgspec.msgpack.decode(data, type=_Own)
    return Persist(head, round_number, own.raw, own.secret, own.body, own.listed)


def checkpoint_of(apply: Apply) -> Checkpoint:
    """Where an engine can go on from once ``apply`` is done."""
    return Checkpoint(apply.standing, apply.roster, apply.at)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The data of an ``applied`` entry."""
    now, at = checkpoint.standing, checkpoint.at
    assert now is not None and at is not None
    record = _Checkpoint(
        run=now.run,
        round=now.round,
        head=now.head,
        state_root=now.state_root,
        seats=tuple((seat.member, seat.key, seat.since, seat.seated) for seat in now.seats),
        trainers=now.trainers,
        cursor=now.cursor,
        next_trainers=now.next_trainers,
        recent=tuple((listed.round, tuple(sorted(listed.members))) for listed in now.recent),
        enrolled=now.roster,
        roster=tuple(checkpoint.roster.items()),
        at=(at.block_number, at.log_index, at.block_hash),
        before=now.before,
        bases=tuple((base.round, base.head, base.state_root, base.trainers) for base in now.bases),
        spent=tuple(sorted(now.spent)),
    )
    return msgspec.msgpack.encode(record)


def decode_checkpoint(data: bytes) -> Checkpoint:
    """The checkpoint of an ``applied`` entry."""
    record = msgspec.msgpack.decode(data, type=_Checkpoint)
    standing = Standing(
        run=record.run,
        round=record.round,
        head=record.head,
        state_root=record.state_root,
        seats=tuple(Seat(*seat) for seat in record.seats),
        trainers=record.trainers,
        cursor=record.cursor,
        next_trainers=record.next_trainers,
        recent=tuple(ListedRound(number, frozenset(members)) for number, members in record.recent),
        roster=record.enrolled,
        before=record.before,
        bases=tuple(Base(*base) for base in record.bases),
        spent=frozenset(record.spent),
    )
    return Checkpoint(standing, dict(record.roster), Position(*record.at))

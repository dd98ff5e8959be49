"""Epochs as peers sign them and show them to each other.

What was signed is on disk before anybody sees it. For one place (epoch, what it follows, where it ends) a peer signs
once. After a reorg the end is another head, or on another fork, and so is the place.
"""

import msgspec

from distrai.peer.log import EventLog
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.pot import Due
from distrai.protocol.primitives import HASH_SIZE, SIGNATURE_SIZE, Hash, SignatureBytes

DOCUMENT = "epoch"
"""The name of the document."""
SIGNATURES_SHOWN_MAX = 256
DOCUMENT_BYTES_MAX = 32 << 10
SIGNED = "epoch"
"""Kind of the log entries that hold what was signed."""


class ShownEpoch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The document: an epoch by its id, and signatures over it, the own one first."""

    run: int
    epoch: int
    id: Hash
    signatures: tuple[SignatureBytes, ...]

    def to_bytes(self) -> bytes:
        """The bytes of the document."""
        return encode_canonical(self)


def decode_shown(data: bytes) -> ShownEpoch:
    """Read a document that came from outside. Raises MalformedMessage or NotCanonical."""
    shown = decode_canonical(data, ShownEpoch)
    is_sized = len(shown.id) == HASH_SIZE and all(len(one) == SIGNATURE_SIZE for one in shown.signatures)
    if not is_sized or len(shown.signatures) > SIGNATURES_SHOWN_MAX:
        raise MalformedMessage("an epoch is shown by its id of 32 bytes, with signatures of 65")
    return shown


def place_of(due: Due) -> Hash:
    """What an epoch follows and where it ends, on which fork of the chain: a peer signs one epoch there."""
    epoch = due.epoch
    numbers = (epoch.run, epoch.epoch, epoch.kills, epoch.last_round)
    written = b"".join(number.to_bytes(8, "big") for number in numbers)
    return tagged_hash("epoch-place", written + epoch.previous_root + epoch.head + due.marked.at.block_hash)


class SignedEpochs:
    """What this peer has committed itself to, by place."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        entries = (msgspec.msgpack.decode(entry.data, type=_Entry) for entry in log.entries(SIGNED))
        self._ids = {entry.place: entry.id for entry in entries}

    def commit(self, due: Due) -> bool:
        """Whether this epoch may be signed: nothing else was, for its place. It is on disk when this returns."""
        place = place_of(due)
        if place not in self._ids:
            entry = _Entry(place, due.epoch.id)
            self.log.append(SIGNED, due.epoch.last_round, due.epoch.head, msgspec.msgpack.encode(entry))
            self._ids[place] = entry.id
        return self._ids[place] == due.epoch.id


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    place: Hash
    id: Hash

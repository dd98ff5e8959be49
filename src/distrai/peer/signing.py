"""Epochs as peers sign them and show them to each other.

What was signed is on disk before anybody sees it. For one place (epoch, what it follows, where it ends) a peer signs
once. After a reorg the end is another head, or on another fork, and so is the place.
"""

from dataclasses import dataclass, field

import msgspec

from distrai.peer.log import EventLog
from distrai.protocol.body import quorum
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage, ProtocolError
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.pot import Due
from distrai.protocol.primitives import HASH_SIZE, SIGNATURE_SIZE, Address, Hash, SignatureBytes
from distrai.protocol.signatures import recover
from distrai.protocol.standing import Seat

DOCUMENT = "epoch"
"""The name of the document."""
SIGNATURES_SHOWN_MAX = 256
DOCUMENT_BYTES_MAX = 32 << 10
SEEN_MAX = 1024
"""Signatures of others that are remembered, so that the same ones are not checked at every look."""
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


@dataclass
class Gathered:
    """The signatures over one epoch, by signer."""

    due: Due
    digest: Hash
    signatures: dict[Address, SignatureBytes] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    shown: int = 0
    """How many there were when the document was shown last."""

    def take(self, signatures: tuple[SignatureBytes, ...], seats: tuple[Seat, ...]) -> None:
        """Take what one peer showed. What no seat signed costs its sender's turn and nobody else's."""
        keys = {seat.key for seat in seats}
        if len(self.seen) >= SEEN_MAX:
            self.seen.clear()
        for signature in signatures[: 2 * len(keys)]:  # those of seats of before may be among them
            if signature in self.seen:
                continue
            try:
                signer = recover(self.digest, signature)
            except ProtocolError:
                self.seen.add(signature)
                continue
            if signer in keys:  # else it may be a seat's with the next head, and is looked at again
                self.seen.add(signature)
                self.signatures[signer] = signature

    def enough(self, seats: tuple[Seat, ...]) -> tuple[SignatureBytes, ...]:
        """As many signatures by seats of now as land an epoch, sorted by signer; none as long as there are fewer."""
        keys = {seat.key for seat in seats}
        found = sorted((signer, each) for signer, each in self.signatures.items() if signer in keys)
        needed = quorum(len(keys))
        return tuple(each for _, each in found[:needed]) if len(found) >= needed > 0 else ()

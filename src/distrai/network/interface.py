"""What a transport does for the layers above, whatever carries its bytes.

A blob's name and size are known before its first byte, and every chunk is checked against the name: an end of stream
proves nothing, and nobody need be trusted. Messages are small, arrive at most once, and carry their own signatures.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from distrai.network.counters import Counters
from distrai.protocol.blobs import BlobRef
from distrai.protocol.messages import PACKET_BYTES_MAX
from distrai.protocol.primitives import Address, Hash, MemberId

MESSAGE_BYTES_MAX = PACKET_BYTES_MAX
"""Bytes of one message (320 KiB): envelopes, small blobs that they name, records of endpoints."""


DOCUMENT_BYTES_MAX = 64 << 10
"""Bytes of a document that a peer shows to anybody who asks."""


class NetworkError(Exception):
    """Something that other machines or the way to them did; normal life, never a mistake of the user."""


class SendFailed(NetworkError):
    """A message did not reach its receiver (or nobody can tell): the next exchange brings what was in it."""


class AskFailed(NetworkError):
    """A peer did not answer with the document that it was asked for."""


class FetchFailed(NetworkError):
    """No holder had the whole blob in time. ``reasons`` says, by member, what went wrong with each."""

    def __init__(self, blob: Hash, why: str, reasons: Mapping[MemberId, str]) -> None:
        told = "".join(f"; {member.hex()[:12]}: {reason}" for member, reason in sorted(reasons.items()))
        super().__init__(f"blob {blob.hex()[:12]}: {why}{told}")
        self.blob = blob
        self.reasons = dict(reasons)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a member can be reached, and the address of the node key that it must prove there.

    ``fingerprint``: of the TLS certificate that the node key has certified; empty where nobody has said yet, as in an
    address from the ledger.
    """

    member: MemberId
    address: Address
    urls: tuple[str, ...]
    fingerprint: bytes = b""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A blob that is now in the store, and who took part.

    ``sent``: bytes of good chunks by member; ``resumed``: bytes that the store had before; ``liars``: members that sent
    what does not belong to the blob; ``reasons``: what else went wrong, by member.
    """

    blob: BlobRef
    sent: Mapping[MemberId, int] = field(default_factory=dict)
    resumed: int = 0
    liars: tuple[MemberId, ...] = ()
    reasons: Mapping[MemberId, str] = field(default_factory=dict)


class Transport(Protocol):
    """One per engine; everything above is the same for all of them and for the simulation."""

    counters: Counters

    async def publish(self, blob: BlobRef, source: Path | bytes) -> None:
        """Make a blob servable. Raises WrongBlob if ``source`` is something else."""
        ...

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str = "updates"
    ) -> Fetched:
        """Bring a blob into the store, from all holders at once, going on from what is there.

        Raises FetchFailed; what has arrived by then stays for the next attempt.
        """
        ...

    async def resolve(
        self, hash_: Hash, holders: Sequence[Endpoint], size_max: int, deadline_s: float
    ) -> BlobRef:
        """The size of a blob of which only the name is known, by a manifest that proves it. Raises FetchFailed."""
        ...

    async def send(self, endpoint: Endpoint, message: bytes, purpose: str = "control") -> None:
        """Deliver a message of at most MESSAGE_BYTES_MAX bytes, at most once. Raises SendFailed.

        ``purpose`` is what most of its bytes are for: an update may ride with its announcement.
        """
        ...

    async def show(self, name: str, document: bytes) -> None:
        """Let anybody ask for a small document (at most DOCUMENT_BYTES_MAX bytes), in the place of the one before.

        Names are lower-case words. It is shown as long as this peer is there; an object store keeps it as an object.
        """
        ...

    async def ask(self, endpoint: Endpoint, name: str, size_max: int = DOCUMENT_BYTES_MAX) -> bytes:
        """The document that a peer shows under a name now: only who shows it is proved. Raises AskFailed."""
        ...

    def received(self) -> AsyncIterator[tuple[Address | None, bytes]]:
        """What others sent, with the node key that signed the delivery, until the transport is closed."""
        ...

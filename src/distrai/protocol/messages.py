"""The signed messages of a round. Their formats are final: every hash and every replay depends on them.

A message is an envelope ``[kind, body, signature]``. The body is the canonical msgpack of one of the structs below, and
the signature is over the received bytes (for an Update and a body signature: over EIP-712 typed data, which the ledger
can check too). All messages of a round name run, round and the head they follow, so none is valid anywhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from distrai.protocol.blobs import BlobRef
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage, MessageTooLarge
from distrai.protocol.keccak import keccak, tagged_hash
from distrai.protocol.primitives import (
    HASH_SIZE,
    SIGNATURE_SIZE,
    Address,
    Hash,
    MemberId,
    SignatureBytes,
)
from distrai.protocol.typed_data import Domain, struct_hash, type_hash

MESSAGE_BYTES_MAX = 64 << 10
"""Bytes of an envelope that peers keep and relay."""
INLINE_BLOB_BYTES_MAX = 256 << 10
"""Bytes of a blob that may ride with the message that names it."""
UPDATE_VERSION = 1
CODEC_ID_MAX = 64
"""Bytes of a codec's id."""
SHORT_NAME_SIZE = 8
SALT_SIZE = 16
_OTHER_SIZES = {"body", "known", "salt", "content", "attestation"}
"""Fields of bytes that are no hashes."""

_UPDATE_TYPE = type_hash(
    "Update(uint16 version,uint64 run,uint64 round,bytes32 previousHead,bytes32 member,uint64 baseRound,"
    "bytes32 baseStateRoot,uint32 fragment,uint32 tau,uint32 innerSteps,uint64 tokens,string codec,"
    "bytes32 blobHash,uint64 blobSize,bytes32 keyHash,bytes32 traceRoot)"
)
_UPDATE_WORDS = ["uint16", "uint64", "uint64", "bytes32", "bytes32", "uint64", "bytes32", *["uint32"] * 3]
_UPDATE_WORDS += ["uint64", "bytes32", "bytes32", "uint64", "bytes32", "bytes32"]
_WIDTHS = {"version": 16, "fragment": 32, "tau": 32, "inner_steps": 32}
"""Bits of the integers of the messages that are not of 64 bits."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What every message begins with."""

    kind: ClassVar[str]
    run: int
    round: int
    previous_head: Hash
    member: MemberId

    def identity(self, body: bytes) -> Hash:
        """The name of the message whose body was received as ``body``."""
        return tagged_hash(self.kind, body)

    def digest(self, body: bytes, domain: Domain) -> Hash:
        """What its author signs."""
        return self.identity(body)


class Update(Message, frozen=True, array_like=True, kw_only=True):
    """What a member contributes to a round: the name of a sealed, encoded pseudo-gradient and how it was made.

    ``tokens`` and ``inner_steps`` are what was trained on since ``base_round``; ``blob_size`` is in bytes, of the
    ciphertext; ``trace_root`` is zero until tracing is on.
    """

    kind: ClassVar[str] = "update"
    version: int
    base_round: int
    base_state_root: Hash
    fragment: int
    tau: int
    inner_steps: int
    tokens: int
    codec: str
    blob_hash: Hash
    blob_size: int
    key_hash: Hash
    trace_root: Hash

    @property
    def blob(self) -> BlobRef:
        """The ciphertext that the update names."""
        return BlobRef(self.blob_hash, self.blob_size)

    def identity(self, body: bytes) -> Hash:
        """The EIP-712 struct hash, which the ledger can compute from the fields."""
        head = [self.version, self.run, self.round, self.previous_head, self.member, self.base_round]
        work = [self.base_state_root, self.fragment, self.tau, self.inner_steps, self.tokens]
        blob = [keccak(self.codec.encode()), self.blob_hash, self.blob_size, self.key_hash, self.trace_root]
        return struct_hash(_UPDATE_TYPE, _UPDATE_WORDS, [*head, *work, *blob])

    def digest(self, body: bytes, domain: Domain) -> Hash:
        """The EIP-712 digest: evidence that a contract can judge."""
        return domain.digest(self.identity(body))


class Have(Message, frozen=True, array_like=True, kw_only=True):
    """A seat's one statement of which sealed updates it holds whole: at most one per author, sorted by hash.

    Where the hashes outgrow a message they are a blob instead: ``content`` is its hash and size, ``updates`` is empty.
    """

    kind: ClassVar[str] = "have"
    updates: tuple[Hash, ...]
    content: tuple[Hash, int] | None = None


class Key(Message, frozen=True, array_like=True, kw_only=True):
    """The author opens its update to everybody."""

    kind: ClassVar[str] = "key"
    update: Hash
    key: bytes


class Proposal(Message, frozen=True, array_like=True, kw_only=True):
    """The list of a rotating proposer, for when the seats do not all agree by themselves.

    ``body`` is the canonical Body that the list leads to; ``updates`` are in certificate order; ``haves`` and ``keys``
    are the messages it relies on. Where these lists outgrow a message, they are a blob instead: ``content`` is its hash
    and size, and the three are empty.
    """

    kind: ClassVar[str] = "proposal"
    attempt: int
    body: bytes
    updates: tuple[Hash, ...]
    haves: tuple[Hash, ...]
    keys: tuple[Hash, ...]
    content: tuple[Hash, int] | None = None


class BodySignature(Message, frozen=True, array_like=True, kw_only=True):
    """A seat attests a body: ``attestation`` is its signature of that body, the one that the ledger checks.

    The message is signed beside it, so that nobody can send an old attestation again under a new head.
    """

    kind: ClassVar[str] = "signature"
    body_id: Hash
    attestation: SignatureBytes


class Digest(Message, frozen=True, array_like=True, kw_only=True):
    """Which objects of a round its author knows; the answer is what it lacks.

    ``known`` holds the short name of each: see ``short_name``. The salt is new in every digest, else an author could
    make two updates with the same short name, and nobody who knows one would ever be told of the other.
    """

    kind: ClassVar[str] = "digest"
    salt: bytes
    known: bytes


class ListRequest(Message, frozen=True, array_like=True, kw_only=True):
    """Asks for the list behind a certificate of ``round``."""

    kind: ClassVar[str] = "list-request"
    updates_root: Hash


class ListOffer(Message, frozen=True, array_like=True, kw_only=True):
    """Names the blob that holds the list behind a certificate of ``round``; a small one rides with the message."""

    kind: ClassVar[str] = "list-offer"
    updates_root: Hash
    blob_hash: Hash
    blob_size: int


KINDS: dict[str, type[Message]] = {
    kind.kind: kind for kind in (Update, Have, Key, Proposal, BodySignature, Digest, ListRequest, ListOffer)
}


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message as it travels."""

    kind: str
    body: bytes
    signature: SignatureBytes


@dataclass(frozen=True)
class Signed:
    """A received or own message: its bytes, what they say, its name, and whose key signed it."""

    message: Message
    envelope: Envelope
    raw: bytes
    id: Hash
    signer: Address = field(compare=False)


def _check_sizes(message: Message) -> None:
    """Every bytes field is a hash (of 32 bytes) or a tuple of hashes, unless its struct says otherwise."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, int) and not 0 <= value < 1 << _WIDTHS.get(name, 64):
            raise MalformedMessage(f"{message.kind}.{name} is out of range")
        if name == "content" and value is not None:
            _check_content(message.kind, value)
        if name in _OTHER_SIZES:
            continue
        hashes = value if isinstance(value, tuple) else (value,) if isinstance(value, bytes) else ()
        if any(len(item) != HASH_SIZE for item in hashes):
            raise MalformedMessage(f"{message.kind}.{name} must be of {HASH_SIZE} bytes")
    if message.round < 1:
        raise MalformedMessage("rounds are numbered from 1")
    if isinstance(message, Update) and len(message.codec.encode()) > CODEC_ID_MAX:
        raise MalformedMessage(f"update.codec is longer than {CODEC_ID_MAX} bytes")
    if isinstance(message, BodySignature) and len(message.attestation) != SIGNATURE_SIZE:
        raise MalformedMessage(f"signature.attestation has {SIGNATURE_SIZE} bytes")
    if isinstance(message, Digest) and (
        len(message.known) % SHORT_NAME_SIZE or len(message.salt) != SALT_SIZE
    ):
        raise MalformedMessage("digest.known must be whole short names, digest.salt of 16 bytes")


def _check_content(kind: str, content: tuple[Hash, int]) -> None:
    if len(content[0]) != HASH_SIZE or not 0 < content[1] < 1 << 64:
        raise MalformedMessage(f"{kind}.content must be the hash and the size of a blob")


def short_name(identity: Hash, salt: bytes) -> bytes:
    """The short name of an object in a digest with this salt."""
    return keccak(salt + identity)[:SHORT_NAME_SIZE]


def decode_body(kind: str, body: bytes) -> Message:
    """What the body of an envelope says. Raises MalformedMessage or NotCanonical."""
    if kind not in KINDS:
        raise MalformedMessage(f"there is no message of kind {kind!r}")
    message = decode_canonical(body, KINDS[kind])
    _check_sizes(message)
    return message


def open_envelope(raw: bytes, domain: Domain, recover: Callable[[Hash, bytes], Address]) -> Signed:
    """Decode a message that came from outside and find out who signed it.

    Whether the signer is the member that the message names is for the round to say: see ``checks.py``. Raises
    MessageTooLarge, MalformedMessage, NotCanonical or BadSignature.
    """
    if len(raw) > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(f"a message has at most {MESSAGE_BYTES_MAX} bytes, not {len(raw)}")
    envelope = decode_canonical(raw, Envelope)
    if len(envelope.signature) != SIGNATURE_SIZE:
        raise MalformedMessage(f"a signature has {SIGNATURE_SIZE} bytes")
    message = decode_body(envelope.kind, envelope.body)
    signer = recover(message.digest(envelope.body, domain), envelope.signature)
    return Signed(message, envelope, raw, message.identity(envelope.body), signer)


def seal_envelope(
    message: Message, domain: Domain, sign: Callable[[Hash], SignatureBytes], signer: Address
) -> Signed:
    """Encode and sign an own message."""
    body = encode_canonical(message)
    envelope = Envelope(message.kind, body, sign(message.digest(body, domain)))
    return Signed(message, envelope, encode_canonical(envelope), message.identity(body), signer)


class Packet(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one transport message carries: envelopes, small blobs that they name, and records of where members are."""

    envelopes: tuple[bytes, ...]
    blobs: tuple[bytes, ...] = ()
    endpoints: tuple[bytes, ...] = ()


PACKET_BYTES_MAX = 320 << 10
OBJECTS_PER_PACKET_MAX = 60


def decode_packet(raw: bytes) -> Packet:
    """Raises MessageTooLarge, MalformedMessage or NotCanonical."""
    if len(raw) > PACKET_BYTES_MAX:
        raise MessageTooLarge(f"a packet has at most {PACKET_BYTES_MAX} bytes, not {len(raw)}")
    packet = decode_canonical(raw, Packet)
    if max(len(packet.envelopes), len(packet.blobs), len(packet.endpoints)) > OBJECTS_PER_PACKET_MAX:
        raise MessageTooLarge(f"a packet carries at most {OBJECTS_PER_PACKET_MAX} objects")
    return packet


def encode_packet(packet: Packet) -> bytes:
    """The canonical bytes of a packet."""
    return encode_canonical(packet)

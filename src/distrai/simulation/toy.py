"""Stand-ins for keys, training and aggregation: cheap and pure, and just as strict about what may be combined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distrai.peer.identity import Identity
from distrai.protocol.bases import Base
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.body import Genesis
from distrai.protocol.checks import WorkRules
from distrai.protocol.cipher import binding, seal, sealed_size, unseal
from distrai.protocol.errors import BadSignature, ProtocolError
from distrai.protocol.keccak import keccak
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import Update
from distrai.protocol.primitives import SIGNATURE_SIZE, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.standing import Standing
from distrai.protocol.typed_data import Domain

PAYLOAD_SIZE = 40
NOT_FINITE = b"\xff" * PAYLOAD_SIZE
"""The payload that fails the absolute checks."""
WORK = WorkRules(codec="toy", sealed_bytes=(sealed_size(PAYLOAD_SIZE),), inner_steps_max=4, tokens_per_step=8)
INNER_STEPS = 4
BLOCK_SAMPLES = 16
DOMAIN = Domain(31337, Address(b"\x11" * 20))
RUN = 7
_ROOTS = (keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))
GENESIS = Genesis(DOMAIN.chain_id, DOMAIN.registry, RUN, *_ROOTS)


class NotFinite(ProtocolError):
    """A payload holds NaN or an infinity."""


def signer(address: Address, salt: int = 0) -> Callable[[Hash], SignatureBytes]:
    """A stub of a key: the signature names signer and digest. As with ECDSA, its owner can make several (``salt``)."""

    def sign(digest: Hash) -> SignatureBytes:
        return SignatureBytes(address + digest + salt.to_bytes(12, "big") + b"\x1b")

    return sign


def recover(digest: Hash, signature: bytes) -> Address:
    """Whose stub signature this is."""
    if len(signature) != SIGNATURE_SIZE or signature[20:52] != digest:
        raise BadSignature("not a signature of this")
    return Address(signature[:20])


def make_identity(index: int) -> Identity:
    """The identity of the peer with this index."""
    member = MemberId(keccak(b"member %d" % index))
    address = Address(keccak(b"address %d" % index)[12:])
    return Identity(member, address, DOMAIN, signer(address), recover)


def with_new_key(identity: Identity, count: int) -> Identity:
    """The same member with its next key; the ones before are its own for as long as a seat has one of them."""
    address = Address(keccak(identity.member + b"key %d" % count)[12:])
    also = ((identity.address, identity.sign), *identity.also)
    return replace(identity, address=address, sign=signer(address), also=also)


@dataclass(frozen=True)
class Sealed:
    """An encrypted payload."""

    blob: BlobRef
    data: bytes
    key: bytes


def payload_of(member: MemberId, base: Standing | Base) -> bytes:
    """What training from this head gives: always the same."""
    return (keccak(b"train" + member + base.head) * 2)[:PAYLOAD_SIZE]


def seal_payload(payload: bytes, key: bytes, base: Standing | Base, member: MemberId) -> Sealed:
    """Seal a payload that was trained from ``base``."""
    data = seal(payload, key, binding(RUN, base.round + 1, base.head, member))
    return Sealed(blob_ref(data), data, key)


def open_payload(update: Update, data: bytes, key: bytes) -> bytes:
    """Decrypt and check. Raises CannotOpen or NotFinite."""
    payload = unseal(data, key, binding(update.run, update.round, update.previous_head, update.member))
    if payload == NOT_FINITE:
        raise NotFinite("the payload is not finite")
    return payload


def next_state_root(before: Hash, payloads: Sequence[bytes]) -> Hash:
    """Where a list leads: every byte of every payload, and their order, count."""
    return keccak(before + b"".join(payloads))


def state_root_of(before: Hash, certified: CertifiedList, blobs: dict[Hash, bytes]) -> Hash:
    """The state root that a list leads to. Raises KeyError for a ciphertext that is not in ``blobs``."""
    pairs = zip(certified.updates, certified.entries, strict=True)
    payloads = [open_payload(update, blobs[update.blob_hash], entry.key) for update, entry in pairs]
    return next_state_root(before, payloads) if payloads else before

"""A right message of every kind, and what a peer takes as one."""

from typing import Any

import msgspec

from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import (
    BadSignature,
)
from distrai.protocol.messages import (
    BodySignature,
    Digest,
    Envelope,
    Have,
    Key,
    ListOffer,
    ListRequest,
    Message,
    Proposal,
    Signed,
    Update,
    open_envelope,
)
from distrai.protocol.primitives import Hash, SignatureBytes
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from helpers.messages import DOMAIN, Author, named
from helpers.reference import keccak256

AUTHOR = Author(1)
PLACE: dict[str, Any] = {"run": 1, "round": 2, "previous_head": named("head"), "member": AUTHOR.member}
SIGNATURE = SignatureBytes(b"s" * 65)
EXAMPLES: dict[str, Message] = {
    "update": Update(
        **PLACE,
        version=1,
        base_round=1,
        base_state_root=named("state"),
        fragment=0,
        tau=0,
        inner_steps=300,
        tokens=70_000,
        codec="int8/1",
        blob_hash=named("blob"),
        blob_size=5_000_000_000,
        key_hash=named("key hash"),
        trace_root=bytes(32),
    ),
    "have": Have(**PLACE, updates=(named(1), named(2))),
    "key": Key(**PLACE, update=named("update"), key=named("key")),
    "proposal": Proposal(
        **PLACE, attempt=3, body=b"body", updates=(named(1),), haves=(named(2),), keys=(named(3), named(4))
    ),
    "signature": BodySignature(**PLACE, body_id=named("body"), attestation=SIGNATURE),
    "digest": Digest(**PLACE, salt=bytes(16), known=b"12345678" * 3),
    "list-request": ListRequest(**PLACE, updates_root=named("root")),
    "list-offer": ListOffer(**PLACE, updates_root=named("root"), blob_hash=named("blob"), blob_size=77),
}


def accept(raw: bytes, domain: Domain = DOMAIN) -> Signed:
    """What a peer takes as a message of AUTHOR, or the refusal."""
    signed = open_envelope(raw, domain, recover)
    if signed.signer != AUTHOR.address:
        raise BadSignature("not by the author")
    return signed


def enveloped(kind: str, body: bytes) -> bytes:
    """An envelope around any body, with AUTHOR's valid signature of it where that does not depend on its sense."""
    digest = Hash(keccak256(f"distrai/{kind}/1".encode() + body))
    return encode_canonical(Envelope(kind, body, AUTHOR.sign(digest)))


def changed(message: Message, **changes: Any) -> bytes:
    return encode_canonical(msgspec.structs.replace(message, **changes))

"""Members with keys, and hypothesis strategies for every message of the protocol."""

from dataclasses import dataclass
from functools import cached_property

from coincurve import PrivateKey
from hypothesis import strategies as st

from distrai.protocol.body import Body, Promotion
from distrai.protocol.messages import (
    BodySignature,
    Digest,
    Have,
    Key,
    ListOffer,
    ListRequest,
    Message,
    Proposal,
    Signed,
    Update,
    seal_envelope,
)
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.signatures import address_of, sign
from distrai.protocol.typed_data import Domain

DOMAIN = Domain(31337, Address(bytes(range(20))))


def named(name: str | int) -> Hash:
    """A hash that can be told from others in a failure."""
    return Hash(str(name).encode().rjust(32, b"."))


@dataclass(frozen=True)
class Author:
    """A member and its key."""

    number: int

    @cached_property
    def private_key(self) -> PrivateKey:
        return PrivateKey((self.number + 1).to_bytes(32, "big"))

    @cached_property
    def address(self) -> Address:
        return address_of(self.private_key.public_key)

    @property
    def member(self) -> MemberId:
        return MemberId(named(f"member {self.number:03}"))

    def sign(self, digest: Hash) -> SignatureBytes:
        return sign(self.private_key, digest)

    def seal(self, message: Message, domain: Domain = DOMAIN) -> Signed:
        return seal_envelope(message, domain, self.sign, self.address)


hashes = st.binary(min_size=32, max_size=32).map(Hash)
members = hashes.map(MemberId)
addresses = st.binary(min_size=20, max_size=20).map(Address)
u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
hash_lists = st.lists(hashes, max_size=5).map(tuple)
rounds = st.integers(1, (1 << 64) - 1)
contents = st.none() | st.tuples(hashes, rounds)
_place = {"run": u64, "round": rounds, "previous_head": hashes, "member": members}

updates = st.builds(
    Update,
    **_place,
    version=u16,
    base_round=u64,
    base_state_root=hashes,
    fragment=u32,
    tau=u32,
    inner_steps=u32,
    tokens=u64,
    codec=st.text(max_size=16),
    blob_hash=hashes,
    blob_size=u64,
    key_hash=hashes,
    trace_root=hashes,
)
MESSAGES: dict[str, st.SearchStrategy[Message]] = {
    "update": updates,
    "have": st.builds(Have, **_place, updates=hash_lists, content=contents),
    "key": st.builds(Key, **_place, update=hashes, key=hashes),
    "proposal": st.builds(
        Proposal,
        **_place,
        attempt=u64,
        body=st.binary(max_size=80),
        updates=hash_lists,
        haves=hash_lists,
        keys=hash_lists,
        content=contents,
    ),
    "signature": st.builds(
        BodySignature, **_place, body_id=hashes, attestation=st.binary(min_size=65, max_size=65)
    ),
    "digest": st.builds(
        Digest,
        **_place,
        salt=st.binary(min_size=16, max_size=16),
        known=st.integers(0, 9).map(lambda n: bytes(range(8)) * n),
    ),
    "list-request": st.builds(ListRequest, **_place, updates_root=hashes),
    "list-offer": st.builds(ListOffer, **_place, updates_root=hashes, blob_hash=hashes, blob_size=u64),
}
messages = st.one_of(*MESSAGES.values())
bodies = st.builds(
    Body,
    run=u64,
    round=rounds,
    previous_head=hashes,
    updates_root=hashes | st.just(ZERO_HASH),
    state_root=hashes,
    trainers_root=hashes,
    promotions=st.lists(
        st.builds(Promotion, member=members, key=addresses), max_size=4, unique_by=lambda item: item.member
    ).map(lambda items: tuple(sorted(items))),
    drops=st.lists(members, max_size=4, unique=True).map(lambda items: tuple(sorted(items))),
)

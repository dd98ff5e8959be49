"""EIP-712 digests against eth_account, which builds them from the whole document instead of by hand."""

from dataclasses import replace

import msgspec
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import Body, Promotion
from distrai.protocol.keccak import keccak, tagged_hash
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.typed_data import Domain
from helpers.messages import DOMAIN, addresses, bodies, named, updates
from helpers.reference import keccak256, typed_data

chain_ids = st.integers(0, (1 << 256) - 1)


def reference_digest(kind: str, value: Update | Body, domain: Domain) -> tuple[bytes, bytes]:
    """(struct hash, digest) as eth_account computes them."""
    signable = encode_typed_data(full_message=typed_data(kind, value, domain.chain_id, domain.registry))
    assert signable.version == b"\x01"
    return signable.body, keccak256(b"\x19" + signable.version + signable.header + signable.body)


@given(updates, chain_ids, addresses)
def test_update_digest_is_that_of_eth_account(update: Update, chain_id: int, registry: Address) -> None:
    domain = Domain(chain_id, registry)
    assert (update.identity(b""), update.digest(b"", domain)) == reference_digest("Update", update, domain)


@given(bodies, chain_ids, addresses)
def test_body_digest_is_that_of_eth_account(body: Body, chain_id: int, registry: Address) -> None:
    domain = Domain(chain_id, registry)
    assert (body.id, domain.digest(body.id)) == reference_digest("Body", body, domain)


@given(updates, st.data())
def test_every_field_of_an_update_is_in_its_identity(update: Update, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(update.__struct_fields__))
    old = getattr(update, name)
    new = (
        old ^ 1
        if isinstance(old, int)
        else old + "x"
        if isinstance(old, str)
        else bytes([old[0] ^ 1]) + old[1:]
    )
    assert msgspec.structs.replace(update, **{name: new}).identity(b"") != update.identity(b"")


def test_every_field_of_a_body_is_in_its_id_and_its_head() -> None:
    plain = Body(1, 2, named("head"), named("updates"), named("state"), named("trainers"))
    someone = MemberId(named("someone"))
    changed = {
        "round": 3,
        "previous_head": named("x"),
        "updates_root": named("x"),
        "state_root": named("x"),
        "trainers_root": named("x"),
        "promotions": (Promotion(someone, Address(bytes(20))),),
        "drops": (someone,),
    }
    variants = [msgspec.structs.replace(plain, **{name: value}) for name, value in changed.items()]
    assert len({body.id for body in variants} | {plain.id}) == len(changed) + 1
    assert len({body.head for body in variants} | {plain.head}) == len(changed) + 1
    # The run is in the id itself, and in the head through the genesis head that every previous head goes back to.
    assert msgspec.structs.replace(plain, run=9).id != plain.id


def test_a_digest_counts_on_one_registry_of_one_chain() -> None:
    elsewhere = [replace(DOMAIN, chain_id=1), replace(DOMAIN, registry=Address(bytes(20)))]
    assert len({domain.digest(named("x")) for domain in [DOMAIN, *elsewhere]}) == 3


def test_keccak_vectors() -> None:
    # The hash of nothing, as in the Ethereum yellow paper, and of "abc", as in the Keccak submission.
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    assert tagged_hash("have", b"abc") == keccak256(b"distrai/have/1abc")

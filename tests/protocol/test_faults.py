"""When two Updates are a fault, and how the ledger names the place of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from distrai.protocol.faults import is_fault, place_of
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import ZERO_HASH, MemberId

UPDATE = Update(
    run=7,
    round=5,
    previous_head=keccak(b"head"),
    member=MemberId(keccak(b"member")),
    version=1,
    base_round=4,
    base_state_root=keccak(b"state"),
    fragment=0,
    tau=0,
    inner_steps=10,
    tokens=80,
    codec="int8",
    blob_hash=keccak(b"blob"),
    blob_size=1_000,
    key_hash=keccak(b"key"),
    trace_root=ZERO_HASH,
)
WHERE = {
    "run": 8,
    "round": 6,
    "previous_head": keccak(b"another head"),
    "member": MemberId(keccak(b"another")),
    "base_round": 3,
    "fragment": 1,
}
WHAT = {
    "version": 2,
    "base_state_root": keccak(b"another state"),
    "tau": 2,
    "inner_steps": 9,
    "tokens": 72,
    "codec": "int4",
    "blob_hash": keccak(b"another blob"),
    "blob_size": 999,
    "key_hash": keccak(b"another key"),
    "trace_root": keccak(b"trace"),
}


def test_every_field_of_an_update_says_where_or_what() -> None:
    assert {*WHERE, *WHAT} == set(Update.__struct_fields__) and not {*WHERE} & {*WHAT}


@pytest.mark.parametrize("field", WHAT)
def test_two_updates_for_one_place_are_a_fault_whatever_they_differ_in(field: str) -> None:
    other = replace(UPDATE, **{field: WHAT[field]})
    assert is_fault(UPDATE, other) and is_fault(other, UPDATE)
    assert place_of(UPDATE).id == place_of(other).id


@given(st.sets(st.sampled_from(sorted(WHERE)), min_size=1), st.sets(st.sampled_from(sorted(WHAT))))
def test_updates_for_two_places_are_none(where: set[str], what: set[str]) -> None:
    other = replace(UPDATE, **{name: (WHERE | WHAT)[name] for name in where | what})
    assert not is_fault(UPDATE, other) and not is_fault(other, UPDATE)
    assert place_of(UPDATE).id != place_of(other).id


def test_one_update_is_none() -> None:
    assert not is_fault(UPDATE, replace(UPDATE))


def test_a_place_is_named_as_the_contract_names_it() -> None:
    """``keccak256(abi.encode(place))``: six words."""
    words = [7, 5, UPDATE.previous_head, UPDATE.member, 4, 0]
    raw = b"".join(word.to_bytes(32, "big") if isinstance(word, int) else word for word in words)
    assert place_of(UPDATE).id == keccak(raw)

"""Bodies and heads, against tests/vectors/heads.json: the contract is tested with the same file."""

import json
from itertools import pairwise
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import (
    CERTIFICATE_HEAD,
    CHANGES_MAX,
    ROLL_CALL_HEAD,
    Body,
    Genesis,
    Promotion,
    check_body,
    has_quorum,
    quorum,
    roll_call_head,
    start_head,
)
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import MalformedMessage, UnsortedList
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.typed_data import Domain
from helpers import make_heads, reference
from helpers.messages import bodies, hash_lists, hashes, named

VECTORS: dict[str, Any] = make_heads.from_json(json.loads(make_heads.PATH.read_text()))
KEY = Address(b"k" * 20)


def to_body(vector: dict[str, Any]) -> Body:
    fields = {name: vector[name] for name in Body.__struct_fields__}
    promotions = tuple(Promotion(member, key) for member, key in vector["promotions"])
    return Body(**fields | {"promotions": promotions})


def test_the_vectors_are_what_their_maker_makes() -> None:
    assert make_heads.to_json(make_heads.vectors()) == json.loads(make_heads.PATH.read_text())


@pytest.mark.parametrize("vector", VECTORS["genesis"])
def test_genesis_heads(vector: dict[str, Any]) -> None:
    fields = {name: value for name, value in vector.items() if name != "head"}
    assert Genesis(**fields).head == vector["head"]


def test_a_run_of_its_own_has_no_parent() -> None:
    vector = VECTORS["genesis"][0]
    names = Genesis.__struct_fields__[:7]
    assert Genesis(**{name: vector[name] for name in names}).head == vector["head"]


def test_every_field_of_a_genesis_is_in_its_head() -> None:
    vector = VECTORS["genesis"][0]
    plain = Genesis(**{name: vector[name] for name in Genesis.__struct_fields__})
    other = {
        name: value + 1 if isinstance(value, int) else value[:-1] + b"?" for name, value in vector.items()
    }
    heads = {msgspec.structs.replace(plain, **{name: other[name]}).head for name in plain.__struct_fields__}
    assert len(heads | {plain.head}) == len(plain.__struct_fields__) + 1


@pytest.mark.parametrize("vector", VECTORS["starts"], ids=lambda vector: len(vector["seats"]))
def test_start_heads(vector: dict[str, Any]) -> None:
    assert start_head(vector["genesis_head"], vector["seats"]) == vector["head"]


@pytest.mark.parametrize("vector", VECTORS["bodies"], ids=lambda vector: vector["round"])
def test_heads_and_digests_of_bodies(vector: dict[str, Any]) -> None:
    body = to_body(vector)
    check_body(body)
    assert body.id == vector["id"]
    assert Domain(**VECTORS["domain"]).digest(body.id) == vector["digest"]
    assert body.head == vector["head"]
    assert body.is_empty == (vector["updates_root"] == bytes(32))


@pytest.mark.parametrize("vector", VECTORS["roll_calls"], ids=lambda vector: vector["round"])
def test_heads_of_roll_calls(vector: dict[str, Any]) -> None:
    head = roll_call_head(vector["previous_head"], vector["round"], vector["state_root"], vector["drops"])
    assert head == vector["head"]


def test_the_vectors_are_one_chain() -> None:
    genesis, start, call = (VECTORS[name][0] for name in ("genesis", "starts", "roll_calls"))
    assert start["genesis_head"] == genesis["head"]
    first, second, third, fifth, sixth, *_ = VECTORS["bodies"]
    links = [start, first, second, third, call, fifth, sixth]
    for before, after in pairwise(links):
        assert after["previous_head"] == before["head"]


@given(bodies)
def test_a_head_is_its_abi_encoding(body: Body) -> None:
    fields = msgspec.structs.asdict(body) | {
        "promotions": [(item.member, item.key) for item in body.promotions]
    }
    assert body.head == reference.body_head(CERTIFICATE_HEAD, fields)


@given(hashes, st.integers(0, (1 << 64) - 1), hashes, hash_lists)
def test_an_empty_round_is_no_roll_call(
    previous: Hash, number: int, root: Hash, drops: tuple[Hash, ...]
) -> None:
    changes = [MemberId(member) for member in drops]
    called = roll_call_head(previous, number, root, changes)
    empty = Body(1, number, previous, ZERO_HASH, root, ZERO_HASH, drops=tuple(changes))
    fields = msgspec.structs.asdict(empty)
    assert called == reference.body_head(ROLL_CALL_HEAD, fields)
    assert called != empty.head


@given(bodies)
def test_a_body_reads_back(body: Body) -> None:
    check_body(body)
    assert decode_canonical(encode_canonical(body), Body) == body


@pytest.mark.parametrize("seats", range(201))
def test_quorum_is_one_expression(seats: int) -> None:
    certifying = [count for count in range(seats + 2) if has_quorum(count, seats)]
    if seats == 0:
        assert certifying == []
        assert quorum(0) == 1
        return
    assert quorum(seats) == certifying[0] == ceil(2 * seats / 3)
    assert certifying == list(range(quorum(seats), seats + 2))


def test_two_quorums_share_an_honest_seat() -> None:
    # With fewer than a third of liars two certificates have a seat in common that signs no false body.
    for seats in range(1, 201):
        liars = max(0, -(-seats // 3) - 1)
        assert 2 * quorum(seats) - seats > liars
        assert quorum(seats) <= seats - liars


def body_with(**changes: Any) -> Body:
    plain = Body(1, 1, named("head"), named("updates"), named("state"), named("trainers"))
    return msgspec.structs.replace(plain, **changes)


def members(count: int) -> tuple[MemberId, ...]:
    return tuple(MemberId(named(f"{i:03}")) for i in range(count))


def promotions(count: int) -> tuple[Promotion, ...]:
    return tuple(Promotion(member, KEY) for member in members(count))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"run": 0},
        {"run": (1 << 64) - 1, "round": (1 << 64) - 1},
        {"drops": members(CHANGES_MAX), "promotions": promotions(CHANGES_MAX)},
    ],
)
def test_well_formed_bodies(changes: dict[str, Any]) -> None:
    check_body(body_with(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"previous_head": b"short"},
        {"updates_root": bytes(31)},
        {"state_root": bytes(33)},
        {"trainers_root": b""},
        {"drops": (b"short",)},
        {"round": 0},
        {"round": 1 << 64},
        {"run": -1},
        {"run": 1 << 64},
        {"promotions": (Promotion(MemberId(b"short"), KEY),)},
        {"promotions": (Promotion(members(1)[0], Address(b"short")),)},
        {"drops": members(CHANGES_MAX + 1)},
        {"promotions": promotions(CHANGES_MAX + 1)},
    ],
    ids=repr,
)
def test_malformed_bodies(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        check_body(body_with(**changes))


@pytest.mark.parametrize("name", ["drops", "promotions"])
def test_changes_are_sorted_sets(name: str) -> None:
    first, second = members(2) if name == "drops" else promotions(2)
    for wrong in [(second, first), (first, first)]:
        with pytest.raises(UnsortedList):
            check_body(body_with(**{name: wrong}))


def test_a_member_is_promoted_once_even_with_two_keys() -> None:
    member = members(1)[0]
    twice = (Promotion(member, Address(b"a" * 20)), Promotion(member, Address(b"b" * 20)))
    with pytest.raises(UnsortedList):
        check_body(body_with(promotions=twice))

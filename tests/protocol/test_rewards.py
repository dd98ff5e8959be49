"""What members earn, and the trees of it: rules, rounding, and OpenZeppelin's own package for every size up to 300."""

import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.blobs import blob_ref
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.errors import MalformedMessage, NotCanonical, UnsortedList
from distrai.protocol.merkle import proof_root
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.rewards import (
    MILLION,
    Allowance,
    Closing,
    Earnings,
    Epoch,
    HeadMark,
    RewardTerms,
    WorkedRound,
    accepted_tokens,
    decode_reward_table,
    paid_rounds,
    reward_leaf,
    reward_table,
    rewards_proof,
    rewards_root,
    settle,
)
from distrai.protocol.typed_data import Domain
from helpers.reference import abi, keccak256, word
from helpers.rounds import authors, list_of, started

VECTORS: list[str] = json.loads((Path(__file__).parents[1] / "vectors" / "rewards.json").read_text())
DOMAIN = Domain(31337, Address(b"\xd1" * 20))
RUN = 7
TERMS = RewardTerms(price=3 * MILLION, cap=1_000, max_members=3, min_round_seconds=10)
A, B, C, D = (MemberId(bytes([number]) * 32) for number in range(1, 5))
AN_AMOUNT = (1).to_bytes(20, "big")
EVERYBODY = [Allowance(member, 1) for member in (A, B, C, D)]


def digest(what: str, row: int) -> str:
    return sha256(f"{what} {row}".encode()).hexdigest()


AMOUNTS = {
    MemberId(bytes.fromhex(digest("member", row))): int(digest("amount", row)[: 4 + row % 28], 16)
    for row in range(300)
}


@pytest.mark.parametrize("size", range(1, 301))
def test_trees_are_those_of_openzeppelin(size: int) -> None:
    amounts = dict(list(AMOUNTS.items())[:size])
    root = rewards_root(DOMAIN, RUN, amounts)
    assert root.hex() == VECTORS[size - 1][:64]


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 64, 65, 100, 128])
def test_proofs_are_those_of_openzeppelin(size: int) -> None:
    amounts = dict(list(AMOUNTS.items())[:size])
    proofs = [rewards_proof(DOMAIN, RUN, amounts, member) for member in amounts]
    assert sha256(b"".join(b"".join(proof) for proof in proofs)).hexdigest()[:16] == VECTORS[size - 1][64:]
    root = rewards_root(DOMAIN, RUN, amounts)
    for (member, amount), proof in zip(amounts.items(), proofs, strict=True):
        assert proof_root(reward_leaf(DOMAIN, RUN, member, amount), proof) == root


def test_a_leaf_counts_on_one_chain_in_one_distributor_for_one_run() -> None:
    words = [word(31337), word(b"\xd1" * 20), word(RUN), word(A), word(5)]
    leaf = reward_leaf(DOMAIN, RUN, A, 5)
    assert leaf == keccak256(keccak256(b"".join(words)))
    others = [
        reward_leaf(Domain(1, DOMAIN.registry), RUN, A, 5),
        reward_leaf(Domain(31337, Address(b"\1" * 20)), RUN, A, 5),
        reward_leaf(DOMAIN, 8, A, 5),
        reward_leaf(DOMAIN, RUN, B, 5),
        reward_leaf(DOMAIN, RUN, A, 6),
    ]
    assert len({leaf, *others}) == 6


def test_who_earned_nothing_has_no_proof() -> None:
    assert rewards_root(DOMAIN, RUN, {}) == ZERO_HASH
    with pytest.raises(ValueError, match="earned nothing"):
        rewards_proof(DOMAIN, RUN, {A: 1}, B)


def test_the_struct_hash_of_an_epoch() -> None:
    epoch = Epoch(7, 2, 9, Hash(A), Hash(B), 55, Hash(C), Hash(D), 1)
    kind = (
        b"Epoch(uint64 run,uint32 epoch,uint64 lastRound,bytes32 head,bytes32 root,uint128 total,"
        b"bytes32 dataHash,bytes32 previousRoot,uint32 kills)"
    )
    values = [word(value) for value in msgspec.structs.astuple(epoch)]
    assert epoch.id == keccak256(abi(keccak256(kind), *values))


def test_the_tokens_of_a_list() -> None:
    four = authors(4)
    certified = list_of(four[:3], started(four))
    tokens = {update.member: update.tokens for update in certified.updates}
    assert accepted_tokens(certified) == tokens
    twice = msgspec.structs.replace(certified, entries=certified.entries * 2)
    assert accepted_tokens(twice) == {member: 2 * count for member, count in tokens.items()}


@pytest.mark.parametrize(
    ("since", "until", "closing", "expected"),
    [
        ((0, 0, 0), (5, 5, 50), None, 5),
        ((0, 0, 0), (5, 3, 50), None, 3),
        ((0, 0, 0), (5, 5, 49), None, 4),
        ((9, 7, 1_000), (12, 10, 1_030), None, 3),
        ((9, 7, 1_000), (12, 10, 1_000), None, 0),
        ((9, 7, 1_000), (12, 10, 990), None, 0),
        ((0, 0, 0), (9, 9, 900), Closing(40, 5, 5), 5),
        ((0, 0, 0), (9, 9, 900), Closing(30, 5, 5), 4),
        ((5, 5, 50), (9, 9, 900), Closing(30, 5, 5), 0),
        ((5, 5, 50), (9, 9, 900), Closing(60, 6, 6), 1),
        ((0, 0, 0), (2, 2, 20), Closing(900, 6, 6), 2),
    ],
)
def test_how_many_rounds_are_paid(since, until, closing, expected) -> None:
    assert paid_rounds(TERMS, HeadMark(*since), HeadMark(*until), closing) == expected


def after(*rounds: WorkedRound, before: Earnings | None = None, **changes: object) -> Earnings:
    rules = {"paid": len(rounds), "escrow": 10**9, "allowances": EVERYBODY} | changes
    return settle(before or Earnings(), rounds, TERMS, **rules)  # type: ignore[arg-type]


def test_each_token_has_its_price_up_to_the_cap() -> None:
    earned = after(WorkedRound(1, {A: 10, B: 334, C: 1}))
    assert earned.amounts == {A: 30, B: 1_000, C: 3}
    assert earned.total == 1_033


def test_amounts_add_up_from_epoch_to_epoch() -> None:
    first = after(WorkedRound(1, {A: 10}))
    second = after(WorkedRound(2, {A: 1, B: 2}), before=first)
    assert first.amounts == {A: 30}
    assert second.amounts == {A: 33, B: 6}


def test_only_who_may_earn_earns() -> None:
    allowances = [Allowance(A, 1, 2), Allowance(B, 2), Allowance(A, 4)]
    rounds = [WorkedRound(number, {A: 1, B: 1, C: 1}) for number in (1, 2, 3, 4)]
    assert after(*rounds, allowances=allowances).amounts == {A: 9, B: 9}


def test_rounds_beyond_the_paid_ones_earn_nothing() -> None:
    rounds = [WorkedRound(number, {A: 1}) for number in (1, 3, 4)]
    assert after(*rounds, paid=2).amounts == {A: 6}
    assert after(*rounds, paid=0).amounts == {}
    assert after(*rounds, closing=Closing(0, 3, 9)).amounts == {A: 6}


def test_a_round_is_paid_if_its_whole_rate_is_there() -> None:
    rounds = [WorkedRound(number, {A: 100}) for number in (1, 2, 3)]
    assert after(*rounds, escrow=TERMS.rate - 1).amounts == {}
    assert after(*rounds, escrow=TERMS.rate + 299).amounts == {A: 300}
    assert after(*rounds, escrow=TERMS.rate + 300).amounts == {A: 600}


def test_what_verdicts_forfeit_is_not_paid() -> None:
    rounds = [WorkedRound(number, {A: 1, B: 1}) for number in (1, 2)]
    assert after(*rounds, forfeited={(2, A)}).amounts == {A: 3, B: 6}


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1)])
def test_rounds_come_in_order(numbers) -> None:
    with pytest.raises(UnsortedList):
        after(*(WorkedRound(number, {A: 1}) for number in numbers))


def test_fractions_are_kept() -> None:
    """A third of a unit a round: after three rounds it is one, however they are cut into epochs."""
    terms = replace(TERMS, price=333_334)
    rounds = [WorkedRound(number, {A: 1}) for number in (1, 2, 3)]
    earned = Earnings()
    for number, work in enumerate(rounds, 1):
        earned = settle(earned, [work], terms, paid=1, escrow=10**9, allowances=EVERYBODY)
        assert earned.amounts == ({} if number < 3 else {A: 1})
    assert earned == settle(Earnings(), rounds, terms, paid=3, escrow=10**9, allowances=EVERYBODY)


worked = st.lists(st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 500), max_size=3), max_size=12)
prices = st.integers(1, 5 * MILLION)


@given(worked, st.lists(st.integers(0, 12), max_size=4), prices, st.integers(0, 40_000))
def test_epochs_stay_within_rate_and_escrow_however_they_are_cut(work, cuts, price, escrow) -> None:
    terms = replace(TERMS, price=price)
    rounds = [WorkedRound(number, tokens) for number, tokens in enumerate(work, 1)]
    edges = [0, *sorted(min(cut, len(rounds)) for cut in cuts), len(rounds)]
    earned = Earnings()
    for first, last in pairwise(edges):
        part = rounds[first:last]
        before = earned
        earned = settle(before, part, terms, paid=len(part), escrow=escrow, allowances=EVERYBODY)
        assert (
            before.total
            <= earned.total
            <= min(before.total + len(part) * terms.rate, max(escrow, before.total))
        )
        assert all(earned.amounts[member] >= amount for member, amount in before.amounts.items())
    whole = settle(Earnings(), rounds, terms, paid=len(rounds), escrow=10**9, allowances=EVERYBODY)
    if escrow >= whole.total + terms.rate:
        assert earned == whole


def test_a_table_reads_back() -> None:
    earned = {B: 5, A: 2**128 * MILLION - 1, C: 0}
    table = reward_table(RUN, 2, Earnings(earned))
    assert decode_reward_table(table.to_bytes()) == table
    assert table.earnings.millionths == {A: 2**128 * MILLION - 1, B: 5}
    assert rewards_root(DOMAIN, RUN, table.earnings.amounts)
    assert table.blob == blob_ref(table.to_bytes())
    empty = reward_table(RUN, 1, Earnings())
    assert decode_reward_table(empty.to_bytes()).earnings == Earnings()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"members": (B, A)}, UnsortedList),
        ({"members": (A, A)}, UnsortedList),
        ({"members": (A,)}, MalformedMessage),
        ({"members": (A, B[:-1])}, MalformedMessage),
        ({"amounts": (AN_AMOUNT, AN_AMOUNT[1:])}, MalformedMessage),
        ({"amounts": (2 * AN_AMOUNT, AN_AMOUNT)}, MalformedMessage),
        ({"amounts": (AN_AMOUNT, bytes(20))}, MalformedMessage),
        ({"amounts": ((2**128 * MILLION).to_bytes(20, "big"), AN_AMOUNT)}, MalformedMessage),
    ],
)
def test_a_table_of_another_shape_is_refused(changes, error) -> None:
    table = msgspec.structs.replace(reward_table(RUN, 1, Earnings({A: 1, B: 2})), **changes)
    with pytest.raises(error):
        decode_reward_table(encode_canonical(table))


def test_a_table_has_one_spelling() -> None:
    raw = reward_table(RUN, 1, Earnings({A: 1})).to_bytes()
    with pytest.raises(NotCanonical):
        decode_reward_table(raw[:1] + b"\xcc\x07" + raw[2:])

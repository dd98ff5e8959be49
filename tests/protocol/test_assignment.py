"""Who trains on what: a bijection of the samples, and blocks that share nothing and leave nothing out."""

from collections import Counter

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.assignment import (
    Block,
    DataOrder,
    assigned_block,
    next_cursor,
    proposer,
    slots,
)
from distrai.protocol.keccak import keccak
from distrai.protocol.permutation import permute
from distrai.protocol.primitives import Hash, MemberId
from helpers.messages import hashes, named

KEY = named("data order")


def trainers(count: int) -> list[MemberId]:
    return [MemberId(named(f"member {i:03}")) for i in range(count)]


# Permutation


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1023, 1024, 1025, 4096, 4097])
def test_a_permutation_hits_everything_once(size: int) -> None:
    assert sorted(permute(index, size, KEY, 0) for index in range(size)) == list(range(size))


@given(st.integers(1, 400), hashes, st.integers(0, (1 << 64) - 1))
def test_a_permutation_is_one_for_every_key_and_pass(size: int, key: Hash, tweak: int) -> None:
    assert sorted(permute(index, size, key, tweak) for index in range(size)) == list(range(size))


@given(st.integers(1, 1 << 63), st.data())
def test_large_data_sets(size: int, data: st.DataObject) -> None:
    first, second = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    images = permute(first, size, KEY, 3), permute(second, size, KEY, 3)
    assert all(0 <= image < size for image in images)
    assert (first == second) == (images[0] == images[1])


def reference_permute(index: int, size: int, key: bytes, tweak: int) -> int:
    """The same Feistel network with bits as text: six rounds over two halves, until it lands inside."""
    half = 1
    while (1 << (2 * half)) < size:
        half += 1
    bits = format(index, f"0{2 * half}b")
    while True:
        for step in range(6):
            left, right = bits[:half], bits[half:]
            hasher = blake3(key=key)
            for value, width in ((tweak, 8), (step, 1), (int(right, 2), 8)):
                hasher.update(bytes((value >> (8 * place)) & 255 for place in range(width)))
            mixed = format(int.from_bytes(hasher.digest()[:8][::-1], "big"), "064b")[-half:]
            bits = right + "".join("01"[a != b] for a, b in zip(left, mixed, strict=True))
        if int(bits, 2) < size:
            return int(bits, 2)


@given(st.integers(1, 1 << 40), hashes, st.integers(0, 1 << 40), st.data())
def test_a_second_implementation_agrees(size: int, key: Hash, tweak: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    assert permute(index, size, key, tweak) == reference_permute(index, size, key, tweak)


def test_a_permutation_never_changes() -> None:
    assert [permute(index, 10, KEY, 0) for index in range(10)] == [3, 8, 7, 6, 5, 4, 2, 1, 9, 0]
    assert permute(123_456_789, 1_000_000_007, KEY, 5) == 47_701_107


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_is_within_the_data(index: int) -> None:
    with pytest.raises(AssertionError):
        permute(index, 10, KEY, 0)


def test_key_and_pass_shuffle_anew() -> None:
    orders = [
        [permute(index, 200, key, tweak) for index in range(200)]
        for key, tweak in [(KEY, 0), (KEY, 1), (named("other"), 0)]
    ]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        same = sum(a == b for a, b in zip(orders[first], orders[second], strict=True))
        assert same < 12  # one on average


def test_the_first_sample_lands_anywhere() -> None:
    # 4,000 keys over 8 places: 500 each, with a standard deviation of 21.
    counts = Counter(permute(0, 8, Hash(i.to_bytes(32, "big")), 0) for i in range(4000))
    assert len(counts) == 8
    assert all(390 < count < 610 for count in counts.values())


# The cursor


@given(st.integers(1, 50), st.integers(0, 5))
def test_every_pass_reads_every_sample_once(samples: int, turn: int) -> None:
    order = DataOrder(samples, KEY)
    positions = range(turn * samples, (turn + 1) * samples)
    assert sorted(order.sample_at(position) for position in positions) == list(range(samples))


def test_a_new_pass_is_shuffled_anew() -> None:
    order = DataOrder(100, KEY)
    first, second = ([order.sample_at(turn * 100 + i) for i in range(100)] for turn in range(2))
    assert first != second
    assert order.sample_at(107) == permute(7, 100, KEY, 1)


@given(st.integers(0, 12), st.integers(0, 1 << 40), st.integers(0, 30), hashes)
def test_blocks_are_disjoint_and_cover_the_round(
    count: int, cursor: int, block_samples: int, head: Hash
) -> None:
    members = trainers(count)
    blocks = [assigned_block(member, members, head, cursor, block_samples) for member in members]
    assert all(block.length == block_samples for block in blocks)
    read = sorted(place for block in blocks for place in range(block.start, block.start + block.length))
    assert read == list(range(cursor, next_cursor(cursor, count, block_samples)))


def test_rounds_follow_each_other_through_the_end_of_a_pass() -> None:
    # 3 trainers of 5 samples each: 15 a round. 7 rounds of a data set of 35 are exactly 3 passes.
    order, cursor, members = DataOrder(35, KEY), 0, trainers(3)
    read: list[int] = []
    for number in range(7):
        head = named(f"head {number}")
        for member in members:
            block = assigned_block(member, members, head, cursor, 5)
            read += [order.sample_at(place) for place in range(block.start, block.start + block.length)]
        cursor = next_cursor(cursor, 3, 5)
    assert cursor == 105
    assert set(Counter(read).values()) == {3}


@given(hashes, st.permutations(range(9)))
def test_slots_do_not_depend_on_who_asks(head: Hash, shuffled: list[int]) -> None:
    members = trainers(9)
    drawn = slots(members, head)
    assert sorted(drawn.values()) == list(range(9))
    assert slots([members[i] for i in shuffled], head) == drawn
    assert sorted(members, key=lambda member: keccak(head + member)) == sorted(members, key=drawn.__getitem__)


def test_the_head_draws_the_slots() -> None:
    members = trainers(9)
    assert len({tuple(slots(members, named(f"head {i}"))) for i in range(20)}) == 20


def test_steps_cut_a_block_into_equal_parts() -> None:
    block = Block(100, 12)
    steps = [block.step_positions(step, 4) for step in range(3)]
    assert [place for step in steps for place in step] == list(range(100, 112))
    for step, samples in [(-1, 4), (3, 4), (0, 13)]:
        with pytest.raises(AssertionError):
            block.step_positions(step, samples)


@given(st.integers(1, 64), st.integers(1, 1 << 40))
def test_every_seat_proposes_once_in_a_turn(seats: int, number: int) -> None:
    members = trainers(seats)
    turn = [proposer(members, number, attempt) for attempt in range(seats)]
    assert sorted(turn) == members
    assert proposer(members, number, seats) == turn[0] == proposer(members, number + seats, 0)
    assert proposer(members, number, 1) == proposer(members, number + 1, 0)

"""What a closed roll call makes of a run: an empty round without those who did not answer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distrai.protocol.seating import check_succession, drops, promotions
from distrai.protocol.standing import Seat, call_roll, following_cursor
from helpers.make_heads import from_json
from helpers.rounds import RULES, after_round, authors, next_body, roster_of, started

VECTORS = from_json(json.loads((Path(__file__).parents[1] / "vectors" / "heads.json").read_text()))
SIX = authors(6)
FOUR = SIX[:4]
ABSENT = (FOUR[1].member, FOUR[3].member)


@pytest.mark.parametrize("vector", VECTORS["roll_calls"], ids=lambda vector: vector["round"])
def test_its_head_is_the_contracts(vector: dict[str, Any]) -> None:
    number, absent = vector["round"], vector["drops"]
    before = replace(
        started(FOUR), round=number - 1, head=vector["previous_head"], state_root=vector["state_root"]
    )
    after = call_roll(before, RULES, absent, {})
    assert (after.round, after.head, after.state_root) == (number, vector["head"], vector["state_root"])


def test_the_absent_lose_seat_and_block_and_the_cursor_moves_on_over_all() -> None:
    before = after_round(after_round(started(FOUR, SIX[4:]), SIX, SIX), SIX, SIX)
    after = call_roll(before, RULES, ABSENT, roster_of(SIX))
    assert after.seats == tuple(Seat(FOUR[index].member, FOUR[index].address, 3) for index in (0, 2))
    assert after.trainer_members == tuple(SIX[index].member for index in (0, 2, 4, 5))
    assert after.cursor == following_cursor(before, RULES) == before.cursor + 60
    assert following_cursor(after, RULES) == after.cursor + 40
    assert (after.state_root, after.recent) == (before.state_root, ())


def test_the_absent_still_take_part_and_train_again_after_the_next_certificate() -> None:
    called = call_roll(started(FOUR), RULES, ABSENT, roster_of(FOUR))
    assert tuple(trainer.member for trainer in called.next_trainers) == tuple(each.member for each in FOUR)
    check_succession(called, RULES, next_body(called))
    after = after_round(called, FOUR[:1], FOUR)
    assert after.trainer_members == tuple(each.member for each in FOUR)
    assert after.seat_members == (FOUR[0].member, FOUR[2].member)


def test_who_joined_or_left_meanwhile_counts_for_the_next_body() -> None:
    called = call_roll(started(FOUR), RULES, (), roster_of(SIX[1:]))
    assert called.trainer_members == tuple(each.member for each in FOUR)
    assert tuple(trainer.member for trainer in called.next_trainers) == tuple(each.member for each in SIX[1:])
    assert [trainer.member for trainer in called.roster] == [each.member for each in SIX[1:]]
    assert drops(called, RULES) == (FOUR[0].member,)


def test_who_answered_has_its_four_lists_again_and_is_no_fresher() -> None:
    standing = started(FOUR)
    for _ in range(4):
        standing = after_round(standing, FOUR[1:], FOUR, drops=())
    assert drops(standing, RULES) == (FOUR[0].member,)
    seated = replace(standing, seats=tuple(replace(seat, seated=4) for seat in standing.seats))
    called = call_roll(seated, RULES, (), roster_of(FOUR))
    assert drops(called, RULES) == () and {seat.since for seat in called.seats} == {5}
    assert {seat.seated for seat in called.seats} == {4}
    for _ in range(3):
        called = after_round(called, FOUR[1:], FOUR)
        assert drops(called, RULES) == ()
    assert drops(after_round(called, FOUR[1:], FOUR), RULES) == (FOUR[0].member,)


def test_a_seat_that_was_absent_earns_it_again_in_four_new_lists() -> None:
    standing = started(FOUR)
    for _ in range(4):
        standing = after_round(standing, FOUR, FOUR)
    called = call_roll(standing, RULES, (FOUR[0].member,), roster_of(FOUR))
    assert (
        called.recent == () and promotions(called, RULES) == ()
    )  # it is dead: its lists of before do not count
    for rounds in range(4):
        assert promotions(called, RULES) == (), rounds
        called = after_round(called, FOUR, FOUR)
    assert [item.member for item in promotions(called, RULES)] == [FOUR[0].member]

"""What a head fixes: seats, trainers, cursor; who is dropped; and what may follow a head."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import CHANGES_MAX, Promotion, quorum, start_head
from distrai.protocol.errors import (
    ProtocolError,
    WrongHead,
    WrongMembershipChange,
    WrongRound,
    WrongStateRoot,
    WrongTrainersRoot,
)
from distrai.protocol.lists import Trainer, root_of_trainers
from distrai.protocol.primitives import ZERO_HASH, Address
from distrai.protocol.seating import MISSED_LISTS_MAX, check_succession, drops
from distrai.protocol.standing import RECENT_LISTS, RunRules, Seat, Standing, advance, following_cursor, start
from helpers.messages import Author, named
from helpers.rounds import RULES, RUN, after_round, authors, listing, next_body, roster_of, started

FOUR = authors(4)
NEW_KEY = Address(b"n" * 20)


def members(*numbers: int) -> tuple[bytes, ...]:
    return tuple(Author(number).member for number in numbers)


def empty(standing: Standing) -> dict[str, Any]:
    """What makes the next round an empty one."""
    return {"updates_root": ZERO_HASH, "state_root": standing.state_root}


def play(standing: Standing, lists: list[list[Author] | None], rules: RunRules = RULES) -> Standing:
    """Rounds with these lists (None: an empty round), with everybody on the roster."""
    everybody = authors(len(standing.seats))
    for listed in lists:
        changes = empty(standing) if listed is None else {}
        standing = after_round(standing, listed or [], everybody, rules, drops=(), **changes)
    return standing


# Start


def test_the_first_head() -> None:
    standing = started([FOUR[2], FOUR[0], FOUR[1]])
    pairs = [(author.member, author.address) for author in FOUR[:3]]
    assert standing.head == start_head(named("genesis"), pairs)
    assert (standing.run, standing.round, standing.cursor, standing.recent) == (RUN, 0, 0, ())
    assert standing.state_root == named("state 0")
    assert standing.seats == tuple(Seat(member, key, 0) for member, key in pairs)
    assert standing.seat_members == standing.trainer_members == members(0, 1, 2)
    assert standing.quorum == quorum(3) == 2


def test_only_seats_train_in_the_first_round() -> None:
    # The first head fixes them; who joined besides is in the next body.
    standing = started(FOUR[:2], also=FOUR[2:])
    assert standing.trainer_members == members(0, 1)
    assert tuple(trainer.member for trainer in standing.next_trainers) == members(0, 1, 2, 3)


def test_keys_of_seats_and_trainers() -> None:
    standing = after_round(started(FOUR[:2], also=FOUR[2:3]), FOUR[:2], FOUR[:3])
    assert standing.seat_key(FOUR[1].member) == standing.trainer_key(FOUR[1].member) == FOUR[1].address
    assert standing.seat_key(FOUR[2].member) is None
    assert standing.trainer_key(FOUR[2].member) == FOUR[2].address
    assert standing.seat_key(FOUR[3].member) is standing.trainer_key(FOUR[3].member) is None


# Advance


def test_a_round_moves_everything_on() -> None:
    before = started(FOUR)
    body = next_body(before)
    after = advance(before, body, listing(before, [FOUR[0], FOUR[2]]), roster_of(FOUR))
    assert (after.round, after.head, after.state_root) == (1, body.head, body.state_root)
    assert after.seats == before.seats
    assert after.cursor == following_cursor(before, RULES) == 40
    assert [(listed.round, listed.members) for listed in after.recent] == [(1, frozenset(members(0, 2)))]
    assert before == started(FOUR)


def test_an_empty_round_moves_round_head_and_cursor_only() -> None:
    before = after_round(started(FOUR), FOUR, FOUR)
    after = after_round(before, [], FOUR, **empty(before))
    assert (after.round, after.cursor) == (2, before.cursor + 40)
    assert after.head != before.head
    assert after.state_root == before.state_root
    assert after.recent == before.recent
    assert after.seats == before.seats


def test_the_last_eight_lists_are_kept_and_empty_rounds_do_not_count() -> None:
    standing = play(started(FOUR), [FOUR, None] * 10)
    assert standing.round == 20
    assert [listed.round for listed in standing.recent] == [5, 7, 9, 11, 13, 15, 17, 19]
    assert len(standing.recent) == RECENT_LISTS == 8


def test_a_joiner_trains_in_the_round_after_the_next() -> None:
    # The head that the join precedes does not name it, the one after does: no reorg can change what a head means.
    joined = after_round(started(FOUR[:3]), FOUR[:3], FOUR)
    assert joined.trainer_members == members(0, 1, 2)
    body = next_body(joined)
    everybody = [Trainer(author.member, author.address) for author in FOUR]
    assert body.trainers_root == root_of_trainers(60, everybody)
    trains = after_round(joined, FOUR[:3], FOUR)
    assert trains.trainer_members == members(0, 1, 2, 3)
    assert trains.seat_members == members(0, 1, 2)
    assert (joined.cursor, trains.cursor, following_cursor(trains, RULES)) == (30, 60, 100)


def test_what_a_head_fixes_does_not_depend_on_the_roster_of_its_moment() -> None:
    before = started(FOUR)
    body = next_body(before)
    views = [advance(before, body, listing(before, FOUR[:1]), roster_of(who)) for who in (FOUR, FOUR[1:], [])]
    assert len({(view.head, view.trainers, view.cursor, view.seats) for view in views}) == 1
    assert len({view.next_trainers for view in views}) == 3


def test_a_leaver_trains_no_more_and_its_seat_attests_until_it_is_dropped() -> None:
    left = after_round(started(FOUR), FOUR, FOUR[1:])
    assert left.seat_members == left.trainer_members == members(0, 1, 2, 3)
    assert drops(left, RULES) == members(0)
    dropped = after_round(left, FOUR[1:], FOUR[1:])
    assert dropped.seat_members == dropped.trainer_members == members(1, 2, 3)


def test_a_new_key_counts_for_a_trainer_and_for_a_seat_from_its_promotion_on() -> None:
    five = authors(5)
    seat, trainer = five[0].member, five[4].member
    standing = started(FOUR, also=five[4:])
    roster = roster_of(five) | {seat: NEW_KEY, trainer: NEW_KEY}
    seen = []
    for _ in range(4):
        seen.append((standing.seat_key(seat), standing.trainer_key(seat), standing.trainer_key(trainer)))
        standing = advance(standing, next_body(standing), listing(standing, FOUR), roster)
    old, first = five[0].address, five[4].address
    assert seen == [
        (old, old, None),  # the ledger takes both changes, then the first certificate
        (old, old, first),
        (NEW_KEY, old, NEW_KEY),  # the second one promotes; to train with the key takes a round more
        (NEW_KEY, NEW_KEY, NEW_KEY),
    ]
    assert next(item for item in standing.seats if item.member == seat) == Seat(seat, NEW_KEY, 0)


def test_who_lost_its_seat_signs_with_the_key_of_the_roster() -> None:
    before = started(FOUR)
    roster = roster_of(FOUR) | {FOUR[0].member: NEW_KEY}
    after = advance(before, next_body(before, drops=members(0)), listing(before, FOUR[1:2]), roster)
    assert after.seat_key(FOUR[0].member) is None
    assert {item.member: item.key for item in after.next_trainers}[FOUR[0].member] == NEW_KEY


def test_the_changes_of_a_body_make_the_seats_that_follow() -> None:
    six = authors(6)
    before = started(FOUR, also=six[4:])
    promoted = tuple(
        Promotion(six[index].member, key)
        for index, key in [(0, NEW_KEY), (3, six[3].address), (4, six[4].address)]
    )
    before = replace(before, round=8, seats=tuple(replace(seat, since=3, seated=2) for seat in before.seats))
    body = next_body(before, promotions=promoted, drops=members(1, 3))
    after = advance(before, body, listing(before, FOUR), roster_of(six))
    assert after.seats == (
        Seat(six[0].member, NEW_KEY, 3, 2),  # a new key
        Seat(six[2].member, six[2].address, 3, 2),
        Seat(six[3].member, six[3].address, 9, 9),  # dropped and given again, if two thirds sign that
        Seat(six[4].member, six[4].address, 9, 9),
    )


# Drops

REST = FOUR[1:]


@pytest.mark.parametrize(
    ("lists", "dropped"),
    [
        ([REST] * 3, False),
        ([REST] * 4, True),
        ([REST, FOUR] * 3, False),
        ([REST, FOUR] * 4, True),
        ([REST] * 4 + [FOUR] * 4, True),  # still four of the last eight
        ([REST] * 4 + [FOUR] * 5, False),  # the first of them is forgotten
        ([REST, None] * 3 + [None] * 20, False),  # empty rounds are nobody's fault
        ([REST, None] * 4, True),
        ([FOUR] * 20 + [REST] * 3, False),
    ],
)
def test_four_of_the_last_eight_lists(lists: list[list[Author] | None], dropped: bool) -> None:
    standing = play(started(FOUR), lists)
    assert drops(standing, RULES) == (members(0) if dropped else ())


@pytest.mark.parametrize(("since", "dropped"), [(0, True), (1, False), (2, False), (4, False)])
def test_lists_count_from_the_round_after_becoming_a_seat(since: int, dropped: bool) -> None:
    standing = play(started(FOUR), [REST] * 4)
    first = replace(standing.seats[0], since=since)
    standing = replace(standing, seats=(first, *standing.seats[1:]))
    assert drops(standing, RULES) == (members(0) if dropped else ())


def test_a_new_seat_has_its_four_lists_too() -> None:
    # It became one in round 2: the lists of 3, 4 and 5 are three, that of 6 is the fourth.
    for rounds, dropped in [(5, ()), (6, members(0))]:
        standing = play(started(FOUR), [REST] * rounds)
        first = replace(standing.seats[0], since=2)
        assert drops(replace(standing, seats=(first, *standing.seats[1:])), RULES) == dropped


@pytest.mark.parametrize(
    ("min_seats", "expected"),
    [(0, (0, 1, 2, 3)), (1, (0, 1, 2)), (2, (0, 1)), (3, (0,)), (4, ()), (5, ())],
)
def test_never_below_the_least_seats_and_lowest_ids_first(min_seats: int, expected: tuple[int, ...]) -> None:
    rules = replace(RULES, min_seats=min_seats)
    standing = play(started(FOUR), [[]] * 4, rules)
    assert drops(standing, rules) == members(*expected)


def test_at_most_so_many_at_once() -> None:
    people = authors(64)
    standing = play(started(people), [[]] * MISSED_LISTS_MAX)
    assert drops(standing, RULES) == members(*range(CHANGES_MAX))
    standing = after_round(standing, [], people)
    assert drops(standing, RULES) == members(*range(32, 62))


def test_leavers_and_missers_share_the_limits() -> None:
    standing = play(started(FOUR), [[FOUR[0], FOUR[1], FOUR[3]]] * 3)
    standing = after_round(standing, [FOUR[0], FOUR[1]], [FOUR[0], FOUR[2], FOUR[3]], drops=())
    assert drops(standing, replace(RULES, min_seats=1)) == members(1, 2)
    assert drops(standing, replace(RULES, min_seats=3)) == members(1)


@given(
    st.integers(1, 12),
    st.lists(st.none() | st.sets(st.integers(0, 11)), max_size=12),
    st.integers(0, 6),
    st.data(),
)
def test_drops_by_counting(
    count: int, rounds: list[set[int] | None], min_seats: int, data: st.DataObject
) -> None:
    rules = replace(RULES, min_seats=min_seats)
    people = authors(count)
    lists = [None if who is None else [people[i] for i in sorted(who) if i < count] for who in rounds]
    standing = play(started(people), lists, rules)
    stays = data.draw(st.sets(st.integers(0, count - 1)))
    standing = after_round(standing, people, [people[i] for i in stays], rules, drops=())
    recent = [who for who in rounds if who is not None][-7:]
    due = [i for i in range(count) if i not in stays or sum(i not in who for who in recent) >= 4]
    found = drops(standing, rules)
    assert found == members(*due[: max(0, count - min_seats)])
    assert count - len(found) >= min(count, min_seats)
    check_succession(standing, rules, next_body(standing, rules))


# Succession


def test_what_follows() -> None:
    standing = play(started(FOUR), [REST] * 4)
    check_succession(standing, RULES, next_body(standing))
    check_succession(standing, RULES, next_body(standing, **empty(standing)))


SOMEBODY = Promotion(Author(0).member, NEW_KEY)
STANDING = started(FOUR)
TRAINERS = STANDING.next_trainers
REFUSED: list[tuple[type[ProtocolError], dict[str, Any]]] = [
    (WrongRound, {"run": RUN + 1}),
    (WrongRound, {"round": 0}),
    (WrongRound, {"round": 2}),
    (WrongHead, {"previous_head": named("fork")}),
    (WrongTrainersRoot, {"trainers_root": ZERO_HASH}),
    (WrongTrainersRoot, {"trainers_root": root_of_trainers(40, TRAINERS[1:])}),
    (WrongTrainersRoot, {"trainers_root": root_of_trainers(0, TRAINERS)}),
    (WrongMembershipChange, {"promotions": (SOMEBODY,)}),
    (WrongMembershipChange, {"drops": members(0)}),
    (WrongStateRoot, {"updates_root": ZERO_HASH}),
    (WrongStateRoot, {"updates_root": ZERO_HASH, "state_root": ZERO_HASH}),
]


@pytest.mark.parametrize(("error", "changes"), REFUSED)
def test_what_does_not_follow(error: type[ProtocolError], changes: dict[str, Any]) -> None:
    body = next_body(STANDING)
    check_succession(STANDING, RULES, body)
    with pytest.raises(ProtocolError) as caught:
        check_succession(STANDING, RULES, msgspec.structs.replace(body, **changes))
    assert type(caught.value) is error


def test_due_drops_cannot_be_left_out() -> None:
    standing = play(started(FOUR), [[FOUR[0], FOUR[3]]] * 4)
    assert drops(standing, RULES) == members(1, 2)
    for wrong in [(), members(1), members(2), members(1, 2, 3), members(2, 1)]:
        with pytest.raises(WrongMembershipChange):
            check_succession(standing, RULES, next_body(standing, drops=wrong))


def test_seats_are_sorted_whatever_the_order_of_the_event() -> None:
    seats = [Trainer(author.member, author.address) for author in FOUR]
    heads = {
        start(RUN, named("genesis"), named("state 0"), order, roster_of(FOUR)).head
        for order in (seats, seats[::-1], seats[2:] + seats[:2])
    }
    assert len(heads) == 1

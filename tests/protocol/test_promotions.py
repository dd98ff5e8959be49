"""Who gets a seat, and when: for work that two thirds saw, the oldest joiner first, and never so many at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.body import CHANGES_MAX, Promotion, quorum
from distrai.protocol.errors import WrongMembershipChange
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import ZERO_HASH, Address, MemberId
from distrai.protocol.seating import check_succession, drops, promotions
from distrai.protocol.standing import ListedRound, RunRules, Seat, Standing, advance
from helpers.messages import Author
from helpers.rounds import RULES, after_round, authors, listing, next_body, roster_of, started

SIX = authors(6)
FOUR, JOINER, LATER = SIX[:4], SIX[4], SIX[5]
NEW_KEY, NEWER_KEY = Address(b"n" * 20), Address(b"o" * 20)
UNCHANGED: dict[str, Any] = {"promotions": (), "drops": ()}


def promotion(author: Author) -> Promotion:
    return Promotion(author.member, author.address)


def played(lists: Sequence[Sequence[Author] | None], roster: Sequence[Author], **changes: Any) -> Standing:
    """Four seats and rounds with these lists (None: an empty round), where nothing is promoted or dropped."""
    standing = started(FOUR, roster[len(FOUR) :])
    for listed in lists:
        empty = {"updates_root": ZERO_HASH, "state_root": standing.state_root} if listed is None else {}
        standing = after_round(standing, listed or [], roster, **UNCHANGED, **empty, **changes)
    return standing


def made(
    seats: int, fresh: int, joiners: int, keys: dict[MemberId, Address] | None = None, seated: int = 10
) -> Standing:
    """A standing in round 10 with so many seats, the last ones fresh, and others that have earned one."""
    people = authors(seats + joiners)
    everybody = tuple(Trainer(author.member, author.address) for author in people)
    everyone = frozenset(author.member for author in people)
    roster = tuple(Trainer(item.member, (keys or {}).get(item.member, item.key)) for item in everybody)
    return replace(
        started(people[:seats], people[seats:]),
        round=10,
        seats=tuple(
            Seat(item.member, item.key, 0, seated if index >= seats - fresh else 0)
            for index, item in enumerate(everybody[:seats])
        ),
        roster=roster,
        recent=tuple(ListedRound(number, everyone) for number in range(3, 11)),
    )


# Earning a seat

ALL, REST = SIX[:5], FOUR


@pytest.mark.parametrize(
    ("lists", "earned"),
    [
        ([], False),
        ([ALL] * 3, False),
        ([ALL] * 4, True),
        ([ALL] * 4 + [REST], False),  # not in the last one
        ([ALL] * 4 + [REST] * 3 + [ALL], True),
        ([ALL, REST] * 3 + [ALL], True),
        ([ALL] * 3 + [REST] * 5 + [ALL], False),  # the first is forgotten
        ([ALL] * 4 + [REST] * 4 + [ALL], True),  # three of them and the last
        ([ALL, None] * 4 + [None] * 9, True),  # empty rounds count for nobody and against nobody
        ([ALL] * 3 + [None] * 9, False),
    ],
)
def test_a_seat_is_earned_by_the_last_list_and_four_of_the_last_eight(
    lists: list[list[Author] | None], earned: bool
) -> None:
    standing = played(lists, ALL)
    assert promotions(standing, RULES) == ((promotion(JOINER),) if earned else ())


def test_a_promoted_trainer_attests_from_the_next_round_on_and_has_its_four_lists() -> None:
    standing = played([ALL] * 4, ALL)
    standing = after_round(standing, ALL, ALL)
    assert standing.seats[4] == Seat(JOINER.member, JOINER.address, 5, 5)
    for missed in range(4):
        assert not drops(standing, RULES), missed
        standing = after_round(standing, REST, ALL)
    assert drops(standing, RULES) == (JOINER.member,)


@pytest.mark.parametrize("order", [(4, 5), (5, 4)])
def test_the_oldest_joiner_comes_first_whatever_its_id(order: tuple[int, int]) -> None:
    joiners = [SIX[index] for index in order]
    standing = played([SIX] * 4, [*FOUR, *joiners])
    assert promotions(standing, RULES) == (promotion(joiners[0]),)


def test_who_comes_back_stands_at_the_end_and_its_earlier_work_counts() -> None:
    standing = played([SIX] * 4, SIX)
    standing = after_round(standing, SIX, [*FOUR, LATER, JOINER], **UNCHANGED)
    assert promotions(standing, RULES) == (promotion(LATER),)
    assert promotions(after_round(standing, ALL, [*FOUR, JOINER], **UNCHANGED), RULES) == (promotion(JOINER),)


def test_who_left_gets_no_seat() -> None:
    standing = after_round(played([ALL] * 4, ALL), ALL, FOUR, **UNCHANGED)
    assert JOINER.member in standing.recent[-1].members
    assert promotions(standing, RULES) == ()


def test_a_new_seat_gets_the_key_that_its_member_has_now() -> None:
    standing = made(seats=4, fresh=0, joiners=1, keys={JOINER.member: NEW_KEY})
    assert promotions(standing, RULES) == (Promotion(JOINER.member, NEW_KEY),)


# How many

ROOM = [
    # (seats, fresh ones among them, most seats) and how many are given
    ((1, 0, 64), 1),  # one is always allowed
    ((2, 0, 64), 1),
    ((2, 1, 64), 0),
    ((4, 0, 64), 1),
    ((4, 1, 64), 0),
    ((5, 0, 64), 2),
    ((6, 0, 64), 2),
    ((6, 1, 64), 1),
    ((6, 2, 64), 0),
    ((9, 1, 64), 2),
    ((10, 0, 64), 4),
    ((10, 2, 64), 1),
    ((10, 3, 64), 0),
    ((10, 9, 64), 0),
    ((10, 0, 12), 2),
    ((10, 0, 10), 0),
    ((10, 0, 4), 0),  # more than there may be already
    ((60, 0, 200), 29),
    ((80, 0, 200), CHANGES_MAX),
]


@pytest.mark.parametrize(("case", "given_seats"), ROOM)
def test_fresh_seats_stay_below_a_third(case: tuple[int, int, int], given_seats: int) -> None:
    seats, fresh, max_seats = case
    standing = made(seats, fresh, joiners=40)
    found = promotions(standing, replace(RULES, max_seats=max_seats))
    joiners = authors(seats + 40)[seats:]
    assert found == tuple(promotion(author) for author in joiners[:given_seats])


@pytest.mark.parametrize(("seated", "is_fresh"), [(0, False), (6, False), (7, True), (10, True)])
def test_a_seat_is_fresh_for_four_rounds_that_are_not_empty(seated: int, is_fresh: bool) -> None:
    # The last four lists are those of rounds 7 to 10.
    standing = made(seats=5, fresh=1, joiners=1, seated=seated)
    assert len(promotions(standing, RULES)) == (0 if is_fresh else 1)


def test_empty_rounds_make_nobody_less_fresh() -> None:
    standing, seated = started(FOUR, SIX[4:]), []
    for number in range(1, 18):
        is_empty = number in (6, 7, 8)
        changes = {"updates_root": ZERO_HASH, "state_root": standing.state_root} if is_empty else {}
        before = len(standing.seats)
        standing = after_round(standing, [] if is_empty else SIX, SIX, **changes)
        seated += [number] * (len(standing.seats) - before)
    assert seated == [5, 13]  # after the lists of 5, 9, 10, 11 and 12


def test_dropped_seats_make_room_and_are_not_promoted() -> None:
    standing = made(seats=4, fresh=1, joiners=2)
    assert promotions(standing, RULES) == ()
    gone = standing.seats[3].member  # the fresh one leaves; it stays in the last lists
    left = tuple(trainer for trainer in standing.roster if trainer.member != gone)
    standing = replace(standing, next_trainers=tuple(sorted(left)), roster=left)
    assert drops(standing, RULES) == (gone,)
    assert promotions(standing, RULES) == (promotion(SIX[4]),)


def test_a_seat_that_is_dropped_for_absence_is_not_given_back_at_once() -> None:
    """Though it is in the last list and in four of the last eight."""
    lists = [REST[1:], FOUR] * 4
    standing = played(lists, FOUR)
    assert drops(standing, RULES) == (FOUR[0].member,)
    assert promotions(standing, RULES) == ()
    standing = after_round(standing, FOUR, FOUR)
    assert promotions(standing, RULES) == (promotion(FOUR[0]),)


# New keys


def test_a_seat_with_a_new_key_is_promoted_with_it_however_few_may_be() -> None:
    keys = {SIX[1].member: NEW_KEY, SIX[4].member: NEWER_KEY}
    standing = made(seats=4, fresh=3, joiners=1, keys=keys)
    assert promotions(standing, RULES) == (Promotion(SIX[1].member, NEW_KEY),)
    standing = after_round(standing, [], SIX[:5])
    assert standing.seats[1] == Seat(SIX[1].member, NEW_KEY, 0, 10)  # neither count begins anew


def test_a_seat_that_leaves_with_a_new_key_is_only_dropped() -> None:
    standing = made(seats=4, fresh=0, joiners=0, keys={FOUR[1].member: NEW_KEY})
    stay = tuple(trainer for trainer in standing.next_trainers if trainer.member != FOUR[1].member)
    standing = replace(standing, next_trainers=stay)
    assert drops(standing, RULES) == (FOUR[1].member,)
    assert promotions(standing, RULES) == ()
    standing = replace(standing, roster=tuple(item for item in standing.roster if item.key != NEW_KEY))
    assert promotions(standing, RULES) == ()


def test_new_seats_come_before_new_keys_where_both_are_too_many() -> None:
    seats = authors(40)
    keys = {author.member: NEW_KEY for author in seats}
    found = promotions(made(40, 0, 40, keys), RULES)
    assert len(found) == CHANGES_MAX and list(found) == sorted(found)
    assert [item.key for item in found].count(NEW_KEY) == CHANGES_MAX - 19  # 3 * 19 < 59
    assert {item.member for item in found[: CHANGES_MAX - 19]} == {
        author.member for author in seats[: CHANGES_MAX - 19]
    }


# What a body must carry


def test_due_promotions_can_neither_be_left_out_nor_added_to() -> None:
    standing = made(seats=4, fresh=0, joiners=2, keys={FOUR[2].member: NEW_KEY})
    due = promotions(standing, RULES)
    assert due == (Promotion(FOUR[2].member, NEW_KEY), promotion(SIX[4]))
    check_succession(standing, RULES, next_body(standing))
    for wrong in [(), due[:1], due[1:], (*due, promotion(SIX[5])), (due[0], promotion(SIX[5])), due[::-1]]:
        with pytest.raises(WrongMembershipChange):
            check_succession(standing, RULES, next_body(standing, promotions=wrong))


# Whatever others do

PEOPLE = authors(14)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[Author] | None, list[int], dict[int, int]]:
    """Who is in the list (None: an empty round), who takes part in which order, and who has which key."""
    absent, away = (
        draw(st.sets(st.integers(0, 13), max_size=5)),
        draw(st.sets(st.integers(0, 13), max_size=3)),
    )
    listed = draw(st.none() | st.just([each for each in PEOPLE if each.number not in absent]))
    order = [number for number in draw(st.permutations(range(14))) if number not in away]
    return listed, order, draw(st.dictionaries(st.integers(0, 13), st.integers(0, 1), max_size=3))


@given(
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(6, 14),
    st.lists(rounds(), min_size=5, max_size=16),
)
def test_whatever_lists_and_rosters_do_promotions_keep_their_limits(
    seats: int, min_seats: int, max_seats: int, story: list[Any]
) -> None:
    rules = RunRules(min_seats, 10, max_seats)
    standing, lists, seated = started(PEOPLE[:seats], PEOPLE[seats:]), [], {}
    for listed, order, rotated in story:
        before, recent = {seat.member: seat.key for seat in standing.seats}, lists[-8:]
        due, gone = promotions(standing, rules), {*drops(standing, rules)}
        roster = {trainer.member: trainer.key for trainer in standing.roster}
        new = [item for item in due if item.member not in before]
        assert list(due) == sorted({item.member: item for item in due}.values())
        for item in due:
            assert item.member not in gone and roster[item.member] == item.key != before.get(item.member)
        earned = [
            member
            for member in roster
            if member not in before
            and lists
            and member in lists[-1]
            and sum(member in members for members in recent) >= 4
        ]
        fresh = sum(len(lists) - seated.get(member, -9) <= 4 for member in {*before} - gone)
        total = len({*before} - gone)
        assert {item.member for item in new} == {*earned[: len(new)]}
        assert not new or total + len(new) <= max_seats
        assert not new or (fresh, len(new)) == (0, 1) or 3 * (fresh + len(new)) < total + len(new)
        if len(new) < len(earned) and total + len(new) < max_seats:  # no seat is held back
            assert 3 * (fresh + len(new) + 1) >= total + len(new) + 1 and (fresh or new)

        empty = {"updates_root": ZERO_HASH, "state_root": standing.state_root} if listed is None else {}
        people = roster_of([PEOPLE[index] for index in order])
        people |= {
            PEOPLE[index].member: (NEW_KEY, NEWER_KEY)[key]
            for index, key in rotated.items()
            if index in order
        }
        body = next_body(standing, rules, **empty)
        standing = advance(standing, body, listing(standing, listed or [], rules), people)
        lists += [] if listed is None else [{author.member for author in listed}]
        seated |= {item.member: len(lists) - 1 for item in new}
        seated = {member: at for member, at in seated.items() if standing.seat_key(member) is not None}


@given(
    st.integers(2, 7),
    st.integers(1, 16),
    st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 15)), st.randoms()), min_size=8, max_size=24),
)
def test_joiners_that_fall_silent_once_they_have_a_seat_never_stall_the_run(
    founders: int, joiners: int, story: list[Any]
) -> None:
    """They work until they have one, come and go and rotate their keys: the founders alone are always a quorum."""
    old, new = authors(founders + joiners)[:founders], authors(founders + joiners)[founders:]
    rules = replace(RULES, min_seats=founders)
    standing = started(old, new)
    for is_empty, lazy, random in story:
        working = [
            author
            for number, author in enumerate(new)
            if number not in lazy and standing.seat_key(author.member) is None
        ]
        empty = {"updates_root": ZERO_HASH, "state_root": standing.state_root} if is_empty else {}
        random.shuffle(new)
        people = roster_of([*new[: random.randint(0, 2 * joiners)], *old])
        people |= {author.member: NEW_KEY for author in new[:1] if author.member in people}
        body = next_body(standing, rules, **empty)
        listed = [] if is_empty else [*old, *working]
        standing = advance(standing, body, listing(standing, listed, rules), people)
        assert {author.member for author in old} <= {*standing.seat_members}
        assert founders >= quorum(len(standing.seats))

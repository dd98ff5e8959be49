"""Where updates may be listed late: from which heads, once, and what presence is then."""

from dataclasses import replace
from typing import Any

import pytest

from distrai.protocol.assignment import assigned_block
from distrai.protocol.body import Promotion
from distrai.protocol.checks import author_key, base_of, check_place, check_update, may_be_listed
from distrai.protocol.errors import (
    AlreadyListed,
    ForeignHead,
    ForeignRun,
    ProtocolError,
    WrongBase,
    WrongBlobSize,
    WrongFragment,
    WrongRound,
)
from distrai.protocol.history import reconstruct, rounds_needed
from distrai.protocol.lists import CertifiedList
from distrai.protocol.messages import Have, Key
from distrai.protocol.primitives import ZERO_HASH
from distrai.protocol.seating import drops, promotions
from distrai.protocol.standing import Standing, advance, block_ahead, block_of, call_roll
from helpers.histories import History
from helpers.messages import Author, named
from helpers.rounds import (
    RULES,
    RUN,
    WORK,
    after_round,
    authors,
    list_of,
    next_body,
    roster_of,
    started,
    update_of,
)

FIVE = authors(5)
FOUR, JOINER = FIVE[:4], FIVE[4]
LATE = replace(RULES, staleness=2, lag=1)


def lists(standing: Standing, *who: list[Author]) -> Standing:
    """Rounds with the updates of these, all made from the newest head; nobody is dropped or promoted."""
    for listed in who:
        body = next_body(standing, LATE, drops=(), promotions=())
        fresh = list_of(listed, standing)
        standing = advance(standing, body, fresh, roster_of(FIVE), LATE.staleness)
    return standing


def chain(rounds: int) -> list[Standing]:
    """Standings of rounds with empty lists."""
    found = [started(FOUR, [JOINER])]
    for _ in range(rounds):
        found.append(lists(found[-1], []))
    return found


# Bases


def test_a_standing_knows_the_heads_of_so_many_rounds_before_it_and_who_trained_from_them() -> None:
    standings = chain(4)
    assert [base.round for base in standings[4].bases] == [2, 3]
    assert standings[4].bases == (standings[2].base, standings[3].base)
    assert [standing.before for standing in standings[1:]] == [standing.head for standing in standings[:-1]]
    assert standings[0].before == named("genesis") and standings[0].bases == ()
    assert standings[4].base_at(2) == standings[2].base and standings[4].base_at(1) is None
    assert standings[4].base_of_head(standings[4].head) == standings[4].base
    assert standings[4].base_of_head(standings[1].head) is None


def test_without_staleness_there_is_no_head_but_the_newest() -> None:
    standing = after_round(after_round(started(FOUR), FOUR, FOUR), FOUR, FOUR)
    assert (standing.bases, standing.spent) == ((), frozenset())
    assert call_roll(standing, RULES, (), roster_of(FOUR)).bases == ()


def test_a_roll_call_is_a_head_like_others_and_what_was_listed_stays_listed() -> None:
    before = lists(started(FOUR, [JOINER]), FOUR[:2])
    after = call_roll(before, LATE, (FOUR[3].member,), roster_of(FIVE))
    assert after.bases == (started(FOUR, [JOINER]).base, before.base) and after.before == before.head
    assert after.spent == {(FOUR[0].member, 0), (FOUR[1].member, 0)}
    assert FOUR[3].member in after.authors, "its work from before may count yet"


def test_who_signs_an_update_is_who_trained_from_its_base() -> None:
    first, second = chain(1)
    assert second.trainer_key(JOINER.member) == JOINER.address and first.trainer_key(JOINER.member) is None
    old, new = update_of(JOINER, first), update_of(JOINER, second)
    assert author_key(old, second) is None and author_key(new, second) == JOINER.address
    gone = replace(second, trainers=())
    assert author_key(update_of(FOUR[0], first), gone) == FOUR[0].address
    assert author_key(replace_round(update_of(FOUR[0], first), 9), gone) is None
    updates = [update_of(FOUR[0], first), old, replace_round(update_of(FOUR[1], first), 9)]
    assert gone.signing_keys(updates) == {FOUR[0].member: FOUR[0].address}
    assert gone.authors == {author.member for author in FOUR}


def replace_round(update: Any, number: int) -> Any:
    return type(update)(
        **{**{name: getattr(update, name) for name in update.__struct_fields__}, "round": number}
    )


# Which updates may be listed


@pytest.mark.parametrize("age", [0, 1, 2])
def test_an_update_may_be_as_old_as_the_recipe_says(age: int) -> None:
    standings = chain(5)
    update = update_of(FOUR[0], standings[5 - age])
    check_update(update, standings[5], WORK)
    check_place(update, standings[5])
    assert base_of(update, standings[5]) == standings[5 - age].base and may_be_listed(update, standings[5])


@pytest.mark.parametrize(
    ("error", "age", "changes"),
    [
        (WrongRound, 3, {}),
        (WrongRound, 0, {"round": 7}),
        (ForeignHead, 1, {"previous_head": named("fork")}),
        (ForeignRun, 1, {"run": RUN + 1}),
        (WrongBase, 1, {"base_round": 5}),
        (WrongBase, 2, {"base_state_root": named("other")}),
    ],
)
def test_what_is_too_old_or_of_another_chain(
    error: type[ProtocolError], age: int, changes: dict[str, Any]
) -> None:
    standings = chain(5)
    with pytest.raises(error):
        check_update(update_of(FOUR[0], standings[5 - age], **changes), standings[5], WORK)


def test_messages_of_a_round_are_of_that_round_only_but_a_key_goes_with_its_update() -> None:
    before, now = chain(1)
    place = {"run": RUN, "round": 1, "previous_head": before.head, "member": FOUR[0].member}
    check_place(Key(**place, update=named("u"), key=named("k")), now)
    with pytest.raises(WrongRound):
        check_place(Have(**place, updates=()), now)


def test_a_member_counts_once_for_each_base_it_trained_from() -> None:
    first = started(FOUR, [JOINER])
    second = lists(first, FOUR[:1])
    again, other = update_of(FOUR[0], first, blob_hash=named("other")), update_of(FOUR[1], first)
    with pytest.raises(AlreadyListed):
        check_update(again, second, WORK)
    assert not may_be_listed(again, second) and may_be_listed(other, second)
    check_update(other, second, WORK)
    check_update(update_of(FOUR[0], second), second, WORK)


def test_what_was_listed_is_remembered_while_it_could_be_listed_again() -> None:
    standing = lists(started(FOUR, [JOINER]), FOUR[:1], FOUR[:2])
    assert standing.spent == {(FOUR[0].member, 0), (FOUR[0].member, 1), (FOUR[1].member, 1)}
    standing = lists(standing, [], [])
    assert standing.spent == frozenset()
    assert standing.base_at(1) is None, "too old anyway"


# Fragments and overlap


def test_each_round_has_its_fragment_and_its_size() -> None:
    work = replace(WORK, sealed_bytes=(100, 200, 300), overlap=3)
    standings = chain(4)
    for standing, fragment in zip(standings, [0, 1, 2, 0, 1], strict=True):
        changes = {"fragment": fragment, "blob_size": 100 * (fragment + 1)}
        for tau in (0, 3) if standing.round else (0,):
            check_update(update_of(FOUR[0], standing, tau=tau, **changes), standing, work)
        with pytest.raises(WrongFragment):
            check_update(
                update_of(FOUR[0], standing, **{**changes, "fragment": (fragment + 1) % 3}), standing, work
            )
        with pytest.raises(WrongFragment):
            check_update(update_of(FOUR[0], standing, tau=2, **changes), standing, work)
        with pytest.raises(WrongBlobSize):
            check_update(update_of(FOUR[0], standing, **{**changes, "blob_size": 99}), standing, work)
        fewer = {"inner_steps": 2, "tokens": 2 * work.tokens_per_step, **changes}
        with pytest.raises(WrongFragment):
            check_update(update_of(FOUR[0], standing, tau=3, **fewer), standing, work)
    with pytest.raises(WrongFragment):  # nothing is ahead of the first round
        check_update(update_of(FOUR[0], standings[0], tau=3, fragment=0, blob_size=100), standings[0], work)


# Data


def test_where_rounds_overlap_data_is_drawn_by_the_head_before() -> None:
    before, now = chain(1)
    member = FOUR[2].member
    assert block_of(now, RULES, member) == assigned_block(
        member, now.trainer_members, now.head, now.cursor, 10
    )
    drawn = assigned_block(member, now.trainer_members, before.head, now.cursor, 10)
    assert block_of(now, LATE, member) == drawn


def test_the_block_of_the_next_round_is_known_before_its_head_if_it_is_not_drawn_by_that() -> None:
    before = started(FOUR, [JOINER])
    for author in FIVE:
        expected = block_ahead(before, LATE, author.member)
        body = next_body(before, LATE)
        certified = CertifiedList(before.cursor + 40, before.next_trainers, ())
        after = advance(before, body, certified, roster_of(FIVE), LATE.staleness)
        assert expected == block_of(after, LATE, author.member)
    assert block_ahead(before, RULES, FOUR[0].member) is None
    assert block_ahead(before, LATE, named("nobody")) is None


# Presence


def test_nobody_is_dropped_who_is_in_one_of_so_many_lists() -> None:
    """With S = 2 whoever is in every third list has missed none."""
    turns = [[FOUR[number % 3], FOUR[3]] for number in range(12)]
    assert drops(lists(started(FOUR, [JOINER]), *turns), LATE) == ()
    slow = [[FOUR[0], FOUR[1], FOUR[2], *([FOUR[3]] if number % 4 == 0 else [])] for number in range(16)]
    standing = lists(started(FOUR, [JOINER]), *slow)
    assert drops(standing, LATE) == (), "every fourth: missed at most two of the last eight"
    assert drops(standing, RULES) == (FOUR[3].member,)


def test_four_missed_lists_drop_but_none_counts_before_a_first_update_can_be_there() -> None:
    absent = [FOUR[:3]]
    standing = lists(started(FOUR, [JOINER]), *(absent * 5))
    assert drops(standing, LATE) == (), "rounds 3, 4 and 5 count"
    assert drops(lists(standing, *absent), LATE) == (FOUR[3].member,)
    called = call_roll(lists(standing, *absent), LATE, (), roster_of(FIVE))
    assert drops(lists(called, *(absent * 5)), LATE) == ()
    assert drops(lists(called, *(absent * 6)), LATE) == (FOUR[3].member,)


def test_a_seat_is_earned_by_being_in_one_of_so_many_lists() -> None:
    turns = [[*FOUR, JOINER], FOUR, FOUR, [*FOUR, JOINER]]
    standing = lists(started(FOUR, [JOINER]), *turns)
    assert promotions(standing, LATE) == (Promotion(JOINER.member, JOINER.address),)
    assert promotions(lists(standing, FOUR, FOUR, FOUR), LATE) == (), "none of the last three"
    assert promotions(standing, RULES) == ()


def test_an_empty_list_and_zero_updates_change_nothing() -> None:
    before = lists(started(FOUR, [JOINER]), FOUR[:1])
    body = next_body(
        before, LATE, updates_root=ZERO_HASH, state_root=before.state_root, drops=(), promotions=()
    )
    after = advance(before, body, CertifiedList(0, before.next_trainers, ()), roster_of(FIVE), LATE.staleness)
    assert after.recent == before.recent and after.spent == before.spent


def test_so_many_more_lists_are_kept_that_the_last_eight_have_those_before_them() -> None:
    standing = lists(started(FOUR, [JOINER]), *([FOUR] * 12))
    assert [listed.round for listed in standing.recent] == list(range(3, 13))


# Joiners


def test_a_joiner_needs_the_lists_of_so_many_rounds_more() -> None:
    history = History(staleness=2)
    for author in FOUR:
        history.join(author)
    history.start()
    for number in range(1, 15):
        history.certify([] if number == 13 else FOUR[: 1 + number % 4], promotions=(), drops=())
    assert rounds_needed(history.events, 2) == (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    known = {number: history.lists[number] for number in rounds_needed(history.events, 2)}
    assert reconstruct(history.rules, history.events, known)[0] == history.standing
    history.call_roll([])
    assert rounds_needed(history.events, 2) == (12, 13, 14), "who trained, and what was listed of it"
    assert reconstruct(history.rules, history.events, known)[0] == history.standing

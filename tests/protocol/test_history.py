"""Who follows the ledger and has the newest lists knows what one knows who was there all the time."""

from dataclasses import replace

import pytest
from hypothesis import given

from distrai.protocol.errors import MissingList, ProtocolError, WrongHead, WrongTrainersRoot, WrongUpdatesRoot
from distrai.protocol.history import enrol, reconstruct, rounds_needed
from distrai.protocol.ledger_events import Certified, Deactivated, Left, RollCalled, Started
from distrai.protocol.lists import CertifiedList, check_list
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.seating import drops, promotions
from helpers.histories import History, histories, key_of
from helpers.messages import named
from helpers.rounds import RULES, authors

PEOPLE = authors(6)
FOUR = PEOPLE[:4]


def opened() -> History:
    history = History()
    for author in FOUR:
        history.join(author)
    return history


def started() -> History:
    history = opened()
    history.start()
    return history


def needed(history: History) -> dict[int, CertifiedList]:
    return {number: history.lists[number] for number in rounds_needed(history.events, history.staleness)}


@given(histories(staleness_max=7))
def test_a_joiner_arrives_where_those_are_who_saw_every_list(history: History) -> None:
    standing, roster = reconstruct(history.rules, history.events, needed(history))
    assert standing == history.standing
    assert list(roster.items()) == list(history.roster.items())  # in the same order
    assert standing is not None and history.standing is not None
    assert promotions(standing, history.rules) == promotions(history.standing, history.rules)
    assert drops(standing, history.rules) == drops(history.standing, history.rules)


@given(histories())
def test_whose_stake_counts_no_more_is_as_if_it_had_left(history: History) -> None:
    events = [
        Deactivated(event.at, event.member) if isinstance(event, Left) else event for event in history.events
    ]
    found = reconstruct(history.rules, events, needed(history))
    assert found == reconstruct(history.rules, history.events, needed(history))


@given(histories(steps=15, staleness_max=3))
def test_it_can_go_on_from_there(history: History) -> None:
    """What follows from a reconstructed standing is what follows for the others."""
    standing, roster = reconstruct(history.rules, history.events, needed(history))
    joiner = History(standing, roster, list(history.events), dict(history.lists), history.staleness)
    for each in (history, joiner):
        each.certify(FOUR)
        each.join(PEOPLE[5])
        each.call_roll([])
        each.certify(FOUR[1:])
    assert joiner.standing == history.standing


def test_only_the_newest_lists_are_needed_and_each_of_them() -> None:
    history = started()
    for number in range(1, 13):
        history.certify([] if number in (4, 9, 12) else FOUR)
    assert rounds_needed(history.events) == (2, 3, 5, 6, 7, 8, 10, 11, 12)
    check_each_is_needed(history)


def test_presence_counts_anew_after_a_roll_call_so_lists_of_before_are_not_needed() -> None:
    history = started()
    for _ in range(3):
        history.certify(FOUR)
    history.call_roll([])
    assert rounds_needed(history.events) == (3,)  # the trainers follow from it
    check_each_is_needed(history)
    history.certify(FOUR)
    history.certify(FOUR)
    assert rounds_needed(history.events) == (5, 6)
    check_each_is_needed(history)


def check_each_is_needed(history: History) -> None:
    lists = needed(history)
    assert reconstruct(RULES, history.events, lists)[0] == history.standing
    for number in lists:
        with pytest.raises(MissingList, match=f"round {number} "):
            reconstruct(RULES, history.events, {key: item for key, item in lists.items() if key != number})


def test_before_the_first_certificate_no_list_is_needed() -> None:
    history = opened()
    assert rounds_needed(history.events) == ()
    standing, roster = reconstruct(RULES, history.events, {})
    assert standing is None and roster == {author.member: author.address for author in FOUR}
    history.start()
    history.call_roll([FOUR[0].member])
    assert reconstruct(RULES, history.events, {})[0] == history.standing
    assert reconstruct(RULES, [], {}) == (None, {})


def test_a_list_that_was_not_certified_is_refused() -> None:
    history = started()
    history.certify(FOUR)
    good = history.lists[1]
    wrong = {
        WrongUpdatesRoot: CertifiedList(good.cursor, good.trainers, good.entries[1:]),
        WrongTrainersRoot: CertifiedList(good.cursor + 1, good.trainers, good.entries),
    }
    for error, certified in wrong.items():
        with pytest.raises(error):
            reconstruct(RULES, history.events, {1: certified})


def test_heads_that_do_not_follow_from_their_history_are_refused() -> None:
    history = started()
    history.certify(FOUR)
    history.call_roll([FOUR[3].member])
    for index, event in enumerate(history.events):
        if not isinstance(event, Started | Certified | RollCalled):
            continue
        spoilt = list(history.events)
        spoilt[index] = replace(event, head=named("another"))
        with pytest.raises(WrongHead):
            reconstruct(RULES, spoilt, needed(history))
    roll_call = history.events[-1]
    assert isinstance(roll_call, RollCalled)
    with pytest.raises(WrongHead):
        reconstruct(RULES, [*history.events[:-1], replace(roll_call, drops=())], needed(history))


def test_who_comes_back_stands_at_the_end_of_the_roster() -> None:
    history = opened()
    history.rotate(FOUR[1], 1)
    history.leave(FOUR[0])
    history.rotate(FOUR[0], 2)  # of one who takes no part
    history.join(FOUR[0], 1)
    history.join(FOUR[1], 1)
    roster: dict[MemberId, Address] = {}
    for event in history.events:
        enrol(roster, event)
    assert [*roster] == [FOUR[index].member for index in (2, 3, 0, 1)]
    assert roster[FOUR[0].member] == key_of(FOUR[0], 1) and roster[FOUR[1].member] == key_of(FOUR[1], 1)


def test_the_made_lists_are_those_of_their_bodies() -> None:
    """Else the tests above would show little."""
    history = started()
    body = history.certify(FOUR[1:])
    check_list(history.lists[1], body)
    with pytest.raises(ProtocolError):
        check_list(CertifiedList(0, (), ()), body)

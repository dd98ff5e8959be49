"""What a replayer checks without the ledger's events: it refuses no honest certificate, and passes few others."""

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from distrai.protocol.body import Body, Promotion
from distrai.protocol.errors import ProtocolError, WrongMembershipChange, WrongRound, WrongTrainersRoot
from distrai.protocol.ledger_events import Certified, RollCalled, Started
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Address
from distrai.protocol.seating import check_published, promotions
from distrai.protocol.standing import Standing, advance, call_roll, start
from helpers.histories import GENESIS, History, histories
from helpers.rounds import RULES, RUN, authors, listing, next_body

SIX = authors(6)
FOUR = SIX[:4]
OTHER_KEY = Address(b"k" * 20)


@given(histories())
def test_every_honest_certificate_passes(history: History) -> None:
    standing: Standing | None = None
    for event in history.events:
        match event:
            case Started(seats=seats):
                standing = start(RUN, GENESIS.head, GENESIS.state_root, seats, {})
            case Certified(body=body) if standing is not None:
                certified = history.lists[body.round]
                check_published(standing, RULES, body, certified)
                standing = advance(standing, body, certified, {})
            case RollCalled(drops=absent) if standing is not None:
                standing = call_roll(standing, RULES, absent, {})
    assert standing is not None and history.standing is not None
    assert (standing.head, standing.seats) == (history.standing.head, history.standing.seats)


def earned() -> tuple[Standing, Body, CertifiedList]:
    """Two joiners have earned a seat, one may have it, and the fourth seat left; as a replayer sees it."""
    history = History()
    for author in FOUR:
        history.join(author)
    history.start()
    for author in SIX[4:]:
        history.join(author)
    for _ in range(3):
        history.certify(SIX)
    history.leave(FOUR[3])
    history.certify(SIX, drops=())
    standing = history.standing
    assert standing is not None
    body, certified = next_body(standing), listing(standing, SIX)
    assert body.drops == (FOUR[3].member,) and body.promotions == (Promotion(SIX[4].member, SIX[4].address),)
    return standing, body, certified


def test_it_does_not_know_who_joined_first() -> None:
    standing, body, certified = earned()
    check_published(standing, RULES, body, certified)
    other = Promotion(SIX[5].member, SIX[5].address)
    assert other not in promotions(standing, RULES)
    check_published(standing, RULES, replace(body, promotions=(other,)), certified)
    check_published(standing, RULES, replace(body, promotions=()), certified)


def test_it_does_not_know_the_new_key_of_a_seat() -> None:
    standing, body, certified = earned()
    rotated = (Promotion(FOUR[0].member, OTHER_KEY), *body.promotions)
    check_published(standing, RULES, replace(body, promotions=rotated), certified)


NEW, SEAT = (Promotion(SIX[index].member, SIX[index].address) for index in (5, 3))
REFUSED: list[tuple[type[ProtocolError], dict[str, Any], dict[str, Any]]] = [
    (WrongRound, {"round": 9}, {}),
    (WrongTrainersRoot, {}, {"cursor": 1}),
    (WrongMembershipChange, {"drops": ()}, {}),
    (WrongMembershipChange, {"drops": (FOUR[2].member, FOUR[3].member)}, {}),
    (WrongMembershipChange, {"promotions": (Promotion(SIX[4].member, SIX[4].address), NEW)}, {}),  # too many
    (WrongMembershipChange, {"promotions": (Promotion(SIX[4].member, OTHER_KEY),)}, {}),
    (WrongMembershipChange, {"promotions": (SEAT,)}, {}),  # the one that is dropped
    (WrongMembershipChange, {"promotions": (Promotion(authors(7)[6].member, OTHER_KEY),)}, {}),
]


@pytest.mark.parametrize(("error", "changes", "list_changes"), REFUSED)
def test_what_it_refuses(
    error: type[ProtocolError], changes: dict[str, Any], list_changes: dict[str, Any]
) -> None:
    standing, body, certified = earned()
    with pytest.raises(ProtocolError) as caught:
        check_published(standing, RULES, replace(body, **changes), replace(certified, **list_changes))
    assert type(caught.value) is error

"""The absolute checks: each refuses by the name of its rule, and lets pass what is right."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.checks import check_author, check_have, check_place, check_proposal, check_update
from distrai.protocol.errors import (
    BadSignature,
    ForeignHead,
    ForeignRun,
    MalformedMessage,
    NotASeat,
    NotATrainer,
    ProtocolError,
    TooManySteps,
    UnsortedList,
    WrongBase,
    WrongBlobSize,
    WrongCodec,
    WrongFragment,
    WrongRound,
    WrongTokenCount,
)
from distrai.protocol.messages import Have, Key, Message, Proposal, open_envelope
from distrai.protocol.primitives import Hash
from distrai.protocol.signatures import recover
from helpers.messages import DOMAIN, Author, named
from helpers.rounds import WORK, after_round, authors, started, update_of

PEOPLE = authors(5)
SEATS, TRAINER, STRANGER = PEOPLE[:3], PEOPLE[3], PEOPLE[4]
# Two rounds on, whoever joined at the start trains besides the seats.
STANDING = after_round(after_round(started(SEATS, [TRAINER]), SEATS, PEOPLE[:4]), SEATS, PEOPLE[:4])
PLACE = {"run": STANDING.run, "round": STANDING.round + 1, "previous_head": STANDING.head}


def have(*updates: Hash, **changes: Any) -> Have:
    return Have(**PLACE, member=SEATS[0].member, updates=updates, **changes)


def proposal(*updates: Hash, **changes: Any) -> Proposal:
    lists = {"updates": updates, "haves": (), "keys": ()}
    return Proposal(**PLACE, member=SEATS[0].member, attempt=0, body=b"", **lists, **changes)


# Place


def test_a_message_in_its_place() -> None:
    check_place(update_of(SEATS[0], STANDING), STANDING)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (ForeignRun, {"run": STANDING.run + 1}),
        (WrongRound, {"round": STANDING.round}),
        (WrongRound, {"round": STANDING.round + 2}),
        (ForeignHead, {"previous_head": named("fork")}),
    ],
)
def test_a_message_out_of_place(error: type[ProtocolError], changes: dict[str, Any]) -> None:
    for message in (update_of(SEATS[0], STANDING), have()):
        check_place(message, STANDING)
        with pytest.raises(ProtocolError) as caught:
            check_place(msgspec.structs.replace(message, **changes), STANDING)
        assert type(caught.value) is error


# Author


def sealed(message: Message, by: Author) -> Any:
    return open_envelope(by.seal(message).raw, DOMAIN, recover)


def in_place(author: Author) -> dict[str, Any]:
    return {**PLACE, "member": author.member}


@pytest.mark.parametrize("author", [*SEATS, TRAINER], ids=lambda author: author.number)
def test_trainers_send_updates_and_keys(author: Author) -> None:
    check_author(sealed(update_of(author, STANDING), author), STANDING)
    check_author(sealed(Key(**in_place(author), update=named("u"), key=named("k")), author), STANDING)


def test_seats_send_haves() -> None:
    for author in SEATS:
        check_author(sealed(Have(**in_place(author), updates=()), author), STANDING)


def test_a_trainer_has_no_have() -> None:
    with pytest.raises(NotASeat):
        check_author(sealed(Have(**in_place(TRAINER), updates=()), TRAINER), STANDING)


def test_a_stranger_has_nothing() -> None:
    with pytest.raises(NotATrainer):
        check_author(sealed(update_of(STRANGER, STANDING), STRANGER), STANDING)
    with pytest.raises(NotATrainer):
        check_author(sealed(Key(**in_place(STRANGER), update=named("u"), key=named("k")), STRANGER), STANDING)
    with pytest.raises(NotASeat):
        check_author(sealed(Have(**in_place(STRANGER), updates=()), STRANGER), STANDING)


def test_nobody_signs_for_another() -> None:
    for author, by in [(SEATS[0], SEATS[1]), (SEATS[0], STRANGER), (TRAINER, SEATS[0])]:
        with pytest.raises(BadSignature):
            check_author(sealed(update_of(author, STANDING), by), STANDING)


# Update


@pytest.mark.parametrize("steps", range(1, WORK.inner_steps_max + 1))
def test_an_update_may_have_fewer_steps(steps: int) -> None:
    changes = {"inner_steps": steps, "tokens": steps * WORK.tokens_per_step}
    check_update(update_of(SEATS[0], STANDING, **changes), STANDING, WORK)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (MalformedMessage, {"version": 0}),
        (MalformedMessage, {"version": 2}),
        (WrongBase, {"base_round": STANDING.round - 1}),
        (WrongBase, {"base_round": STANDING.round + 1}),
        (WrongBase, {"base_state_root": named("other")}),
        (WrongCodec, {"codec": "int8/2"}),
        (WrongCodec, {"codec": ""}),
        (WrongFragment, {"fragment": 1}),
        (WrongFragment, {"tau": 1}),
        (WrongFragment, {"trace_root": named("trace")}),
        (WrongBlobSize, {"blob_size": WORK.sealed_bytes[0] - 1}),
        (WrongBlobSize, {"blob_size": WORK.sealed_bytes[0] + 1}),
        (TooManySteps, {"inner_steps": 0, "tokens": 0}),
        (TooManySteps, {"inner_steps": 6, "tokens": 6 * 64}),
        (WrongTokenCount, {"tokens": 3 * 64 - 1}),
        (WrongTokenCount, {"tokens": 4 * 64}),
        (WrongTokenCount, {"tokens": 0}),
    ],
)
def test_an_update_that_cannot_be(error: type[ProtocolError], changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_update(update_of(SEATS[0], STANDING, **changes), STANDING, WORK)
    assert type(caught.value) is error


# Have and Proposal


@given(st.sets(st.integers(0, 99), max_size=6))
def test_sorted_haves(numbers: set[int]) -> None:
    check_have(have(*(named(f"{number:02}") for number in sorted(numbers))))


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1), (1, 3, 2), (1, 2, 2)])
def test_unsorted_haves(numbers: tuple[int, ...]) -> None:
    with pytest.raises(UnsortedList):
        check_have(have(*(named(number) for number in numbers)))


def test_proposals_list_each_update_once() -> None:
    check_proposal(proposal())
    check_proposal(proposal(named(2), named(1)))  # in the order of their members, not of their hashes
    for numbers in [(1, 1), (1, 2, 1)]:
        with pytest.raises(UnsortedList):
            check_proposal(proposal(*(named(number) for number in numbers)))


def test_lists_in_blobs_are_for_later() -> None:
    content = (named("blob"), 70_000)
    with pytest.raises(MalformedMessage, match="blob"):
        check_have(have(content=content))
    with pytest.raises(MalformedMessage, match="blob"):
        check_proposal(proposal(content=content))

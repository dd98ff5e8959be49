"""Events of the ledger are values, in the order in which they became true."""

from dataclasses import FrozenInstanceError, replace

import pytest

from distrai.protocol.ledger_events import Joined, Left, Position
from helpers.messages import Author, named


def test_events_are_ordered_by_place() -> None:
    places = [(2, 0), (1, 5), (1, 10), (10, 1)]
    found = sorted(Position(block, index, named("block")) for block, index in places)
    assert [(at.block_number, at.log_index) for at in found] == [(1, 5), (1, 10), (2, 0), (10, 1)]


def test_a_reorg_shows_in_the_block_hash() -> None:
    before = Left(Position(3, 0, named("block")), Author(1).member)
    after = replace(before, at=replace(before.at, block_hash=named("other block")))
    assert before != after
    assert before == Left(Position(3, 0, named("block")), Author(1).member)


def test_events_do_not_change() -> None:
    joined = Joined(Position(1, 0, named("block")), Author(1).member, Author(1).address, seat=True)
    with pytest.raises(FrozenInstanceError):
        joined.seat = False  # type: ignore[misc]

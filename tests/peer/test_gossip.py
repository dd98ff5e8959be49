"""Whom a peer tells what it knows."""

from random import Random

import pytest

from distrai.peer.gossip import choose_listeners
from distrai.protocol.primitives import MemberId


def test_one_of_two_listeners_is_a_seat_however_many_others_there_are() -> None:
    seats = [MemberId(bytes([number]) * 32) for number in range(3)]
    others = [*seats, *(MemberId(bytes([number]) * 32) for number in range(10, 200))]
    random, heard = Random(1), set()
    for _ in range(4000):
        listeners = choose_listeners(seats, others, random)
        assert len({*listeners}) == 2
        assert listeners[0] in seats
        heard |= {*listeners}
    assert len(heard) == len(others), "everybody's turn comes"


@pytest.mark.parametrize("count", [0, 1])
def test_who_is_nearly_alone_tells_whom_there_is(count) -> None:
    others = [MemberId(bytes(32))][:count]
    assert choose_listeners(others, others, Random(1)) == tuple(others)

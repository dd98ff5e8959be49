"""Whom a peer tells from time to time what it knows, so that they answer with what it lacks."""

from collections.abc import Sequence
from random import Random

from distrai.protocol.primitives import MemberId

GOSSIP_PEERS = 2


def choose_listeners(
    seats: Sequence[MemberId], others: Sequence[MemberId], random: Random
) -> tuple[MemberId, ...]:
    """A seat, and anybody besides; ``others`` are all that can be reached, seats among them.

    Anybody may train, and never answer: were all drawn alike, twenty silent joiners would make a peer that came back
    wait ten times as long for what it missed.
    """
    first = random.sample(seats, min(1, len(seats)))
    rest = [member for member in others if member not in first]
    return (*first, *random.sample(rest, min(GOSSIP_PEERS - len(first), len(rest))))

"""By which key the others know a member whose messages belong to no round, also while one of both is behind."""

from dataclasses import replace

import pytest

from distrai.peer.events import LedgerChanged
from distrai.protocol.ledger_events import Certified, Deactivated, Joined, KeyChanged, Left, Position
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import ZERO_HASH
from distrai.simulation.toy import make_identity, with_new_key
from helpers.engine import Driven, Table


def at(block: int, index: int = 0) -> Position:
    return Position(block, index, ZERO_HASH)


def behind(peer: Driven, *events) -> None:
    """The ledger goes on, and nobody has the list of the round that it took."""
    body = peer.table.body([peer.table.update(1)])
    peer.tell(LedgerChanged((Certified(at(50), body, body.head), *events)))
    assert peer.engine.standing == peer.table.standing


def test_who_is_behind_signs_with_the_key_that_the_ledger_named_last() -> None:
    table = Table()
    me = with_new_key(table.everybody[0], 1)
    peer = Driven(table, identity=me)
    assert peer.engine.following.newest_key(me.member) == table.everybody[0].address
    behind(peer, KeyChanged(at(51), me.member, me.address))
    assert peer.engine.following.newest_key(me.member) == me.address


def test_who_is_behind_knows_the_keys_of_those_who_are_not() -> None:
    table = Table()
    peer = Driven(table)
    other, stranger = with_new_key(table.everybody[1], 1), make_identity(9)
    behind(
        peer,
        KeyChanged(at(51), other.member, other.address),
        Joined(at(52), stranger.member, stranger.address, False),
    )
    known = peer.engine.following.keys
    assert known[other.address] == known[table.everybody[1].address] == other.member
    assert known[stranger.address] == stranger.member


@pytest.mark.parametrize("gone", [Left, Deactivated])
def test_a_seat_that_left_is_known_by_its_seats_key_whatever_key_it_takes_later(
    gone: type[Left] | type[Deactivated],
) -> None:
    table = Table()
    me = with_new_key(table.everybody[0], 1)
    peer = Driven(table, identity=me)
    peer.tell(LedgerChanged((gone(at(5), me.member), KeyChanged(at(6), me.member, me.address))))
    assert peer.engine.following.newest_key(me.member) == table.everybody[0].address
    behind(peer, gone(at(51), me.member), KeyChanged(at(52), me.member, me.address))
    assert peer.engine.following.newest_key(me.member) == table.everybody[0].address


def test_a_key_that_the_next_body_may_promote_is_known_though_its_member_left() -> None:
    table = Table()
    other = with_new_key(table.everybody[1], 1)
    peer = Driven(table)
    standing = peer.engine.following.standing
    changed = tuple(
        Trainer(one.member, other.address) if one.member == other.member else one for one in standing.roster
    )
    peer.engine.following.standing = replace(standing, roster=changed)
    peer.tell(LedgerChanged((Left(at(5), other.member),)))
    assert peer.engine.following.keys[other.address] == other.member

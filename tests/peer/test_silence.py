"""For how long a peer that lost its log says nothing: it must not sign anew where it may have signed already."""

from distrai.peer.participation import _round_after_loss
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, Joined, LedgerEvent, Position, Started
from distrai.protocol.primitives import Address, MemberId

MEMBER = MemberId(keccak(b"member"))
KEY = Address(b"\1" * 20)


def at(block: int) -> Position:
    return Position(block, 0, keccak(b"block %d" % block))


def history(rounds: int) -> list[LedgerEvent]:
    hashes = [keccak(b"anything")] * 4
    ends = [
        Certified(at(9 + number), Body(1, number, *hashes), keccak(b"head"))
        for number in range(1, rounds + 1)
    ]
    return [Joined(at(5), MEMBER, KEY, seat=True), Started(at(9), keccak(b"genesis"), ()), *ends]


def test_it_is_silent_in_the_round_that_is_on_and_in_those_that_a_reorg_may_have_hidden() -> None:
    assert _round_after_loss(history(4), MEMBER, 0) == 5
    assert _round_after_loss(history(4), MEMBER, 12) == 17, "a head for each of the hidden blocks"


def test_who_has_not_joined_or_where_nothing_started_has_said_nothing() -> None:
    assert _round_after_loss(history(4), MemberId(keccak(b"another")), 12) == 0
    assert _round_after_loss(history(4)[:1], MEMBER, 12) == 0

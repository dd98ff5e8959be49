"""The parts of the simulator that stand for the world: time, links, payloads."""

from random import Random

import msgspec
import pytest

from distrai.protocol.errors import BadSignature, CannotOpen
from distrai.protocol.keccak import keccak
from distrai.simulation import Links, Scenario
from distrai.simulation.clock import Clock
from distrai.simulation.links import LinkModel
from distrai.simulation.toy import (
    NOT_FINITE,
    NotFinite,
    make_identity,
    next_state_root,
    open_payload,
    recover,
    seal_payload,
    signer,
)
from helpers.engine import Table

A, B, C = (make_identity(index).member for index in range(3))


def run(clock: Clock, until: float) -> None:
    while clock.now < until and clock.step():
        pass


def test_time_passes_in_order_and_equal_times_in_the_order_of_asking() -> None:
    clock, seen = Clock(), []
    for delay, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (-5.0, "now")):
        clock.after(delay, lambda name=name: seen.append((clock.now, name)))
    run(clock, 10)
    assert seen == [(0.0, "now"), (1.0, "a"), (1.0, "b"), (2.0, "c")] and not clock.step()


def links(**faults) -> tuple[Clock, LinkModel]:
    clock = Clock()
    return clock, LinkModel(clock, Random(1), Scenario("test", links=Links(**faults)))


def test_packets_overtake_each_other_get_lost_and_come_twice() -> None:
    clock, model = links(lost=0.3, repeated=0.2)
    seen = []
    for number in range(1000):
        model.carry(A, B, lambda number=number: seen.append(number))
    run(clock, 10)
    assert seen != sorted(seen) and 0.2 < 1 - len(set(seen)) / 1000 < 0.4
    assert 0.1 < len(seen) / len(set(seen)) - 1 < 0.3
    model.faulty = False
    seen.clear()
    model.carry(A, B, lambda: seen.append(0))
    run(clock, 20)
    assert seen == [0]


def test_a_split_cuts_both_ways_or_one() -> None:
    _, model = links()
    model.split({A}, one_way=False)
    assert not model.reaches(A, B) and not model.reaches(B, A) and model.reaches(B, C)
    model.split({A}, one_way=True)
    assert not model.reaches(A, B) and model.reaches(B, A)


def test_a_flapping_split_lets_packets_through_half_of_the_time() -> None:
    clock, model = links(flap_s=1.0)
    model.split({A}, one_way=False)
    reached = []
    for tick in range(8):
        clock.after(tick + 0.5 - clock.now, lambda: reached.append(model.reaches(A, B)))
    run(clock, 10)
    assert reached == [False, True] * 4


def test_signatures_name_signer_and_digest_and_can_be_made_in_several_ways() -> None:
    who = make_identity(1)
    digest = keccak(b"x")
    assert recover(digest, who.sign(digest)) == who.address
    assert signer(who.address, 1)(digest) != who.sign(digest)
    with pytest.raises(BadSignature):
        recover(keccak(b"y"), who.sign(digest))


def test_payloads_open_only_for_their_author_and_finite() -> None:
    table = Table()
    made = table.update(1)
    update, data = made.signed.message, made.sealed.data
    assert open_payload(update, data, made.sealed.key)[:4] == b"work"
    with pytest.raises(CannotOpen):
        open_payload(msgspec.structs.replace(update, member=A), data, made.sealed.key)
    bad = seal_payload(NOT_FINITE, bytes(32), table.standing, update.member)
    with pytest.raises(NotFinite):
        open_payload(update, bad.data, bytes(32))


def test_a_state_depends_on_every_payload_and_their_order() -> None:
    before = keccak(b"before")
    roots = {
        next_state_root(before, payloads) for payloads in ([b"a", b"b"], [b"b", b"a"], [b"a"], [b"a", b"c"])
    }
    assert len(roots) == 4

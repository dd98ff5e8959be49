"""The parts of the simulator that stand for the world: time, links, ledger, payloads."""

from random import Random

import msgspec
import pytest

from distrai.protocol.errors import BadSignature, CannotOpen
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, Joined, Started
from distrai.simulation import Links, Scenario
from distrai.simulation.clock import Clock
from distrai.simulation.ledger import LedgerModel
from distrai.simulation.links import LinkModel
from distrai.simulation.scenario import LedgerFaults
from distrai.simulation.toy import (
    DOMAIN,
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


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def ledger(table: Table) -> LedgerModel:
    model = LedgerModel(Clock(), Random(1), LedgerFaults())
    model.open(table.everybody)
    return model


def certificate(table: Table, body, voters=(0, 1, 2)):
    signed = [table.everybody[who].sign(DOMAIN.digest(body.id)) for who in voters]
    return body, tuple(sorted(signed, key=lambda item: item[:20]))


def test_the_ledger_starts_with_the_head_that_peers_compute(table, ledger) -> None:
    assert ledger.head == table.standing.head
    kinds = [type(event) for event in ledger.events]
    assert kinds == [Joined] * 4 + [Started]
    assert ledger.events_after(ledger.events[3].at) == tuple(ledger.events[4:])


def test_the_first_valid_certificate_wins(table, ledger) -> None:
    first, second = table.body([table.update(1)]), table.body([table.update(2)])
    ledger.submit(certificate(table, first))
    ledger.submit(certificate(table, second))
    run(ledger.clock, 1)
    assert ledger.bodies == [first] and ledger.head == first.head and ledger.refused == 1
    assert isinstance(ledger.events[-1], Certified) and ledger.round == 1


@pytest.mark.parametrize("wrong", ["few", "twice", "unsorted", "stranger", "head", "round", "empty", "drops"])
def test_a_certificate_that_the_contract_would_refuse_is_refused(table, ledger, wrong) -> None:
    body = table.body([])
    changes = {
        "head": {"previous_head": bytes(32)},
        "round": {"round": 2},
        "empty": {"state_root": bytes(32)},
        "drops": {"drops": (bytes(32),)},
    }
    body = msgspec.structs.replace(body, **changes.get(wrong, {}))
    made = certificate(table, body, (0, 1) if wrong == "few" else (0, 1, 2))
    if wrong == "twice":
        made = (body, (made[1][0], made[1][0], made[1][1]))
    if wrong == "unsorted":
        made = (body, made[1][::-1])
    if wrong == "stranger":
        strange = make_identity(9).sign(DOMAIN.digest(body.id))
        made = (body, tuple(sorted([*made[1][:2], strange], key=lambda item: item[:20])))
    ledger.submit(made)
    run(ledger.clock, 1)
    assert ledger.refused == 1 and not ledger.bodies
    ledger.submit(certificate(table, table.body([])))
    run(ledger.clock, 2)
    assert len(ledger.bodies) == 1


def test_an_unreachable_ledger_takes_and_tells_nothing_and_forgets_nothing(table, ledger) -> None:
    ledger.reachable = False
    ledger.submit(certificate(table, table.body([])))
    run(ledger.clock, 3)
    assert not ledger.bodies and ledger.events_after(None) == ()
    ledger.reachable = True
    assert len(ledger.events_after(None)) == 5


def test_signatures_name_signer_and_digest_and_can_be_made_in_several_ways() -> None:
    who = make_identity(1)
    digest = keccak(b"x")
    assert recover(digest, who.sign(digest)) == who.address
    assert signer(who.address, 1)(digest) != who.sign(digest)
    with pytest.raises(BadSignature):
        recover(keccak(b"y"), who.sign(digest))


def test_payloads_open_only_for_their_author_and_finite(table) -> None:
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

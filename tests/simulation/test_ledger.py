"""The simulator's ledger: blocks, reorgs, what nodes see of them, and the real feed that reads from it."""

from random import Random

import pytest

from distrai.ledger.errors import LedgerUnreachable, Reorganised
from distrai.peer.feed import LedgerFeed
from distrai.protocol.body import Body, start_head
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, Joined, KeyChanged, RunOpened, Started
from distrai.protocol.primitives import ZERO_HASH, Address
from distrai.simulation.clock import Clock
from distrai.simulation.contract import Limits
from distrai.simulation.eye import completed
from distrai.simulation.ledger import LATE_S, LedgerModel
from distrai.simulation.scenario import LedgerFaults
from distrai.simulation.toy import DOMAIN, GENESIS, RUN, make_identity
from distrai.simulation.transactions import Certify, Join, Rotate

FOUR = [make_identity(index) for index in range(4)]
FIFTH = make_identity(4)


def opened(seed: int = 1, **faults) -> LedgerModel:
    ledger = LedgerModel(Clock(), Random(seed), LedgerFaults(**faults), Limits())
    ledger.open([*FOUR, FIFTH], FOUR)
    return ledger


def run(ledger: LedgerModel, seconds: float) -> None:
    until = ledger.clock.now + seconds
    while ledger.clock.now < until and ledger.clock.step():
        pass


def certificate(ledger: LedgerModel, updates: bytes = b"updates") -> Certify:
    contract = ledger.contract
    body = Body(
        RUN, contract.round + 1, contract.head, keccak(updates), keccak(b"to" + updates), keccak(b"trainers")
    )
    signatures = [who.sign(DOMAIN.digest(body.id)) for who in FOUR]
    return Certify(body, tuple(sorted(signatures)))


def told(feed: LedgerFeed) -> list:
    return completed(feed.next())


def kinds(events) -> list[type]:
    return [type(event) for event in events]


def test_a_run_opens_all_join_and_it_starts_with_the_head_that_peers_compute() -> None:
    ledger = opened()
    events = told(LedgerFeed(ledger.node(), RUN))
    assert kinds(events) == [RunOpened, *[Joined] * 4, Started]
    pairs = sorted((who.member, who.address) for who in FOUR)
    assert events[-1].head == ledger.contract.head == start_head(GENESIS.head, pairs)
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_the_first_valid_certificate_wins_and_everything_is_told_once() -> None:
    ledger = opened()
    feed = LedgerFeed(ledger.node(), RUN)
    told(feed)
    first = certificate(ledger)
    ledger.submit(first)
    ledger.submit(certificate(ledger, b"other"))
    run(ledger, 1.5)
    assert [landed.head for landed in ledger.rounds] == [first.body.head] and ledger.refused == {
        "WrongRound": 1
    }
    assert kinds(told(feed)) == [Certified] and told(feed) == []


def test_an_unreachable_ledger_takes_and_tells_nothing_and_forgets_nothing() -> None:
    ledger = opened()
    feed = LedgerFeed(ledger.node(), RUN)
    ledger.reachable = False
    ledger.submit(certificate(ledger))
    run(ledger, 3)
    assert ledger.round == 0
    with pytest.raises(LedgerUnreachable):
        told(feed)
    ledger.reachable = True
    assert len(told(feed)) == 6


def test_a_node_that_lags_is_no_reorg() -> None:
    ledger = opened()
    node = ledger.node()
    feed = LedgerFeed(node, RUN)
    run(ledger, 3)
    told(feed)
    node.lag = 3
    assert told(feed) == []
    ledger.submit(Join(FIFTH.member))
    run(ledger, 2)
    assert told(feed) == []
    node.lag = 0
    assert kinds(told(feed)) == [Joined]


@pytest.mark.parametrize("seed", range(8))
def test_after_a_reorg_state_events_and_waiting_transactions_are_those_of_before_it(seed: int) -> None:
    ledger = opened(seed, reorg_lost=0.0)
    node = ledger.node()
    feed = LedgerFeed(node, RUN)
    run(ledger, 5)
    told(feed)
    last_block, before = ledger.blocks[-1].mark, ledger.contract
    first = certificate(ledger)
    ledger.submit(first)
    ledger.submit(Join(FIFTH.member))
    run(ledger, 2)
    assert ledger.round == 1 and len(told(feed)) == 2
    ledger.reorganise(ledger.blocks[-1].mark.number - last_block.number)
    fork = ledger.blocks[last_block.number]
    assert fork.mark == last_block and fork.contract == before
    run(ledger, ledger.faults.fork_seen_s + 4)
    with pytest.raises(Reorganised) as reorg:
        told(feed)
    assert reorg.value.to_block == last_block.number
    feed.restart(None)
    events = told(feed)
    assert kinds(events).count(Certified) == 1 == ledger.round and kinds(events).count(Joined) == 5
    assert len(ledger.rounds) == 1 and ledger.heads[first.body.head] is not None


def test_a_lost_round_is_not_among_the_rounds_until_it_lands_again() -> None:
    ledger = opened(reorg_lost=1.0)
    run(ledger, 2)
    ledger.submit(certificate(ledger))
    run(ledger, 1)
    assert ledger.round == 1
    ledger.reorganise(1)
    assert ledger.round == 0 and ledger.rounds == []
    run(ledger, LATE_S + 3)
    assert ledger.round == 1 == len(ledger.rounds)


def test_a_members_transactions_keep_their_order_in_a_reorg() -> None:
    """As those of one account do: else an old key could become the newest."""
    keys = [Address(keccak(b"%d" % index)[12:]) for index in range(6)]
    for seed in range(10):
        ledger = opened(seed, reorg_lost=0.3)
        for key in keys:
            ledger.submit(Rotate(FOUR[0].member, key))
            run(ledger, 1)
        ledger.reorganise(6)
        run(ledger, LATE_S + 3)
        events = told(LedgerFeed(ledger.node(), RUN))
        assert [event.key for event in events if isinstance(event, KeyChanged)] == keys


def test_no_reorg_takes_the_opening_of_the_run_back_and_a_lost_start_comes_again() -> None:
    ledger = opened(reorg_lost=0.0)
    run(ledger, 2)
    head = ledger.contract.head
    ledger.reorganise(99)
    run(ledger, 5)
    assert ledger.blocks[0].events[0].genesis == GENESIS and ledger.contract.head == head != ZERO_HASH

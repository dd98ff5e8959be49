"""Reports of faults to real contracts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve as serve_chain
from distrai.ledger.keys import NodeKey
from distrai.peer.events import ReportFault
from distrai.peer.link import Link
from distrai.peer.reporting import FaultReporter
from distrai.protocol.faults import place_of
from distrai.protocol.messages import Signed, seal_envelope
from distrai.protocol.primitives import Address, MemberId
from helpers.money_chain import FAULT_MAX, MINIMUM, MoneyChain, PaidRun
from helpers.settling import Clock


class Told:
    """What a reporter tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))


@pytest.fixture
async def money(tmp_path: Path) -> AsyncIterator[MoneyChain]:
    clock = Clock()
    chain = EmbeddedChain.open(tmp_path / "chain", clock)

    def wait(seconds: int) -> None:
        clock.now += seconds

    async with serve_chain(chain, "127.0.0.1", 0) as url, AsyncExitStack() as stack:
        yield await MoneyChain(url, chain.chain_id, wait, stack, NodeKey.generate()).deploy()
    chain.close()


def signed(run: PaidRun, member: MemberId, blob: bytes) -> Signed:
    key = run.keys[member]
    return seal_envelope(run.update(member, blob), run.ledger.domain, key.sign, key.address)


def reporter(money: MoneyChain, run: PaidRun, key: NodeKey, told: Told) -> FaultReporter:
    of = money.deployment
    link = Link(money.url, money.chain_id, of.registry, run.number)
    return FaultReporter(link, of.stakes, key, lambda: 0.0, told)  # type: ignore[arg-type]


async def test_a_fault_is_reported_once_and_its_first_reporter_is_paid(money: MoneyChain) -> None:
    run = await money.run(staked=True)
    liar, *others = run.members
    await run.work(1)
    fault = ReportFault(signed(run, liar, b"one"), signed(run, liar, b"other"))
    told = Told()
    for member in others:
        await reporter(money, run, run.keys[member], told).report(fault)
    facts = {"member": liar.hex(), "round": 2, "place": place_of(fault.first.message).id.hex()}  # type: ignore[arg-type]
    assert told.events == [
        ("fault-reported", {**facts, "own": True}),
        ("fault-reported", {**facts, "own": False}),
    ]
    assert (await run.stakes.stake_of(run.number, liar)).staked == MINIMUM - FAULT_MAX
    token = await money.token()
    paid = [await token.balance(Address(run.keys[member].address)) for member in others]
    assert paid == [FAULT_MAX // 10, 0]


async def test_who_has_nothing_staked_is_told_of(money: MoneyChain) -> None:
    run = await money.run(staked=False)
    liar, other, *_ = run.members
    await run.work(1)
    told = Told()
    fault = ReportFault(signed(run, liar, b"one"), signed(run, liar, b"other"))
    await reporter(money, run, run.keys[other], told).report(fault)
    ((event, facts),) = told.events
    assert event == "fault-not-reported"
    assert "nothing staked" in facts["why"]

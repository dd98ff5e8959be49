"""What owners and captured seats try, through the clients that peers use, on the embedded chain."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.keys import NodeKey
from distrai.peer.staking import UnstakedRun, check_gate
from distrai.protocol.faults import is_fault
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.recipe import Contracts, ResolvedRecipe, Rewards, Stake
from distrai.protocol.rewards import Epoch, rewards_root
from helpers.money_chain import LIMITS, OPENING, TERMS, WINDOWS, MoneyChain, PaidRun, refused
from helpers.recipes import resolved_example


@dataclass
class Clock:
    """A clock that the test turns."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def money(tmp_path: Path) -> AsyncIterator[MoneyChain]:
    clock = Clock()

    def wait(seconds: int) -> None:
        clock.now += seconds

    with closing(EmbeddedChain.open(tmp_path / "chain", clock=clock)) as chain:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serve(chain, "127.0.0.1", 0))
            yield await MoneyChain(url, chain.chain_id, wait, stack, NodeKey.generate()).deploy()


async def stolen(run: PaidRun, thief: MemberId, total: int) -> Epoch:
    """An epoch until the newest head in which two thirds of the seats give one member everything."""
    await run.pots.mark_head(run.number)
    state = await run.ledger.run_state(run.number)
    root = rewards_root(run.domain, run.number, {thief: total})
    place = run.number, run.epochs + 1, state.round, state.head
    return Epoch(*place, root, total, bytes(32), run.root, run.kills)  # type: ignore[arg-type]


async def test_captured_seats_with_a_round_in_every_block_take_the_rate_of_the_time(
    money: MoneyChain,
) -> None:
    run = await money.run()
    pots, number, thief = run.pots, run.number, run.members[0]
    await pots.fund(number, 100 * TERMS.rate)
    await run.work(10, seconds=0)
    epoch = await stolen(run, thief, 1)
    assert await refused(pots.settle(epoch, run.sign(run.domain, epoch.id))) == "AboveRate"
    money.wait(2 * TERMS.min_round_seconds)
    await run.work(10, seconds=0)
    most = 2 * TERMS.rate
    for total in (most + 1, 10**30):
        epoch = await stolen(run, thief, total)
        assert await refused(pots.settle(epoch, run.sign(run.domain, epoch.id))) == "AboveRate"
    epoch = await stolen(run, thief, most)
    signatures = run.sign(run.domain, epoch.id)
    assert await pots.settle(epoch, signatures)
    money.wait(WINDOWS.activation_seconds)
    assert (await pots.claim(number, 1, thief, most, ())).paid == most
    again = msgspec.structs.replace(epoch, epoch=2)
    assert await refused(pots.settle(again, signatures)) == "WrongPreviousRoot"
    other = await money.run(seats=1)
    renamed = msgspec.structs.replace(epoch, run=other.number)
    assert await refused(other.pots.settle(renamed, signatures)) == "NotMarked"


def resolved(money: MoneyChain, stakes: Address) -> ResolvedRecipe:
    of, plain = money.deployment, resolved_example()
    contracts = Contracts(
        token=of.token, stakes=stakes, rewards=of.rewards, records=of.records, decimals=of.decimals
    )
    rewards = Rewards(price="1", cap="0.5", max_members=8)
    recipe = replace(plain.recipe, rewards=rewards, stake=Stake(minimum="10", fault_max="1"))
    return replace(plain, recipe=recipe, contracts=contracts)


async def test_nobody_joins_a_run_whose_opener_asks_no_stake_against_its_recipe(money: MoneyChain) -> None:
    ledger, stakes = await money.ledger(), money.deployment.stakes
    without, with_stake = [await ledger.open_run(OPENING, LIMITS) for _ in range(2)]
    await ledger.require_stake(with_stake, stakes)
    await check_gate(ledger, with_stake, resolved(money, stakes))
    with pytest.raises(UnstakedRun, match="do not join"):
        await check_gate(ledger, without, resolved(money, stakes))
    with pytest.raises(UnstakedRun, match="do not join"):
        await check_gate(ledger, with_stake, resolved(money, money.deployment.rewards))
    await check_gate(ledger, without, resolved_example())


async def test_a_client_slashes_what_the_rules_call_a_fault(money: MoneyChain) -> None:
    run = await money.run(seats=1, staked=True)
    (liar,) = run.members
    first, second = run.update(liar, b"one"), run.update(liar, b"two")
    assert is_fault(first, second)
    said = [run.signed(update, run.keys[liar]) for update in (first, second)]
    assert await run.stakes.slash(first, second, *said)
    assert await run.stakes.slash(second, first, *said[::-1]) is False

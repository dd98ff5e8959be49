"""The index, the deployment and the clients on a chain of another make, whose gas costs and whose blocks go away."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from distrai.ledger.deployment import Deployment, check, deploy
from distrai.ledger.errors import TooLittleGas
from distrai.ledger.gas import explain
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey
from distrai.protocol.money_events import EpochSettled, HeadMarked, RewardClaimed
from distrai.protocol.primitives import Address
from helpers.anvil import AnvilProcess, running_anvil
from helpers.money_chain import QUICK, SETTINGS, TERMS, WINDOWS, MoneyChain

pytestmark = pytest.mark.processes

CHAIN_ID = 31_337


@dataclass
class OnAnvil:
    """All contracts on an anvil, and an index of them."""

    money: MoneyChain
    anvil: AnvilProcess
    folder: Path
    source: LogSource

    async def index(self, name: str) -> LedgerIndex:
        index = LedgerIndex.open(self.folder / name, self.money.deployment)
        await index.sync(self.source)
        return index


@pytest.fixture
async def on_anvil(tmp_path: Path) -> AsyncIterator[OnAnvil]:
    async with AsyncExitStack() as stack:
        anvil = stack.enter_context(running_anvil("--chain-id", str(CHAIN_ID), "--hardfork", "cancun"))

        def wait(seconds: int) -> None:
            anvil.call("evm_increaseTime", seconds)
            anvil.call("evm_mine")

        def give_gas(account: Address) -> None:
            anvil.call("anvil_setBalance", "0x" + account.hex(), hex(10**18))

        money = MoneyChain(anvil.url, CHAIN_ID, wait, stack, NodeKey.generate(), give_gas)
        give_gas(money.owner.address)
        await money.deploy()
        source = await LogSource.connect(anvil.url, CHAIN_ID, patience=QUICK)
        stack.push_async_callback(source.close)
        yield OnAnvil(money, anvil, tmp_path, source)


async def test_a_reorg_takes_back_an_epoch_and_it_is_settled_and_paid_anew(on_anvil: OnAnvil) -> None:
    money, anvil = on_anvil.money, on_anvil.anvil
    assert await check(money.url, money.deployment, QUICK) == []
    run = await money.run()
    first, *_ = run.members
    await run.pots.fund(run.number, 3 * TERMS.rate)
    await run.work(2)
    followed = await on_anvil.index("followed")
    assert followed.events([EpochSettled]) == []
    await run.settle({first: 7})
    money.wait(WINDOWS.activation_seconds)
    await run.pots.claim(run.number, 1, first, 7, run.proof(first))
    await followed.sync(on_anvil.source)
    assert len(followed.events([HeadMarked, EpochSettled, RewardClaimed], run=run.number)) == 4
    # Marked, settled, mined, paid: all four blocks go away, and their transactions with them.
    anvil.call("anvil_reorg", 4, [])
    await followed.sync(on_anvil.source)
    assert len(followed.events([HeadMarked, EpochSettled, RewardClaimed], run=run.number)) == 1
    assert (await run.pots.account_of(run.number, first)).claimed == 0

    run.epochs, run.root, run.earned = 0, bytes(32), {}  # type: ignore[assignment]
    await run.work(1)
    await run.settle({first: 9})
    money.wait(WINDOWS.activation_seconds)
    paid = await run.pots.claim(run.number, 1, first, 9, run.proof(first))
    assert (paid.paid, await (await money.token()).balance(run.keys[first].address)) == (9, 9)
    await followed.sync(on_anvil.source)
    fresh = await on_anvil.index("fresh")
    assert followed.events() == fresh.events()
    assert followed.newest_block == fresh.newest_block
    (settled,) = followed.events([EpochSettled])
    assert isinstance(settled, EpochSettled)
    assert settled.total == 9
    followed.close()
    fresh.close()


async def test_who_cannot_pay_for_gas_is_told_how_much_to_send_where(on_anvil: OnAnvil) -> None:
    money, poor = on_anvil.money, NodeKey.generate()
    token = await money.token(poor)
    on_anvil.anvil.call("anvil_setBalance", "0x" + poor.address.hex(), "0x0")
    with pytest.raises(TooLittleGas) as refused:
        await token.approve(money.owner.address, 1)
    assert f"0x{poor.address.hex()} has 0 of the chain's coin" in explain(refused.value)


async def test_a_deployment_goes_on_where_the_money_for_gas_ran_out(on_anvil: OnAnvil) -> None:
    money, key, path = on_anvil.money, NodeKey.generate(), on_anvil.folder / "31337.json"

    def sent() -> int:
        count = on_anvil.anvil.call("eth_getTransactionCount", "0x" + key.address.hex(), "latest")
        return int(count, 16)

    price = int(on_anvil.anvil.call("eth_gasPrice"), 16)
    on_anvil.anvil.call("anvil_setBalance", "0x" + key.address.hex(), hex(3_000_000 * price))
    with pytest.raises(TooLittleGas) as poor:
        await deploy(money.url, CHAIN_ID, key, SETTINGS, QUICK, path)
    assert poor.value.needed > poor.value.has
    assert 0 < sent() < 5
    money.give_gas(key.address)
    made = await deploy(money.url, CHAIN_ID, key, SETTINGS, QUICK, path)
    assert Deployment.read(path) == made
    assert sent() == 5

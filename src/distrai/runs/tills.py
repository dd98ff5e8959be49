"""The contracts of one run, as whoever opened it talks to them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.coins import CoinClient
from distrai.ledger.deployment import Deployment
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import RecordsClient
from distrai.protocol.recipe import Contracts, ResolvedRecipe, Rewards
from distrai.runs.folder import RunFolder


@dataclass(frozen=True)
class Tills:
    """Clients of all contracts of a run, with the opener's key."""

    run: int
    owner: NodeKey
    resolved: ResolvedRecipe
    contracts: Contracts
    registry: LedgerClient
    pots: PotsClient
    token: TokenClient
    stakes: StakesClient
    records: RecordsClient
    coins: CoinClient
    index: LedgerIndex
    source: LogSource

    @property
    def rewards(self) -> Rewards:
        """What the run pays; without that it has no contracts."""
        rewards = self.resolved.recipe.rewards
        assert rewards is not None
        return rewards

    async def sync(self) -> None:
        """Read what is new on the ledger."""
        await self.index.sync(self.source)

    async def events(self, kinds: tuple[type[Any], ...]) -> list[Any]:
        """The run's events of these kinds, as the ledger has them now."""
        await self.sync()
        return list(self.index.events(kinds, self.run))

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, url: str, folder: RunFolder, resolved: ResolvedRecipe, owner: NodeKey
    ) -> "AsyncIterator[Tills]":
        """Clients of the contracts that a resolved recipe names. Raises WrongChain or LedgerUnreachable."""
        link = folder.link()
        at = resolved.contracts
        assert at is not None, "a run that uses money has contracts"
        chain = link.chain_id
        async with AsyncExitStack() as stack:
            registry = await LedgerClient.connect(url, link.registry, chain, owner)
            stack.push_async_callback(registry.close)
            pots = await PotsClient.connect(url, at.rewards, chain, owner)
            stack.push_async_callback(pots.close)
            token = await TokenClient.connect(url, at.token, chain, owner)
            stack.push_async_callback(token.close)
            stakes = await StakesClient.connect(url, at.stakes, chain, owner)
            stack.push_async_callback(stakes.close)
            records = await RecordsClient.connect(url, at.records, chain, owner)
            stack.push_async_callback(records.close)
            coins = await CoinClient.connect(url, chain, owner)
            stack.push_async_callback(coins.close)
            source = await LogSource.connect(url, chain)
            stack.push_async_callback(source.close)
            index = LedgerIndex.open(folder.index, Deployment.read(folder.deployment))
            stack.callback(index.close)
            yield cls(
                link.run, owner, resolved, at, registry, pots, token, stakes, records, coins, index, source
            )

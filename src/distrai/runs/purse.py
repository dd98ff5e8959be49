"""What the opener of a run pays for while it goes on: rewards and stakes where the run has some, gas where that costs.

Follows the events of the peers: who needs gas, and whether the last epoch is settled.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from distrai.ledger.coins import CoinClient
from distrai.ledger.keys import NodeKey
from distrai.protocol.primitives import Address, Hash
from distrai.runs.archive import Archive
from distrai.runs.folder import RunFolder, RunInfo
from distrai.runs.gas_supply import GasSupply
from distrai.runs.paying import Paying
from distrai.runs.recording import Recording
from distrai.runs.tills import Tills

Report = Callable[[dict[str, Any]], None]
SETTLE_S = 60.0
"""How long nothing may be heard of the last epoch before it is waited for no longer."""
GAS_LOOK_ROUNDS = 8
"""After how many rounds the gas of a peer is looked at."""
NEWS = ("marked", "epoch-signed", "epoch-landed", "epoch-settled")
"""Events that say that an epoch comes nearer."""


@dataclass
class Purse:
    """``paying`` None: the run has nothing to do with money; ``gas`` None: gas costs nothing here."""

    paying: Paying | None
    gas: GasSupply | None
    beside: asyncio.TaskGroup
    """Where gas is sent, beside everything else; what goes wrong there ends the run."""
    settled: bool = False
    """Whether a peer said that nothing is left to settle."""
    why: str = "nothing was heard of it"
    """What settling waits for."""
    _heard: float = 0.0
    _keys: dict[str, Address] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, folder: RunFolder, info: RunInfo, owner: NodeKey, device: str, report: Report
    ) -> "AsyncIterator[Purse]":
        """The purse of the run in a folder, whose ledger answers. Raises WrongChain or LedgerUnreachable."""
        link, turn = folder.link(), asyncio.Lock()
        async with AsyncExitStack() as stack:
            gas = paying = None
            if info.external:
                coins = await CoinClient.connect(link.rpc, link.chain_id, owner)
                stack.push_async_callback(coins.close)
                gas = GasSupply.bounded(coins, owner.address, info.peers, info.rounds, report, turn)
            recipe_hash = Hash(bytes.fromhex(info.recipe_hash.removeprefix("0x")))
            resolved = Archive(folder.archive).recipe(recipe_hash)
            if resolved.contracts is not None:
                tills = await stack.enter_async_context(Tills.opened(link.rpc, folder, resolved, owner))
                paying = Paying(tills, Recording(tills, device, report), report, turn)
            beside = await stack.enter_async_context(asyncio.TaskGroup())
            yield cls(paying, gas, beside)

    def take(self, name: str, event: dict[str, Any]) -> None:
        """Go on with an event of the process with this name."""
        match event["event"]:
            case "key" | "gas-needed":
                self._keys[name] = Address(bytes.fromhex(str(event["address"]).removeprefix("0x")))
                self._supply(name)
            case "applied" if event["round"] % GAS_LOOK_ROUNDS == 0:
                self._supply(name)
            case "settlement-done":
                self.settled = True
            case "settlement-waits":
                self.why = str(event.get("why", self.why))
            case kind if kind in NEWS:
                self._heard = asyncio.get_running_loop().time()

    def begin_settling(self) -> None:
        """From now on something is to be heard of the last epoch."""
        self._heard = asyncio.get_running_loop().time()

    def is_waited_for_in_vain(self) -> bool:
        """Whether nothing was heard of the last epoch for too long."""
        return asyncio.get_running_loop().time() > self._heard + SETTLE_S

    def _supply(self, name: str) -> None:
        if self.gas is not None and name in self._keys:
            self.beside.create_task(self.gas.top_up(self._keys[name]))

"""What happens to a chain while a run is on it: blocks, blocks that are taken back, and nobody reaching its node."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from distrai.ledger.index import LedgerIndex, LogSource
from distrai.protocol.ledger_events import LedgerEvent
from helpers.anvil import AnvilProcess
from helpers.local_runs import DEADLINE_S
from helpers.proxies import Proxy

BLOCK_S = 0.15
DEPTH = 3
"""Blocks that are taken back at once."""
OUTAGE_S = 2.0


async def mine(anvil: AnvilProcess, turn: asyncio.Lock) -> None:
    """Mine a block after the other, for ever."""
    while True:
        async with turn:
            await asyncio.to_thread(anvil.call, "evm_mine")
        await asyncio.sleep(BLOCK_S)


@dataclass
class Chronicle:
    """Watches what is in anvil's blocks, and takes some back."""

    anvil: AnvilProcess
    index: LedgerIndex
    source: LogSource
    turn: asyncio.Lock
    """Of whoever changes the chain."""
    lost: list[LedgerEvent] = field(default_factory=list)

    async def call(self, method: str, *parameters: object) -> Any:
        return await asyncio.to_thread(self.anvil.call, method, *parameters)

    async def events(self, kind: type[LedgerEvent]) -> list[LedgerEvent]:
        await self.index.sync(self.source)
        return self.index.events((kind,))

    async def take_back(
        self, kind: type[LedgerEvent], until: Callable[[LedgerEvent], Coroutine[Any, Any, None]]
    ) -> None:
        """Wait for an event of this kind to land, and for what ``until`` waits for, and then take its block back."""
        seen = 0
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await asyncio.sleep(BLOCK_S / 4)
                async with self.turn:  # no block comes meanwhile
                    found = (await self.events(kind))[seen:]
                    if found and found[-1].at.block_number > self.index.newest_block - DEPTH:
                        await until(found[-1])
                        await self.call("anvil_reorg", DEPTH, [])
                        break
                    seen += len(found)
        at = found[-1].at
        block = await self.call("eth_getBlockByNumber", hex(at.block_number), False)
        assert block["hash"] != f"0x{at.block_hash.hex()}", "another block has its place"
        self.lost.append(found[-1])

    async def outage(self, proxy: Proxy) -> list[int]:
        """Nobody reaches the node for a while; blocks go on, empty, and how many transactions were in each is told."""
        await proxy.down()
        first = int(await self.call("eth_blockNumber"), 16) + 1
        await asyncio.sleep(OUTAGE_S)
        while (last := int(await self.call("eth_blockNumber"), 16)) <= first + DEPTH:  # noqa: ASYNC110
            await asyncio.sleep(BLOCK_S)
        await proxy.up()
        blocks = [
            await self.call("eth_getBlockByNumber", hex(number), False) for number in range(first, last + 1)
        ]
        return [len(block["transactions"]) for block in blocks]

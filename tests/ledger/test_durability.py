"""The embedded chain is killed again and again while three clients send: what they saw mined stays as it was."""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.abi import Abi
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc, read_bytes
from distrai.ledger.sender import Receipt, Sender
from distrai.protocol.primitives import Address
from helpers.ledger_forks import LedgerProcess, start

pytestmark = pytest.mark.processes

SEEDS = max(1, int(os.environ.get("DISTRAI_SEEDS", "100")) // 100)
DEATHS = 24
CLIENTS = 3
FEWEST = 8
"""Transactions that each client sends at least."""
WRITES_MAX = 60
"""Statements of SQL that write, until a death: a block takes about ten."""
DELAY_S_MAX = 0.03
"""Mining a block and telling of it takes about as long."""
PATIENT = Patience(request_s=20.0, call_s=120.0, backoff_s=0.005, backoff_s_max=0.05)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@dataclass
class Client:
    """Sends one transaction after the other, each with a value of its own."""

    number: int
    rpc: Rpc
    contract: Address
    key: NodeKey = field(default_factory=NodeKey.generate)
    receipts: dict[int, Receipt] = field(default_factory=dict)

    async def send_until(self, done: asyncio.Event, news: asyncio.Event) -> None:
        sender = Sender(self.rpc, Abi([]), PATIENT.call_s)
        while len(self.receipts) < FEWEST or not done.is_set():
            value = self.number << 32 | len(self.receipts) + 1
            self.receipts[value] = await sender.send(self.key, self.contract, word(value))
            news.set()


@dataclass
class Killing:
    """A chain's process, and what becomes of it."""

    folder: Path
    rng: random.Random
    news: asyncio.Event = field(default_factory=asyncio.Event)
    told: set[tuple[str, int]] = field(default_factory=set)
    early: int = 0
    process: LedgerProcess | None = None

    async def start(self, writes: int = 0) -> bool:
        """Start the chain; False if it died before it was ready."""
        self.process = start(self.folder, writes)
        ready = await asyncio.to_thread(self.process.ready)
        if ready is None:
            self.early += 1
            return False
        self.told.add(ready)
        assert len(self.told) == 1, "the same chain at the same address"
        return True

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process = None

    async def deaths(self) -> None:
        """By turns at some moment while something is mined, and before some statement of SQL."""
        for number in range(DEATHS):
            if number % 2:
                self.kill()
                if await self.start(self.rng.randint(1, WRITES_MAX)):
                    assert self.process is not None
                    await asyncio.to_thread(self.process.process.join)
                self.kill()
            else:
                self.news.clear()
                await self.news.wait()
                await asyncio.sleep(self.rng.random() * DELAY_S_MAX)
                self.kill()
            assert await self.start()


async def deploy(rpc: Rpc, code: bytes) -> Address:
    receipt = await Sender(rpc, Abi([]), PATIENT.call_s).send(NodeKey.generate(), None, code)
    assert receipt.contract is not None
    return receipt.contract


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_kill_9_at_any_moment_loses_nothing_that_was_mined(
    tmp_path: Path, tiny_code: bytes, seed: int
) -> None:
    killing, done = Killing(tmp_path, random.Random(seed)), asyncio.Event()
    while not await killing.start(killing.rng.randint(1, 30)):  # it may also die while it begins
        killing.kill()
    assert killing.process is not None
    killing.kill()
    assert await killing.start()
    ((url, chain_id),) = killing.told
    rpcs = [Rpc([url], PATIENT) for _ in range(CLIENTS + 1)]
    try:
        contract = await deploy(rpcs[0], tiny_code)
        clients = [Client(number, rpc, contract) for number, rpc in enumerate(rpcs[1:], 1)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.send_until(done, killing.news))
            await killing.deaths()
            done.set()
        await check(rpcs[0].call, contract, clients)
        assert rpcs[0].chain_id == chain_id
    finally:
        for rpc in rpcs:
            await rpc.close()
        if killing.process is not None:
            killing.kill()


async def check(call: Callable[..., Any], contract: Address, clients: list[Client]) -> None:
    """That the chain is whole, and holds what was seen mined, once and where it was."""
    seen = {value: receipt for client in clients for value, receipt in client.receipts.items()}
    assert len(seen) >= CLIENTS * FEWEST
    newest = int(await call("eth_blockNumber"), 16)
    assert newest == 1 + len(seen), "nothing but the deployment and these, each in a block of its own"
    previous, mined = None, []
    for number in range(newest + 1):
        block = await call("eth_getBlockByNumber", hex(number), False)
        assert previous in (None, block["parentHash"])
        previous = block["hash"]
        if number > 1:
            kept = read_bytes(await call("eth_getStorageAt", f"0x{contract.hex()}", "0x0", hex(number)))
            mined.append(int.from_bytes(kept, "big"))  # every block's state is there
            receipt = seen[mined[-1]]
            assert (receipt.block_number, f"0x{receipt.block_hash.hex()}") == (number, block["hash"])
            assert block["transactions"] == [f"0x{receipt.transaction.hex()}"]
            again = await call("eth_getTransactionReceipt", block["transactions"][0])
            assert again["logs"] == list(receipt.logs)
            assert again["logs"][0]["data"] == f"0x{word(mined[-1]).hex()}"
    assert sorted(mined) == sorted(seen)
    for client in clients:
        nonce = await call("eth_getTransactionCount", f"0x{client.key.address.hex()}", "latest")
        assert int(nonce, 16) == len(client.receipts)
        assert sorted(client.receipts) == [value for value in mined if value >> 32 == client.number]

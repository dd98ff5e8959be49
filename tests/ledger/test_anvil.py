"""Our client on anvil, a chain that is not ours: gas costs something, and what was sent or mined may be gone again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from distrai.ledger.abi import Abi
from distrai.ledger.client import LedgerClient
from distrai.ledger.coins import CoinClient
from distrai.ledger.deployment import LOCAL, Deployment, check, deploy
from distrai.ledger.errors import LedgerRefused, LedgerUnreachable, NodeError, Reorganised
from distrai.ledger.follower import Cursor, read_on
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc
from distrai.ledger.sender import Sender
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified
from distrai.protocol.primitives import Address, MemberId
from helpers.anvil import FUNDED_KEY, AnvilProcess, running_anvil

pytestmark = pytest.mark.processes

CHAIN_ID = 777_000_222
PATIENCE = Patience(request_s=10.0, call_s=60.0, backoff_s=0.01, backoff_s_max=0.1)
OWNER = NodeKey(FUNDED_KEY)
OPENING = Opening(keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))
LIMITS = Limits(min_seats=1, max_seats=8, stall_seconds=100)
COINS = 10**17
GAP_S = 0.004
"""In which a node that hangs most of the time answers: about one call."""
LONG_S = 20.0
"""Shorter than it is waited for a receipt, longer than anything takes that goes well."""


@pytest.fixture
def anvil() -> Iterator[AnvilProcess]:
    with running_anvil("--chain-id", str(CHAIN_ID)) as process:
        yield process


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


class Seats:
    """A run with three seats, each with a client and coins of its own, who all submit every certificate."""

    def __init__(self, anvil: AnvilProcess, stack: AsyncExitStack) -> None:
        self.anvil, self.stack = anvil, stack
        self.keys = [NodeKey.generate() for _ in range(3)]
        self.clients: list[LedgerClient] = []
        self.run = 0

    async def begin(self, made: Deployment) -> None:
        self.owner = await self.connect(made, OWNER)
        self.clients = [await self.connect(made, key) for key in self.keys]
        coins = await CoinClient.connect(self.anvil.url, CHAIN_ID, OWNER)
        self.stack.push_async_callback(coins.close)
        self.run = await self.owner.open_run(OPENING, LIMITS)
        with pytest.raises(NodeError, match="[Ii]nsufficient funds"):
            await self.register(0)
        for key in self.keys:
            await coins.send(key.address, COINS)
        members = await asyncio.gather(*(self.register(number) for number in range(3)))
        joining = zip(self.clients, members, self.keys, strict=True)
        await asyncio.gather(*(self.join(client, member, key) for client, member, key in joining))
        await self.owner.start(self.run, sorted(members))

    async def connect(self, made: Deployment, key: NodeKey) -> LedgerClient:
        client = await LedgerClient.connect(self.anvil.url, made.registry, CHAIN_ID, key, patience=PATIENCE)
        self.stack.push_async_callback(client.close)
        return client

    async def register(self, number: int) -> MemberId:
        key = self.keys[number]
        return await self.clients[number].register(key, key.address, key.address)

    async def join(self, client: LedgerClient, member: MemberId, key: NodeKey) -> None:
        await client.join(self.run, member, key, client.invitation(OWNER, self.run, member))

    async def body(self) -> Body:
        state = await self.owner.run_state(self.run)
        number = state.round + 1
        roots = (keccak(b"updates"), keccak(b"state %d" % number), keccak(b"trainers"))
        return Body(self.run, number, state.head, *roots)

    async def certify(self, body: Body) -> None:
        """All at once: one lands, the others are told that they are late."""
        digest = self.owner.domain.digest(body.id)
        signed = [key.sign(digest) for key in sorted(self.keys, key=lambda key: key.address)]
        sending = (client.certify(body, signed) for client in self.clients)
        said = await asyncio.gather(*sending, return_exceptions=True)
        assert said.count(body.head) == 1
        assert sum(isinstance(each, LedgerRefused) for each in said) == 2

    def nonces(self) -> list[int]:
        found = (
            self.anvil.call("eth_getTransactionCount", f"0x{key.address.hex()}", "latest")
            for key in self.keys
        )
        return [int(count, 16) for count in found]


async def test_rounds_that_a_reorg_took_back_land_again_at_once(
    anvil: AnvilProcess, stack: AsyncExitStack, tmp_path: Any
) -> None:
    made = await deploy(anvil.url, CHAIN_ID, OWNER, LOCAL)
    assert await check(anvil.url, made) == []
    seats, index = Seats(anvil, stack), LedgerIndex.open(tmp_path / "index", made)
    stack.callback(index.close)
    source = await LogSource.connect(anvil.url, CHAIN_ID)
    stack.push_async_callback(source.close)
    await seats.begin(made)
    bodies = []
    for _ in range(5):
        bodies.append(await seats.body())
        await seats.certify(bodies[-1])
    batch = await read_on(seats.owner, seats.run, Cursor(0))
    assert batch is not None
    await index.sync(source)
    before, nonces = index.events((Certified,)), seats.nonces()

    anvil.call("anvil_reorg", 3, [])
    left = (await seats.owner.run_state(seats.run)).round
    assert left < 5
    assert seats.nonces() < nonces, "the chain wants them again"
    with pytest.raises(Reorganised) as reorganised:
        await read_on(seats.owner, seats.run, batch.cursor)
    assert reorganised.value.to_block == batch.cursor.next_block - 4
    async with asyncio.timeout(LONG_S):
        for body in [*bodies[left:], None]:
            await seats.certify(body or await seats.body())

    await index.sync(source)
    after = index.events((Certified,))
    assert [event.body for event in after[:5]] == bodies
    assert after[:left] == before[:left]
    assert not {event.at for event in after} & {event.at for event in before[left:]}


async def test_a_transaction_that_the_node_forgot_is_sent_again(
    anvil: AnvilProcess, stack: AsyncExitStack
) -> None:
    anvil.call("evm_setAutomine", False)
    rpc = Rpc([anvil.url], PATIENCE)
    stack.push_async_callback(rpc.close)
    sending = asyncio.create_task(Sender(rpc, Abi([]), LONG_S).send(OWNER, Address(b"\x0b" * 20), b""))
    async with asyncio.timeout(LONG_S):
        while await rpc.call("txpool_status") != {"pending": "0x1", "queued": "0x0"}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await rpc.call("anvil_dropAllTransactions")
    assert not sending.done()
    await rpc.call("evm_setAutomine", True)
    receipt = await sending
    assert receipt.gas_used == 21_000
    assert anvil.call("eth_getTransactionCount", f"0x{OWNER.address.hex()}", "latest") == "0x1"


async def test_a_node_that_answers_late_is_not_made_to_do_it_twice(
    anvil: AnvilProcess, stack: AsyncExitStack
) -> None:
    hasty = Patience(request_s=0.2, call_s=60.0, backoff_s=0.01, backoff_s_max=0.1)
    coins = await CoinClient.connect(anvil.url, CHAIN_ID, OWNER, hasty)
    stack.push_async_callback(coins.close)
    somebody, over = Address(b"\x0b" * 20), asyncio.Event()

    async def stutter() -> None:
        """Take calls and answer none of them in time, again and again; what was taken is done afterwards."""
        while not over.is_set():
            anvil.pause()
            await asyncio.sleep(1.5 * hasty.request_s)
            anvil.resume()
            await asyncio.sleep(GAP_S)

    stuttering = asyncio.create_task(stutter())
    async with asyncio.timeout(3 * LONG_S):
        for _ in range(4):
            await coins.send(somebody, 1)
    over.set()
    await stuttering
    assert await coins.balance(somebody) == 4
    assert anvil.call("eth_getTransactionCount", f"0x{OWNER.address.hex()}", "latest") == "0x4"


async def test_it_goes_on_with_a_chain_that_was_stopped_and_started_again(
    stack: AsyncExitStack, tmp_path: Any
) -> None:
    kept = ("--chain-id", str(CHAIN_ID), "--state", str(tmp_path / "state.json"))
    anvil = stack.enter_context(running_anvil(*kept))
    made = await deploy(anvil.url, CHAIN_ID, OWNER, LOCAL)
    index = LedgerIndex.open(tmp_path / "index", made)
    stack.callback(index.close)
    source = await LogSource.connect(anvil.url, CHAIN_ID)
    stack.push_async_callback(source.close)
    client = await LedgerClient.connect(anvil.url, made.registry, CHAIN_ID, OWNER, patience=PATIENCE)
    stack.push_async_callback(client.close)
    run = await client.open_run(OPENING, LIMITS)
    await index.sync(source)
    before = index.events()
    anvil.stop()
    with pytest.raises(LedgerUnreachable):
        await client._rpc.call("eth_blockNumber", deadline_s=0.2)
    anvil.start()
    assert await check(anvil.url, made) == []
    assert await client.open_run(OPENING, LIMITS) == run + 1
    await index.sync(source)
    assert index.events()[:-1] == before
    assert index.events()[-1].at.block_number == before[-1].at.block_number + 1

"""The client's side of JSON-RPC: deadlines, retries, a second address, nonces, and other people's broken nodes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from distrai.ledger.abi import Abi
from distrai.ledger.embedded.evm import decode_transaction
from distrai.ledger.embedded.jsonrpc import answer
from distrai.ledger.errors import BadAnswer, LedgerRefused, LedgerUnreachable, NodeError, NotMined, WrongChain
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.ledger.sender import Receipt, Sender
from distrai.protocol.primitives import Address

QUICK = Patience(request_s=10.0, call_s=30.0, backoff_s=0.001, backoff_s_max=0.01)
HASTY = replace(QUICK, request_s=0.3)
IMPATIENT = Patience(request_s=0.05, call_s=0.1, backoff_s=0.001, backoff_s_max=0.01)
LONG_S = 30.0
"""Longer than anything takes that goes well, on a busy machine too."""
NO_ABI = Abi([])

Fault = Callable[[str, web.Request], Awaitable[web.Response | None]]


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


class Node:
    """The embedded chain behind a proxy that goes wrong as told: ``faults`` are used up one for each request."""

    def __init__(self, chain: Any) -> None:
        self.chain = chain
        self.faults: list[Fault] = []
        self.methods: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        method = json.loads(body)["method"]
        self.methods.append(method)
        if self.faults and (response := await self.faults.pop(0)(method, request)) is not None:
            return response
        return web.Response(body=answer(self.chain, body), content_type="application/json")

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Node"]:
        application = web.Application()
        application.router.add_post("/", self.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = "http://{}:{}".format(*runner.addresses[0][:2])
            yield self
        finally:
            await runner.cleanup()


def status(code: int) -> Fault:
    async def fault(method: str, request: web.Request) -> web.Response:
        return web.Response(status=code)

    return fault


def says(body: bytes) -> Fault:
    async def fault(method: str, request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return fault


async def hang_up(method: str, request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def silent(method: str, request: web.Request) -> None:
    await asyncio.Event().wait()


async def works(method: str, request: web.Request) -> None:
    return None


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


@pytest.fixture
async def node(chain: Any, stack: AsyncExitStack) -> Node:
    return await stack.enter_async_context(Node(chain).running())


@pytest.fixture
async def connect(stack: AsyncExitStack) -> Callable[..., Rpc]:
    def connected(*urls: str, patience: Patience = QUICK) -> Rpc:
        rpc = Rpc(urls, patience)
        stack.push_async_callback(rpc.close)
        return rpc

    return connected


@pytest.mark.parametrize(
    "faults", [[status(429)], [status(503)] * 3, [hang_up], [works, hang_up, status(500)], [silent]]
)
async def test_what_passes_is_tried_again(
    node: Node, connect: Callable[..., Rpc], faults: list[Fault]
) -> None:
    node.faults = list(faults)
    patience = HASTY if silent in faults else QUICK
    assert await connect(node.url, patience=patience).call("eth_blockNumber") == "0x0"
    assert not node.faults


async def test_a_node_that_stays_away_is_unreachable_in_time(node: Node, connect: Callable[..., Rpc]) -> None:
    for fault in (silent, hang_up, status(503)):
        node.faults = [fault] * 100
        start = asyncio.get_running_loop().time()
        with pytest.raises(LedgerUnreachable, match="eth_blockNumber"):
            await connect(node.url, patience=IMPATIENT).call("eth_blockNumber")
        assert asyncio.get_running_loop().time() - start < LONG_S


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"{}", b'"x"', b"\xff\xfe", b'{"id": 1}'])
async def test_what_is_no_node_is_said_to_be_so(node: Node, connect: Callable[..., Rpc], body: bytes) -> None:
    node.faults = [says(body)]
    with pytest.raises(BadAnswer):
        await connect(node.url).call("eth_blockNumber")


async def test_a_status_that_will_not_pass_is_not_retried(node: Node, connect: Callable[..., Rpc]) -> None:
    node.faults = [status(404)]
    with pytest.raises(BadAnswer, match="404"):
        await connect(node.url).call("eth_blockNumber")
    assert len(node.methods) == 1


async def test_errors_of_the_node_are_not_retried(node: Node, connect: Callable[..., Rpc]) -> None:
    rpc = connect(node.url)
    with pytest.raises(NodeError) as refused:
        await rpc.call("eth_nothing")
    assert refused.value.code == -32601
    assert node.methods == ["eth_chainId", "eth_nothing"]


async def test_the_second_address_is_used_if_the_first_is_down(
    node: Node, connect: Callable[..., Rpc], stack: AsyncExitStack
) -> None:
    other = await stack.enter_async_context(Node(node.chain).running())
    rpc = connect(other.url, node.url)
    assert await rpc.call("eth_blockNumber") == "0x0"
    other.faults = [hang_up] * 100
    assert await rpc.call("eth_blockNumber") == "0x0"
    assert node.methods == ["eth_chainId", "eth_blockNumber"]


async def test_a_second_address_on_another_chain_is_refused(
    node: Node, connect: Callable[..., Rpc], stack: AsyncExitStack, open_chain: Callable[..., Any]
) -> None:
    foreign = await stack.enter_async_context(Node(open_chain("foreign")).running())
    rpc = connect(node.url, foreign.url)
    await rpc.call("eth_blockNumber")
    node.faults = [hang_up] * 100
    with pytest.raises(WrongChain, match=str(foreign.chain.chain_id)):
        await rpc.call("eth_blockNumber")


async def send(rpc: Rpc, key: NodeKey, to: Address | None, data: bytes) -> Receipt:
    return await Sender(rpc, NO_ABI, receipt_s=LONG_S).send(key, to, data)


async def test_a_transaction_is_sent_mined_and_its_refusal_told(
    node: Node, connect: Callable[..., Rpc], tiny: Any
) -> None:
    rpc, key = connect(node.url), NodeKey.generate()
    receipt = await send(rpc, key, tiny, word(4))
    assert receipt.block_number == node.chain.block_number
    assert node.chain.storage(tiny, 0) == 4
    with pytest.raises(LedgerRefused) as refused:
        await send(rpc, key, tiny, word(0))
    assert refused.value.name == "0x00000000"
    assert node.chain.nonce(key.address) == 1


async def test_a_refusal_that_shows_only_when_mined_is_told_as_well(
    node: Node, connect: Callable[..., Rpc], tiny: Any
) -> None:
    node.faults = [works, says(b'{"id": 1, "result": "0x30000"}')]  # the estimate of another state
    with pytest.raises(LedgerRefused) as refused:
        await send(connect(node.url), key := NodeKey.generate(), tiny, word(0))
    assert refused.value.name == "0x00000000"
    assert node.chain.nonce(key.address) == 1


async def test_where_gas_costs_something_fees_and_a_margin_are_added(
    node: Node, connect: Callable[..., Rpc], tiny: Any
) -> None:
    raw: list[bytes] = []

    async def keep(method: str, request: web.Request) -> None:
        raw.append(bytes.fromhex(json.loads(await request.read())["params"][0][2:]))

    node.faults = [
        works,
        says(b'{"id": 1, "result": "0x10000"}'),  # the estimate
        says(b'{"id": 1, "result": "0x5"}'),  # the gas price
        says(b'{"id": 1, "result": {"baseFeePerGas": "0x64"}}'),
        says(b'{"id": 1, "result": "0x7"}'),  # the tip
        works,
        keep,
    ]
    await send(connect(node.url), NodeKey.generate(), tiny, word(1))
    sent = decode_transaction(raw[0], node.chain.chain_id)
    assert (sent.gas, sent.max_fee_per_gas, sent.max_priority_fee_per_gas) == (0x10000 * 9 // 8, 207, 7)


async def test_many_at_once_have_nonces_without_gaps(
    node: Node, connect: Callable[..., Rpc], tiny: Any
) -> None:
    key = NodeKey.generate()
    sender = Sender(connect(node.url), NO_ABI, receipt_s=LONG_S)
    receipts = await asyncio.gather(*(sender.send(key, tiny, word(value)) for value in range(1, 11)))
    assert len({receipt.block_number for receipt in receipts}) == 10


async def test_a_stale_nonce_is_asked_for_again(node: Node, connect: Callable[..., Rpc], tiny: Any) -> None:
    key, rpc = NodeKey.generate(), connect(node.url)
    sender = Sender(rpc, NO_ABI, receipt_s=LONG_S)
    await sender.send(key, tiny, word(1))
    await send(rpc, key, tiny, word(2))  # behind the first sender's back
    await sender.send(key, tiny, word(3))
    assert node.chain.storage(tiny, 0) == 3
    node.faults = [works] * 2 + [says(b'{"id": 1, "result": "0x7"}')]
    await send(rpc, key, tiny, word(4))
    assert node.chain.nonce(key.address) == 4


@pytest.mark.parametrize("again", ["already known", "nonce too low: next nonce 1, tx nonce 0"])
async def test_an_answer_lost_on_the_way_does_not_send_twice(
    node: Node, connect: Callable[..., Rpc], tiny: Any, again: str
) -> None:
    key = NodeKey.generate()

    async def mine_and_hang_up(method: str, request: web.Request) -> None:
        assert method == "eth_sendRawTransaction"
        answer(node.chain, await request.read())
        await hang_up(method, request)

    async def say_so(method: str, request: web.Request) -> web.Response:
        error = {"code": -32000, "message": again}
        return web.Response(
            body=json.dumps({"id": 1, "error": error}).encode(), content_type="application/json"
        )

    node.faults = [*[works] * 4, mine_and_hang_up, say_so]
    receipt = await send(connect(node.url), key, tiny, word(5))
    assert receipt.block_number == 2
    assert node.chain.nonce(key.address) == 1


async def test_a_receipt_that_never_comes_is_not_waited_for_for_ever(
    node: Node, connect: Callable[..., Rpc], tiny: Any
) -> None:
    nothing = says(b'{"id": 1, "result": null}')

    async def no_receipt(method: str, request: web.Request) -> web.Response | None:
        return await nothing(method, request) if method == "eth_getTransactionReceipt" else None

    node.faults = [no_receipt] * 200
    sender = Sender(connect(node.url), NO_ABI, receipt_s=0.05)
    with pytest.raises(NotMined):
        await sender.send(NodeKey.generate(), tiny, word(5))


@pytest.mark.parametrize("value", [None, 5, "", "x", [], "0xzz"])
def test_other_values_than_expected_are_bad_answers(value: Any) -> None:
    with pytest.raises(BadAnswer):
        read_quantity(value)
    if value != "":
        with pytest.raises(BadAnswer):
            read_bytes(value)

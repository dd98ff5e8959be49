"""Nothing that moves money happens twice, or never, because a node is late, forgets or lags, or two ask for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distrai.ledger.abi import Abi
from distrai.ledger.embedded.server import serve as serve_chain
from distrai.ledger.errors import LedgerUnreachable, NodeError, NotMined
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import Payment
from distrai.ledger.rpc import Rpc
from distrai.ledger.sender import Sender
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address
from helpers.money_chain import TERMS, WINDOWS, MoneyChain

KEY = NodeKey(keccak(b"payer"))
TO = Address(b"\x07" * 20)


@dataclass
class Node:
    """A node with a pool of transactions, which takes, loses, forgets and mines them as told.

    ``luck`` decides at each transaction that arrives and each time a receipt is asked for; when it is used up, all goes
    well.
    """

    luck: list[str] = field(default_factory=list)
    pool: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """By nonce: (data, hash)."""
    mined: list[tuple[bytes, bytes]] = field(default_factory=list)
    chain_id: int = 5
    now: float = 0.0
    shown_at: dict[bytes, float] = field(default_factory=dict)
    """By hash: when receipts come that lag behind the count of transactions."""

    async def call(self, method: str, *params: Any, lost: list[Exception] | None = None) -> Any:
        match method:
            case "eth_sendRawTransaction":
                return self._take(bytes.fromhex(params[0][2:]), lost)
            case "eth_getTransactionReceipt":
                return self._receipt(bytes.fromhex(params[0][2:]))
            case "eth_getTransactionCount":
                return hex(self._count(is_pending=params[1] == "pending"))
            case "eth_gasPrice":
                return "0x1"
            case "eth_estimateGas":
                return "0x5208"
            case "eth_getBlockByNumber":
                return {"baseFeePerGas": "0x1"}
            case "eth_maxPriorityFeePerGas":
                return "0x1"
        raise AssertionError(method)

    def _count(self, *, is_pending: bool) -> int:
        count = len(self.mined)
        while is_pending and count in self.pool:
            count += 1
        return count

    def _next_luck(self) -> str:
        return self.luck.pop(0) if self.luck else "well"

    def _take(self, raw: bytes, lost: list[Exception] | None) -> str:
        luck = self._next_luck()
        nonce, data = int.from_bytes(rlp.decode(raw[1:])[1], "big"), rlp.decode(raw[1:])[7]
        known = (data, keccak(raw))
        if luck == "unreachable":
            raise LedgerUnreachable("down before it arrived")
        if "lost" in luck:
            self._put(nonce, known)
            if luck == "answer lost":
                raise LedgerUnreachable("down after it arrived")
            self._mine()
            self.shown_at[known[1]] = self.now + 1.0
            if luck == "answer lost, mined at once":
                raise LedgerUnreachable("down after it was mined")
            if lost is not None:
                lost.append(ConnectionError("the first answer"))
        if luck == "forgets":
            return "0x"
        if nonce < len(self.mined):
            raise NodeError(-32000, "nonce too low")
        if self.pool.get(nonce) == known:
            raise NodeError(-32000, "already known")
        if nonce in self.pool:
            raise NodeError(-32000, "replacement transaction underpriced")
        self._put(nonce, known)
        return "0x"

    def _put(self, nonce: int, known: tuple[bytes, bytes]) -> None:
        if len(self.mined) <= nonce and nonce not in self.pool:
            self.pool[nonce] = known

    def _receipt(self, wanted: bytes) -> Any:
        match self._next_luck():
            case "forgets":
                self.pool.clear()
            case "leaves a gap":  # a reorg takes back what was mined for somebody else with this key
                if self.mined and self.mined[-1][0] == b"other":
                    self.mined.pop()
            case "well" | "lost and tried again":
                self._mine()
        for number, (_, known) in enumerate(self.mined):
            if known == wanted and self.now >= self.shown_at.get(known, 0.0):
                block = {"blockNumber": hex(number), "blockHash": "0x" + bytes(32).hex(), "gasUsed": "0x1"}
                return block | {"status": "0x1", "transactionHash": "0x" + known.hex(), "logs": []}
        return None

    def _mine(self) -> None:
        while len(self.mined) in self.pool:
            self.mined.append(self.pool.pop(len(self.mined)))

    def other(self) -> None:
        """The key is used elsewhere: another transaction takes the next nonce, whatever is in the pool."""
        self.pool.pop(len(self.mined), None)
        self.mined.append((b"other", keccak(b"other %d" % len(self.mined))))


_LUCK = st.lists(
    st.sampled_from(
        [
            "well",
            "waits",
            "forgets",
            "unreachable",
            "answer lost",
            "answer lost, mined at once",
            "lost and tried again",
            "leaves a gap",
        ]
    ),
    max_size=24,
)


@given(
    luck=_LUCK,
    deeds=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    others=st.sets(st.integers(0, 6)),
    once=st.booleans(),
)
@example(luck=["well", "leaves a gap", *["waits"] * 12], deeds=[0], others={1}, once=True)
@example(luck=["well", "leaves a gap", *["waits"] * 40], deeds=[0], others={1}, once=False)
@settings(max_examples=200, deadline=None)
def test_whatever_the_node_does_each_deed_is_done_once(
    luck: list[str], deeds: Sequence[int], others: set[int], once: bool
) -> None:
    """Said again until it is known to be done, as users and programs do; then it was done as often as it was meant.

    What may be done twice, since the contract refuses it or it changes nothing, is done in any case.
    """
    node = Node(list(luck))

    async def sleep(seconds: float) -> None:
        node.now += max(seconds, 0.01)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("sender", "nonces"):
            patch.setattr(f"distrai.ledger.{module}.time", SimpleNamespace(monotonic=lambda: node.now))
            patch.setattr(f"distrai.ledger.{module}.asyncio", SimpleNamespace(sleep=sleep, Lock=asyncio.Lock))
        asyncio.run(_do(node, deeds, others, once))
    done = [data for data, _ in node.mined if data != b"other"]
    if not once:
        assert set(done) == {bytes([deed]) for deed in deeds}
        return
    assert sorted(done) == sorted(bytes([deed]) for deed in deeds)
    assert node.pool == {}


async def _do(node: Node, deeds: Sequence[int], others: set[int], once: bool) -> None:
    rpc: Any = node
    sender, tries = Sender(rpc, Abi([]), receipt_s=4.0), 0
    for deed in deeds:
        while True:
            tries += 1
            assert tries < 100
            if tries in others:
                node.other()
            try:
                await sender.send(KEY, TO, bytes([deed]), once=once)
                break
            except LedgerUnreachable:
                if node.pool and min(node.pool) > len(node.mined):
                    node.other()  # fills the gap


@pytest.fixture
async def money(chain: Any, clock: Any) -> AsyncIterator[MoneyChain]:
    def wait(seconds: int) -> None:
        clock.now += seconds

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve_chain(chain, "127.0.0.1", 0))
        yield await MoneyChain(url, chain.chain_id, wait, stack, NodeKey.generate()).deploy()


async def test_two_machines_that_claim_for_one_member_pay_it_once(money: MoneyChain) -> None:
    run = await money.run()
    first, *_ = run.members
    await run.pots.fund(run.number, TERMS.rate)
    await run.work(1)
    await run.settle({first: 7})
    money.wait(WINDOWS.activation_seconds)
    machines = [await money.pots(NodeKey.generate()) for _ in range(4)]
    claim = (run.number, 1, first, 7, run.proof(first))
    payments = await asyncio.gather(*(machine.claim(*claim) for machine in machines))
    assert sorted(payment.paid for payment in payments) == [0, 0, 0, 7]
    assert {payment.claimed for payment in payments} == {7}
    assert await (await money.token()).balance(run.keys[first].address) == 7


async def test_a_claim_whose_answer_was_lost_is_known_to_be_paid(
    money: MoneyChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await money.run()
    first, *_ = run.members
    await run.pots.fund(run.number, TERMS.rate)
    await run.work(1)
    await run.settle({first: 7})
    money.wait(WINDOWS.activation_seconds)
    call = Rpc.call

    async def late(self: Rpc, method: str, *params: Any, **options: Any) -> Any:
        answer = await call(self, method, *params, **options)
        if method == "eth_sendRawTransaction":
            raise LedgerUnreachable("the answer did not come in time")
        return answer

    claim = (run.number, 1, first, 7, run.proof(first))
    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "call", late)
        with pytest.raises(LedgerUnreachable):
            await run.pots.claim(*claim)
    assert await run.pots.claim(*claim) == Payment(0, 7, None)
    assert await (await money.token()).balance(run.keys[first].address) == 7


async def test_paying_in_again_after_a_lost_answer_pays_once(
    money: MoneyChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process by going on with what was sent, in a new one by looking at what is there."""
    run = await money.run()
    call, lost = Rpc.call, []

    async def late(self: Rpc, method: str, *params: Any, **options: Any) -> Any:
        answer = await call(self, method, *params, **options)
        if method == "eth_sendRawTransaction" and len(lost) < 2:
            lost.append(method)
            raise LedgerUnreachable("the answer did not come in time")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "call", late)
        for _ in range(2):  # what approves, and what pays
            with pytest.raises(LedgerUnreachable):
                await run.pots.fund(run.number, 50)
        assert await run.pots.fund(run.number, 50) == 50
    assert await run.pots.fund(run.number, 50) == 100  # this one is meant
    other = await money.pots()
    assert await other.fund_up_to(run.number, 100) == 0
    pot = await other.pot_of(run.number)
    assert pot is not None
    assert pot.funded == 100


async def test_what_is_on_its_way_is_waited_for_before_more_is_paid_in(
    money: MoneyChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await money.run()
    call = Rpc.call

    async def pending(self: Rpc, method: str, *params: Any, **options: Any) -> Any:
        answer = await call(self, method, *params, **options)
        is_pending = method == "eth_getTransactionCount" and params[1] == "pending"
        return hex(int(answer, 16) + 1) if is_pending else answer

    monkeypatch.setattr(Rpc, "call", pending)
    monkeypatch.setattr(run.pots._sender, "_receipt_s", 0.05)
    with pytest.raises(NotMined, match="do this again"):
        await run.pots.fund_up_to(run.number, 50)

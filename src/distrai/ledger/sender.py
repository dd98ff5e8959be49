"""Getting a transaction mined: estimate, nonce, fees, receipt, and the contract's own words when it refuses.

Nothing that moves money is done twice because an answer was late: a transaction whose fate is not known is said again
as it is, with its nonce, of which the chain takes one; it is made anew only when it never can be mined any more.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distrai.ledger.abi import Abi
from distrai.ledger.errors import BadAnswer, LedgerRefused, NodeError, NotMined
from distrai.ledger.fees import Fees
from distrai.ledger.keys import NodeKey
from distrai.ledger.nonces import Nonces
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.ledger.transactions import Transaction
from distrai.protocol.primitives import Address, Hash

_NONCE_TRIES = 5
_GAS_MARGIN_SHIFT = 3
"""An eighth more gas than estimated: what other transactions of the same block change may cost that much."""
_RECEIPT_PAUSES_S = (0.02, 2.0)
_AGAIN_S = 2.5
"""After so long without a receipt a transaction is sent again."""
_REVERT_CODE = 3
_UNSETTLED_MAX = 64
_TAKEN = ("nonce", "replacement transaction")
"""Words of nodes by which another transaction has this nonce."""
_Deed = tuple[Address, Address | None, int, bytes]
"""What a transaction does: from, to, value, data."""


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and did what it should. ``logs`` are as the node gives them."""

    transaction: Hash
    block_number: int
    block_hash: Hash
    gas_used: int
    contract: Address | None
    logs: tuple[Mapping[str, Any], ...]


class Sender:
    """Sends one transaction of a key at a time, so that its nonces have no gaps."""

    def __init__(self, rpc: Rpc, abi: Abi, receipt_s: float, spend_wei: int = Patience.spend_wei) -> None:
        self._rpc, self._abi, self._receipt_s = rpc, abi, receipt_s
        self._turns: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._nonces = Nonces(rpc)
        self._unsettled: dict[_Deed, Transaction] = {}
        """Transactions that were sent and whose fate is not known, by what they are to do."""
        self._fees = Fees(rpc, spend_wei)

    async def call(self, to: Address, data: bytes, block: int | None = None) -> bytes:
        """What a view returns. Raises LedgerRefused."""
        place = "latest" if block is None else hex(block)
        try:
            return read_bytes(await self._rpc.call("eth_call", {"to": _hex(to), "data": _hex(data)}, place))
        except NodeError as error:
            raise self._refusal(error) from error

    async def send(
        self, key: NodeKey, to: Address | None, data: bytes, *, value: int = 0, once: bool = False
    ) -> Receipt:
        """Have a transaction mined and wait for its receipt. ``value``: coins to send along, in wei.

        Raises LedgerRefused if the contract refuses it (before it is sent or, where another one came first, when it
        is mined), NotMined if the receipt does not come in time, LedgerUnreachable or NodeError. ``once``: what it does
        must not be done twice; after NotMined or LedgerUnreachable the same call then goes on with what was sent.
        """
        async with self._turns[key.address]:
            deed = (key.address, to, value, data)
            if once and (receipt := await self._go_on(key, deed)) is not None:
                return receipt
            gas = await self._estimate(key.address, to, data, value)
            fees = await self._fees.of(gas, is_creation=to is None)
            for _ in range(_NONCE_TRIES):
                nonce = await self._nonces.next(key.address)
                transaction = Transaction(await self._chain_id(), nonce, gas, to, data, *fees, value)
                if (receipt := await self._try(key, transaction, once=once)) is not None:
                    return receipt
            raise NotMined(
                f"the node accepted none of {_NONCE_TRIES} nonces: is the key used elsewhere as well?"
            )

    async def settle(self, account: Address) -> None:
        """Wait until nothing of an account is on its way to a block. Raises NotMined if that takes too long."""
        await self._nonces.until_idle(account, self._receipt_s)

    async def _go_on(self, key: NodeKey, deed: _Deed) -> Receipt | None:
        """The receipt of a transaction that was sent for the same before; None if there is none that can be mined."""
        transaction = self._unsettled.get(deed)
        if transaction is None:
            return None
        if await self._is_replaced(key, transaction):
            self._unsettled.pop(deed)
            return None
        return await self._try(key, transaction, once=True)

    async def _is_replaced(self, key: NodeKey, transaction: Transaction) -> bool:
        """Whether another transaction has this nonce. Asked twice: what answers may be nodes that differ by blocks."""
        _, transaction_hash = transaction.sign(key)
        for pause in (0.0 if await self._fees.is_free() else _RECEIPT_PAUSES_S[1], 0.0):
            is_used = await self._nonces.count(key.address, "latest") > transaction.nonce
            if not is_used or await self._receipt(transaction_hash) is not None:
                return False
            await asyncio.sleep(pause)
        return True

    async def _try(self, key: NodeKey, transaction: Transaction, *, once: bool) -> Receipt | None:
        """Send and wait; None if another transaction has the nonce."""
        raw, transaction_hash = transaction.sign(key)
        deed = (key.address, transaction.to, transaction.value, transaction.data)
        lost: list[Exception] = []
        is_known = deed in self._unsettled
        self._remember(deed, transaction)
        try:
            await self._rpc.call("eth_sendRawTransaction", _hex(raw), lost=lost)
        except NodeError as error:
            words = error.message.lower()
            is_taken = any(said in words for said in _TAKEN)
            may_be_sent = once and (is_known or bool(lost))
            if not may_be_sent and (is_taken or "already" not in words):
                self._unsettled.pop(deed, None)
            if is_taken and not may_be_sent and await self._receipt(transaction_hash) is None:
                return None
            if not is_taken and "already" not in words:
                await self._fees.check_poor(
                    error, key.address, transaction.value + transaction.gas * transaction.fee_max
                )
                raise self._refusal(error) from error
        if (receipt := await self._wait(key.address, transaction, raw, transaction_hash, once=once)) is None:
            self._unsettled.pop(deed, None)
            return None
        self._unsettled.pop(deed, None)
        self._nonces.mined(key.address, transaction.nonce, transaction_hash)
        return await self._checked(receipt, key.address, transaction)

    def _remember(self, deed: _Deed, transaction: Transaction) -> None:
        self._unsettled[deed] = transaction
        if len(self._unsettled) > _UNSETTLED_MAX:
            del self._unsettled[next(iter(self._unsettled))]

    async def _estimate(self, sender: Address, to: Address | None, data: bytes, value: int) -> int:
        request = {"from": _hex(sender), "data": _hex(data)} | ({} if to is None else {"to": _hex(to)})
        request |= {"value": hex(value)} if value else {}
        try:
            estimate = read_quantity(await self._rpc.call("eth_estimateGas", request))
        except NodeError as error:
            await self._fees.check_poor(error, sender, value)
            raise self._refusal(error) from error
        return estimate if await self._fees.is_free() else estimate + (estimate >> _GAS_MARGIN_SHIFT)

    async def _chain_id(self) -> int:
        if self._rpc.chain_id is None:
            await self._rpc.call("eth_chainId")
        assert self._rpc.chain_id is not None
        return self._rpc.chain_id

    async def _receipt(self, transaction_hash: Hash) -> dict[str, Any] | None:
        found = await self._rpc.call("eth_getTransactionReceipt", _hex(transaction_hash))
        return found if isinstance(found, dict) else None

    async def _wait(
        self, sender: Address, transaction: Transaction, raw: bytes, transaction_hash: Hash, *, once: bool
    ) -> dict[str, Any] | None:
        """The receipt; None if the nonce is another's or has a gap before it, so that it must be made anew.

        Nodes forget transactions (after a restart, a reorg, or where many wait): it is sent again every few seconds.
        What must be done once is never made anew here: the first one could be mined once the gap is filled.
        """
        start = time.monotonic()
        again = start + _AGAIN_S
        pause, pause_max = _RECEIPT_PAUSES_S
        while (receipt := await self._receipt(transaction_hash)) is None:
            now = time.monotonic()
            if now >= start + self._receipt_s:
                raise NotMined(
                    f"transaction {_hex(transaction_hash)} is not mined after {self._receipt_s:g} s"
                )
            if now >= again:
                if not once and await self._cannot_be_mined(sender, transaction, transaction_hash):
                    return None
                with suppress(NodeError):
                    await self._rpc.call("eth_sendRawTransaction", _hex(raw))
                again = time.monotonic() + _AGAIN_S
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
            pause = min(2 * pause, pause_max)
        return receipt

    async def _cannot_be_mined(self, sender: Address, transaction: Transaction, known: Hash) -> bool:
        """Whether there is a gap before the nonce, or another transaction has it."""
        if await self._nonces.count(sender, "pending") < transaction.nonce:
            return True
        is_used = await self._nonces.count(sender, "latest") > transaction.nonce
        return is_used and await self._receipt(known) is None

    async def _checked(self, receipt: dict[str, Any], sender: Address, transaction: Transaction) -> Receipt:
        parsed = _parse_receipt(receipt)
        if read_quantity(receipt.get("status")) == 1:
            return parsed
        request = {"from": _hex(sender), "data": _hex(transaction.data), "gas": hex(transaction.gas)}
        request |= {} if transaction.to is None else {"to": _hex(transaction.to)}
        request |= {"value": hex(transaction.value)} if transaction.value else {}
        try:
            await self._rpc.call("eth_call", request, hex(parsed.block_number))
        except NodeError as error:
            raise self._refusal(error) from error
        raise LedgerRefused("reverted")

    def _refusal(self, error: NodeError) -> NodeError | LedgerRefused:
        """The contract's error if the node passes one on, else the node's own."""
        if error.data is not None:
            return self._abi.refusal(error.data)
        return LedgerRefused("reverted") if error.code == _REVERT_CODE else error


def _parse_receipt(receipt: dict[str, Any]) -> Receipt:
    contract = receipt.get("contractAddress")
    logs = receipt.get("logs")
    if not isinstance(logs, list):
        raise BadAnswer("the node's receipt has no logs")
    return Receipt(
        Hash(read_bytes(receipt.get("transactionHash"))),
        read_quantity(receipt.get("blockNumber")),
        Hash(read_bytes(receipt.get("blockHash"))),
        read_quantity(receipt.get("gasUsed")),
        None if contract is None else Address(read_bytes(contract)),
        tuple(logs),
    )


def _hex(data: bytes) -> str:
    return "0x" + data.hex()

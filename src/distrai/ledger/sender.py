"""Getting a transaction mined: estimate, nonce, fees, receipt, and the contract's own words when it refuses."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distrai.ledger.abi import Abi
from distrai.ledger.errors import BadAnswer, LedgerRefused, NodeError, NotMined
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Rpc, read_bytes, read_quantity
from distrai.ledger.transactions import Transaction
from distrai.protocol.primitives import Address, Hash

_NONCE_TRIES = 5
_GAS_MARGIN_SHIFT = 3
"""An eighth more gas than estimated: what other transactions of the same block change may cost that much."""
_RECEIPT_PAUSES_S = (0.02, 2.0)
_REVERT_CODE = 3


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

    def __init__(self, rpc: Rpc, abi: Abi, receipt_s: float) -> None:
        self._rpc, self._abi, self._receipt_s = rpc, abi, receipt_s
        self._turns: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._nonces: dict[Address, int] = {}
        self._is_free: bool | None = None

    async def call(self, to: Address, data: bytes, block: int | None = None) -> bytes:
        """What a view returns. Raises LedgerRefused."""
        place = "latest" if block is None else hex(block)
        try:
            return read_bytes(await self._rpc.call("eth_call", {"to": _hex(to), "data": _hex(data)}, place))
        except NodeError as error:
            raise self._refusal(error) from error

    async def send(self, key: NodeKey, to: Address | None, data: bytes) -> Receipt:
        """Have a transaction mined and wait for its receipt.

        Raises LedgerRefused if the contract refuses it (before it is sent or, where another one came first, when it
        is mined), NotMined if the receipt does not come in time, LedgerUnreachable or NodeError.
        """
        async with self._turns[key.address]:
            gas = await self._estimate(key.address, to, data)
            fee_max, tip_max = await self._fees()
            for _ in range(_NONCE_TRIES):
                transaction = Transaction(
                    await self._chain_id(), await self._nonce(key.address), gas, to, data, fee_max, tip_max
                )
                if (receipt := await self._try(key, transaction)) is not None:
                    return receipt
            raise NotMined(
                f"the node accepted none of {_NONCE_TRIES} nonces: is the key used elsewhere as well?"
            )

    async def _try(self, key: NodeKey, transaction: Transaction) -> Receipt | None:
        """Send and wait; None if the nonce was not the next one."""
        raw, transaction_hash = transaction.sign(key)
        # Whatever happens on the way, the next transaction asks the node anew unless this one is known to be mined.
        self._nonces.pop(key.address, None)
        try:
            await self._rpc.call("eth_sendRawTransaction", _hex(raw))
        except NodeError as error:
            words = error.message.lower()
            if "nonce" in words and await self._receipt(transaction_hash) is None:
                return None
            if "nonce" not in words and "already" not in words:
                raise self._refusal(error) from error
        receipt = await self._wait(transaction_hash)
        self._nonces[key.address] = transaction.nonce + 1
        return await self._checked(receipt, key.address, transaction)

    async def _estimate(self, sender: Address, to: Address | None, data: bytes) -> int:
        request = {"from": _hex(sender), "data": _hex(data)} | ({} if to is None else {"to": _hex(to)})
        try:
            estimate = read_quantity(await self._rpc.call("eth_estimateGas", request))
        except NodeError as error:
            raise self._refusal(error) from error
        return estimate if await self._free() else estimate + (estimate >> _GAS_MARGIN_SHIFT)

    async def _fees(self) -> tuple[int, int]:
        """(highest fee, tip) per gas: room for the base fee to double, which takes six full blocks."""
        if await self._free():
            return 0, 0
        block = await self._rpc.call("eth_getBlockByNumber", "latest", False)
        tip = read_quantity(await self._rpc.call("eth_maxPriorityFeePerGas"))
        return 2 * read_quantity(block.get("baseFeePerGas")) + tip, tip

    async def _free(self) -> bool:
        """Whether gas costs nothing, as on the embedded chain; asked once."""
        if self._is_free is None:
            self._is_free = read_quantity(await self._rpc.call("eth_gasPrice")) == 0
        return self._is_free

    async def _nonce(self, account: Address) -> int:
        if account not in self._nonces:
            count = await self._rpc.call("eth_getTransactionCount", _hex(account), "pending")
            self._nonces[account] = read_quantity(count)
        return self._nonces[account]

    async def _chain_id(self) -> int:
        if self._rpc.chain_id is None:
            await self._rpc.call("eth_chainId")
        assert self._rpc.chain_id is not None
        return self._rpc.chain_id

    async def _receipt(self, transaction_hash: Hash) -> dict[str, Any] | None:
        found = await self._rpc.call("eth_getTransactionReceipt", _hex(transaction_hash))
        return found if isinstance(found, dict) else None

    async def _wait(self, transaction_hash: Hash) -> dict[str, Any]:
        end = time.monotonic() + self._receipt_s
        pause, pause_max = _RECEIPT_PAUSES_S
        while (receipt := await self._receipt(transaction_hash)) is None:
            if time.monotonic() >= end:
                raise NotMined(
                    f"transaction {_hex(transaction_hash)} is not mined after {self._receipt_s:g} s"
                )
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
            pause = min(2 * pause, pause_max)
        return receipt

    async def _checked(self, receipt: dict[str, Any], sender: Address, transaction: Transaction) -> Receipt:
        parsed = _parse_receipt(receipt)
        if read_quantity(receipt.get("status")) == 1:
            return parsed
        request = {"from": _hex(sender), "data": _hex(transaction.data), "gas": hex(transaction.gas)}
        request |= {} if transaction.to is None else {"to": _hex(transaction.to)}
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

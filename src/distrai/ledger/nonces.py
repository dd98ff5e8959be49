"""Which nonce is next: a chain takes each of an account's nonces once, in order.

The node is asked for each transaction, since a reorg takes nonces back. What it says too low because it lags behind is
mended by what is known of the account's last transaction, as long as the chain still has it.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Literal

from distrai.ledger.errors import NotMined
from distrai.ledger.rpc import Rpc, read_quantity
from distrai.protocol.primitives import Address, Hash

_PAUSES_S = (0.02, 2.0)


@dataclass(frozen=True)
class _Mined:
    next_nonce: int
    transaction: Hash


class Nonces:
    """The nonces of some accounts on one chain."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._mined: dict[Address, _Mined] = {}

    async def next(self, account: Address) -> int:
        """The nonce of the account's next transaction."""
        count = await self.count(account, "pending")
        last = self._mined.get(account)
        if last is None or count >= last.next_nonce:
            return count
        receipt = await self._rpc.call("eth_getTransactionReceipt", "0x" + last.transaction.hex())
        if receipt is not None:
            return last.next_nonce
        del self._mined[account]
        return count

    def mined(self, account: Address, nonce: int, transaction: Hash) -> None:
        """A transaction of the account is in a block."""
        self._mined[account] = _Mined(nonce + 1, transaction)

    async def count(self, account: Address, until: Literal["latest", "pending"]) -> int:
        """How many transactions of the account are in blocks, or also on their way."""
        found = await self._rpc.call("eth_getTransactionCount", "0x" + account.hex(), until)
        return read_quantity(found)

    async def until_idle(self, account: Address, patience_s: float) -> None:
        """Wait until nothing of an account is on its way to a block. Raises NotMined if that takes too long."""
        end = time.monotonic() + patience_s
        pause, pause_max = _PAUSES_S
        while await self.count(account, "pending") > await self.count(account, "latest"):
            if time.monotonic() >= end:
                raise NotMined("an earlier transaction of this key is not mined yet: wait, and do this again")
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
            pause = min(2 * pause, pause_max)

"""Gas for the peers that the opener of a run started: their node keys are new, and have none on a chain where it costs.

Amounts are bounded: what a key gets at once, and what all keys get in one session. What is left over stays with them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distrai.ledger.coins import WEI_DECIMALS, CoinClient
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address

Report = Callable[[dict[str, Any]], None]
LOW, HIGH = 2_000_000, 6_000_000
"""Units of gas: with less than LOW a key is filled up to HIGH. Joining takes about half a million, a certificate of 64
seats about as much."""
OPENING = 4_000_000
"""Units of gas that the opener needs itself, for opening, pot, record and claims, with room."""
_TRANSFER = 21_000


class NotEnoughGas(ValueError):
    """The opener cannot pay for gas; the message says how much is missing, and where to send it."""


async def check_opener(coins: CoinClient, owner: Address, peers: int) -> None:
    """Raise NotEnoughGas unless who is about to open a run can pay the gas of it, and of its peers to begin with."""
    price = 2 * await coins.gas_price()
    have, needed = await coins.balance(owner), (OPENING + peers * HIGH) * price
    if have < needed:
        raise NotEnoughGas(
            f"0x{owner.hex()}, which opens this run, has {format_amount(have, WEI_DECIMALS)} coins for gas; for itself "
            f"and {peers} peers it should have {format_amount(needed, WEI_DECIMALS)}: send it "
            f"{format_amount(needed - have, WEI_DECIMALS)} or more, then give the same command again"
        )


@dataclass
class GasSupply:
    """Fills up keys with what gas costs. ``most``: units of gas that may be given away in all."""

    coins: CoinClient
    owner: Address
    most: int
    report: Report
    turn: asyncio.Lock
    """One transaction of the opener at a time."""
    given: int = 0
    """Units of gas, at the prices of their time."""
    seen: set[Address] = field(default_factory=set)
    """Keys that were filled up at least once."""

    @classmethod
    def bounded(
        cls, coins: CoinClient, owner: Address, peers: int, rounds: int, report: Report, turn: asyncio.Lock
    ) -> "GasSupply":
        """For a run of so many peers and rounds: twice what joining and certifying can cost."""
        return cls(coins, owner, 2 * peers * HIGH + 2 * rounds * HIGH // 10, report, turn)

    async def top_up(self, key: Address) -> None:
        """Fill up a key that has little. Raises NotEnoughGas or a LedgerError."""
        async with self.turn:
            price = (
                2 * await self.coins.gas_price()
            )  # as much as a transaction must have for its price to double
            if price == 0:
                return
            have = await self.coins.balance(key)
            if have >= LOW * price:
                return
            amount = HIGH * price - have
            await self._check(amount, price)
            await self.coins.send(key, amount)
            self.given += amount // price
            self.seen.add(key)
            self.report({"event": "gas-sent", "to": "0x" + key.hex(), "wei": str(amount)})

    async def _check(self, amount: int, price: int) -> None:
        if self.given + amount // price > self.most:
            raise NotEnoughGas(
                f"the peers used more gas than this run can need ({self.given} units): something is wrong with them or "
                "with the chain. The same command goes on where it stopped"
            )
        have = await self.coins.balance(self.owner)
        needed = amount + _TRANSFER * price
        if have < needed:
            missing = format_amount(needed - have, WEI_DECIMALS)
            raise NotEnoughGas(
                f"0x{self.owner.hex()}, which opens this run, has {format_amount(have, WEI_DECIMALS)} coins and needs "
                f"{format_amount(needed, WEI_DECIMALS)} for the gas of a peer: send it at least {missing}, then give "
                "the same command again"
            )

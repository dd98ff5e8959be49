"""An ERC-20: what stakes and rewards are paid in. Amounts are base units."""

import asyncio
from typing import Any

from distrai.ledger.contract import Contract, Guarded
from distrai.ledger.sender import Receipt
from distrai.protocol.primitives import Address


class TokenClient(Contract):
    """A token, and the key whose tokens are moved."""

    artifact = "Token"

    async def decimals(self) -> int:
        """How many digits of an amount come after the point."""
        return int((await self._view("decimals"))[0])

    async def symbol(self) -> str:
        """The token's short name."""
        return str((await self._view("symbol"))[0])

    async def total_supply(self, block: int | None = None) -> int:
        """How much there is."""
        return int((await self._view("totalSupply", block=block))[0])

    async def balance(self, account: Address, block: int | None = None) -> int:
        """What an account has."""
        return int((await self._view("balanceOf", account, block=block))[0])

    async def allowance(self, owner: Address, spender: Address, block: int | None = None) -> int:
        """How much of ``owner``'s tokens ``spender`` may take."""
        return int((await self._view("allowance", owner, spender, block=block))[0])

    async def approve(self, spender: Address, amount: int) -> None:
        """Let ``spender`` take so much, whatever it was allowed before."""
        await self._send("approve", spender, amount)

    async def transfer(self, to: Address, amount: int) -> Receipt:
        """Move tokens. Raises LedgerRefused (ERC20InsufficientBalance)."""
        return await self._send("transfer", to, amount, once=True)


class Taking(Guarded):
    """A contract that takes tokens from whoever calls it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._one_at_a_time = asyncio.Lock()

    async def token(self) -> Address:
        """The one token of this contract."""
        return Address((await self._view("token"))[0])

    async def _take(self, amount: int, function: str, *arguments: object) -> Receipt:
        """Send a call that takes ``amount``, approving first what is missing.

        What is approved is just this amount: a contract that may take no more cannot be used for anything else.
        """
        async with self._one_at_a_time:
            if amount:
                await self._approve(amount)
            return await self._send(function, *arguments, once=True)

    async def _approve(self, amount: int) -> None:
        token = TokenClient(self._rpc, self._sender, await self.token(), self.chain_id, self._own_key)
        if await token.allowance(self.sender_address, self.address) < amount:
            await token.approve(self.address, amount)

"""The chain's own coin, in which gas is paid: balances, prices, and sending some. Amounts are wei."""

from typing import Self

from distrai.ledger.abi import all_errors
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc, read_quantity
from distrai.ledger.sender import Receipt, Sender
from distrai.protocol.primitives import Address

WEI_DECIMALS = 18


class CoinClient:
    """What accounts of a chain have to pay gas with."""

    def __init__(self, rpc: Rpc, key: NodeKey, patience: Patience) -> None:
        self._rpc, self._key = rpc, key
        self._sender = Sender(rpc, all_errors(), patience.call_s)

    @classmethod
    async def connect(cls, url: str, chain_id: int, key: NodeKey, patience: Patience | None = None) -> Self:
        """A client of a node, and the key whose coins are sent."""
        patience = patience or Patience()
        rpc = Rpc([url], patience)
        rpc.chain_id = chain_id
        return cls(rpc, key, patience)

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    async def gas_price(self) -> int:
        """What a unit of gas costs now; 0 where gas is free."""
        return read_quantity(await self._rpc.call("eth_gasPrice"))

    async def balance(self, account: Address) -> int:
        """What an account has."""
        return read_quantity(await self._rpc.call("eth_getBalance", "0x" + account.hex(), "latest"))

    async def send(self, to: Address, amount: int) -> Receipt:
        """Send coins. Raises what ``Sender.send`` raises."""
        return await self._sender.send(self._key, to, b"", once=True, value=amount)

    async def settle(self) -> None:
        """Wait until nothing of the key is on its way any more, so that what the ledger says is all that was sent.

        Whoever was ended between sending and hearing of it would send again else. Raises NotMined.
        """
        await self._sender.settle(self._key.address)

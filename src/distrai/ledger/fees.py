"""What gas costs, what of that is paid without asking, and whose money does not suffice. Amounts are wei."""

from distrai.ledger.errors import NodeError, TooDear, TooLittleGas
from distrai.ledger.rpc import Rpc, read_quantity
from distrai.ledger.settings import COIN_DECIMALS
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address

_CREATION_TIMES = 20
"""Making a contract takes so many times the gas of a call."""
_POOR = "insufficient funds"
"""Words of nodes by which the sender cannot pay for gas and value."""


class Fees:
    """The prices of a chain as its node tells them; ``spend_wei`` is paid for a transaction's gas at most."""

    def __init__(self, rpc: Rpc, spend_wei: int) -> None:
        self._rpc, self._spend_wei = rpc, spend_wei
        self._is_free: bool | None = None

    async def is_free(self) -> bool:
        """Whether gas costs nothing, as on the embedded chain; asked once."""
        if self._is_free is None:
            self._is_free = read_quantity(await self._rpc.call("eth_gasPrice")) == 0
        return self._is_free

    async def of(self, gas: int, *, is_creation: bool) -> tuple[int, int]:
        """(highest fee, tip) per gas: room for the base fee to double, which takes six full blocks.

        Raises TooDear rather than let a node name any price.
        """
        if await self.is_free():
            return 0, 0
        block = await self._rpc.call("eth_getBlockByNumber", "latest", False)
        tip = read_quantity(await self._rpc.call("eth_maxPriorityFeePerGas"))
        highest = 2 * read_quantity(block.get("baseFeePerGas")) + tip
        most = self._spend_wei * (_CREATION_TIMES if is_creation else 1)
        if gas * highest > most:
            asked, limit = (format_amount(amount, COIN_DECIMALS) for amount in (gas * highest, most))
            raise TooDear(
                f"the node asks for up to {asked} of the chain's coin for the gas of one transaction, and no more than "
                f"{limit} is spent: check the node's address, or wait until the chain is less busy"
            )
        return highest, tip

    async def check_poor(self, error: NodeError, sender: Address, needed: int) -> None:
        """Raise TooLittleGas where a node refuses because the sender cannot pay."""
        if _POOR in error.message.lower():
            balance = await self._rpc.call("eth_getBalance", "0x" + sender.hex(), "latest")
            raise TooLittleGas(error, sender, read_quantity(balance), needed) from error

"""What the clients of single contracts share: one contract at an address, its views, its transactions, its words.

A client made without a key reads only. Whoever repeats a call whose effect is there already gets a result and no
failure; the exceptions say so.
"""

from typing import Any, ClassVar, Self

from distrai.ledger.abi import Abi, all_errors, load_artifact
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.events import argument_of
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc, read_quantity, rpc_to
from distrai.ledger.sender import Receipt, Sender
from distrai.ledger.settings import NOBODY
from distrai.protocol.primitives import Address
from distrai.protocol.typed_data import Domain

__all__ = ["NOBODY", "Contract", "Guarded", "NoKey"]


class NoKey(ValueError):
    """A client that was connected without a key cannot send."""


class Contract:
    """A contract at an address of a chain, and the key that pays for what is sent to it."""

    artifact: ClassVar[str]

    def __init__(
        self, rpc: Rpc, sender: Sender, address: Address, chain_id: int, key: NodeKey | None
    ) -> None:
        self.address, self.chain_id = address, chain_id
        self._rpc, self._sender, self._key = rpc, sender, key
        self._abi: Abi = load_artifact(self.artifact).abi

    @classmethod
    async def connect(
        cls,
        url: str,
        address: Address,
        chain_id: int,
        key: NodeKey | None = None,
        second_url: str | None = None,
        patience: Patience | None = None,
    ) -> Self:
        """A client of the contract at an address; ``second_url`` is asked where the first does not answer.

        Raises WrongChain if the node serves another chain or has no contract there, or LedgerUnreachable.
        """
        patience = patience or Patience()
        rpc = await rpc_to(url, address, chain_id, second_url, patience)
        return cls(
            rpc, Sender(rpc, all_errors(), patience.call_s, patience.spend_wei), address, chain_id, key
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    @property
    def domain(self) -> Domain:
        """Where signatures for this contract count."""
        return Domain(self.chain_id, self.address)

    @property
    def sender_address(self) -> Address:
        """Whose transactions these are. Raises NoKey."""
        return self._own_key.address

    async def ledger_time(self) -> int:
        """The time of the newest block: seconds."""
        block = await self._rpc.call("eth_getBlockByNumber", "latest", False)
        return read_quantity(block.get("timestamp"))

    @property
    def _own_key(self) -> NodeKey:
        if self._key is None:
            raise NoKey("this needs a key to sign with: give a wallet")
        return self._key

    async def read(self, function: str, *arguments: object, block: int | None = None) -> tuple[Any, ...]:
        """What any view of the contract gives, as its ABI says it."""
        return await self._view(function, *arguments, block=block)

    async def _view(self, function: str, *arguments: object, block: int | None = None) -> tuple[Any, ...]:
        """What a view gives, as of the end of a block (the newest by default)."""
        data = await self._sender.call(self.address, self._abi.call_data(function, arguments), block)
        return self._abi.decode_result(function, data)

    async def _send(self, function: str, *arguments: object, once: bool = False) -> Receipt:
        """Send a call; ``once``: it must not be done twice (see ``Sender.send``)."""
        data = self._abi.call_data(function, arguments)
        return await self._sender.send(self._own_key, self.address, data, once=once)

    async def _send_unless(self, done: str, function: str, *arguments: object) -> Receipt | None:
        """Send; None where the contract refuses with the error ``done``, by which the effect is there already."""
        try:
            return await self._send(function, *arguments)
        except LedgerRefused as refusal:
            if refusal.name == done:
                return None
            raise

    def _said(self, receipt: Receipt, event: str, name: str) -> Any:
        return argument_of(self._abi, self.address, receipt.logs, event, name)


class Guarded(Contract):
    """A contract with a guardian, who can stop what comes in, and never what goes out."""

    async def guardian(self) -> Address:
        """The guardian; NOBODY if the role was given up."""
        return Address((await self._view("guardian"))[0])

    async def offered(self) -> Address:
        """To whom the role is offered; NOBODY if to none."""
        return Address((await self._view("offered"))[0])

    async def paused(self) -> bool:
        """Whether nothing may come in."""
        return bool((await self._view("paused"))[0])

    async def set_paused(self, stop: bool) -> None:
        """Stop or allow what comes in, as the guardian."""
        await self._send("setPaused", stop)

    async def offer_guardian(self, to: Address) -> None:
        """Offer the role, as the guardian; it changes hands when ``to`` accepts."""
        await self._send("offerGuardian", to)

    async def accept_guardian(self) -> None:
        """Take the role that was offered to the client's key."""
        await self._send("acceptGuardian")

    async def renounce_guardian(self) -> None:
        """Give the role up for ever, as the guardian."""
        await self._send("renounceGuardian")

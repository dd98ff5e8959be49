"""What can go wrong between a peer and its ledger."""

from collections.abc import Sequence

from distrai.protocol.primitives import Address


class LedgerError(Exception):
    """Anything that a ledger call raises."""


class LedgerUnreachable(LedgerError, ConnectionError):
    """No node answered before the deadline. Nothing is known to be lost: wait, and ask again."""


class NotMined(LedgerUnreachable):
    """A transaction was sent, and its receipt did not come before the deadline; it may still be mined."""


class LedgerRefused(LedgerError, ValueError):
    """The contract refuses: ``name`` is its error and ``arguments`` are what it says, as Python values."""

    def __init__(self, name: str, arguments: Sequence[object] = ()) -> None:
        shown = ", ".join(f"0x{item.hex()}" if isinstance(item, bytes) else str(item) for item in arguments)
        super().__init__(f"the ledger refuses: {name}({shown})")
        self.name = name
        self.arguments = tuple(arguments)


class WrongChain(LedgerError, ValueError):
    """The node serves another chain than the run is on, or has no registry at its address."""


class NodeError(LedgerError):
    """The node answered with an error of its own (JSON-RPC ``code``), not of the contract's."""

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"the ledger's node says: {message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class TooLittleGas(NodeError):
    """An account cannot pay for the gas of a transaction. Amounts are of the chain's coin, in wei."""

    def __init__(self, said: NodeError, account: Address, has: int, needed: int) -> None:
        super().__init__(said.code, said.message, said.data)
        self.account, self.has, self.needed = account, has, needed


class TooDear(LedgerError, ValueError):
    """The node asks more for the gas of one transaction than is spent without asking: a lying node, or a busy chain."""


class BadAnswer(LedgerError):
    """What the node answered is not what was asked for: a broken node, or not a node at all."""


class Reorganised(LedgerError):
    """Blocks that events were taken from are gone: go back to ``to_block``, which is still there, and read on."""

    def __init__(self, to_block: int) -> None:
        super().__init__(f"the ledger was reorganised: block {to_block} is the last one that is still there")
        self.to_block = to_block

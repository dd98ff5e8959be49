"""What the embedded chain stores and answers with."""

from dataclasses import dataclass

from distrai.protocol.primitives import ADDRESS_SIZE, Address, Hash

_NOBODY = Address(bytes(ADDRESS_SIZE))


@dataclass(frozen=True)
class BlockRecord:
    """A mined block: its number, hash and RLP header."""

    number: int
    hash: Hash
    header: bytes


@dataclass(frozen=True)
class LogRecord:
    """One log entry; ``topics`` are 32 bytes each, at most four."""

    block_number: int
    log_index: int
    block_hash: Hash
    transaction_hash: Hash
    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class TransactionRecord:
    """The one transaction of a block, and what became of it. ``succeeded`` is false if it was reverted."""

    hash: Hash
    block_number: int
    block_hash: Hash
    raw: bytes
    sender: Address
    succeeded: bool
    gas_used: int
    contract: Address | None


@dataclass(frozen=True)
class LogFilter:
    """Which logs: blocks from ``first`` to ``last`` inclusive; empty ``addresses`` or topic positions match all."""

    first: int
    last: int
    addresses: tuple[Address, ...] = ()
    topics: tuple[tuple[bytes, ...], ...] = ()


@dataclass(frozen=True)
class CallRequest:
    """A message call that is tried, not mined. ``to`` None tries a deployment."""

    to: Address | None
    data: bytes = b""
    sender: Address = _NOBODY
    value: int = 0
    gas: int | None = None


class ChainError(ValueError):
    """The embedded chain refuses what was asked of it."""


class TransactionRefused(ChainError):
    """A raw transaction cannot be mined: malformed, for another chain, wrong nonce, too little gas or money."""


class CallReverted(ChainError):
    """A message call was reverted by the contract; ``data`` is what it said (ABI-encoded error)."""

    def __init__(self, data: bytes, message: str) -> None:
        super().__init__(message)
        self.data = data


class CallFailed(ChainError):
    """A message call ended for another reason than a revert: out of gas, invalid opcode."""


class UnknownBlock(ChainError):
    """There is no block of this number or hash."""


class TooManyLogs(ChainError):
    """A log query matches more than one answer may hold: ask for fewer blocks."""

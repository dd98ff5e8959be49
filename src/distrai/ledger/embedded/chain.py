"""The embedded chain: one folder, one process, one block per transaction."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import rlp  # type: ignore[import-untyped]
from eth.abc import ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from eth_typing import Address as EthAddress

from distrai.ledger.embedded.evm import (
    GAS_LIMIT,
    Applied,
    Machine,
    decode_header,
    decode_transaction,
    genesis_header,
    header_time,
    next_header,
)
from distrai.ledger.embedded.nodes import NodeDatabase
from distrai.ledger.embedded.records import (
    BlockRecord,
    CallRequest,
    LogFilter,
    LogRecord,
    TransactionRecord,
    TransactionRefused,
    UnknownBlock,
)
from distrai.ledger.embedded.store import ChainStore
from distrai.ledger.locks import FileLock
from distrai.protocol.primitives import Address, Hash

_BLOCKHASH_DEPTH = 256
_CHAIN_IDS = (1 << 32, 1 << 48)
"""Above the chain ids that people registered, below what JavaScript reads exactly."""
_SUCCESS = b"\x01"


class EmbeddedChain:
    """An EVM chain in a folder. Not thread-safe; a lock keeps other processes out.

    Mining is on demand: ``send_raw_transaction`` returns when the transaction's block is on disk. Calls and gas
    estimates see the block that would be mined now, so that a contract which waits for time to pass sees it pass.
    """

    def __init__(self, store: ChainStore, lock: FileLock, chain_id: int, clock: Callable[[], float]) -> None:
        self._store, self._lock, self._clock = store, lock, clock
        self.chain_id = chain_id
        self._nodes = NodeDatabase(store)
        self._machine = Machine(self._nodes, chain_id)
        last = store.last_block()
        assert last is not None, "a chain has a first block"
        self._head = decode_header(last.header)
        recent = store.block_hashes_before(last.number + 1, _BLOCKHASH_DEPTH)
        self._recent: deque[Hash] = deque(recent, maxlen=_BLOCKHASH_DEPTH)

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        """Open the chain in ``folder``, or begin one with a random chain id. Raises InUse if another process has it.

        Takes milliseconds whatever the length of the chain: nothing is replayed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "chain.lock", f"the chain in {folder}").acquire()
        store = ChainStore(folder / "chain.sqlite")
        known = store.meta("chain_id")
        return cls(store, lock, int(known) if known else _begin(store, int(clock())), clock)

    def close(self) -> None:
        """Close the file and let others have the folder."""
        self._store.close()
        self._lock.release()

    @property
    def block_number(self) -> int:
        """The number of the newest block."""
        return self._head.block_number

    def send_raw_transaction(self, raw: bytes) -> Hash:
        """Mine a signed transaction in a block of its own. Raises TransactionRefused; otherwise it is on disk."""
        transaction = decode_transaction(raw, self.chain_id)
        if self._store.transaction(transaction.hash) is not None:
            raise TransactionRefused("already known")
        header = next_header(self._head, int(self._clock()))
        try:
            with self._store.commit():
                applied = self._machine.apply(header, transaction, self._recent)
                self._record(applied, transaction, raw)
        except BaseException:
            self._nodes.forget()
            raise
        self._head = applied.header
        self._recent.appendleft(Hash(applied.header.hash))
        return Hash(transaction.hash)

    def call(self, request: CallRequest, block: int | None = None) -> bytes:
        """What a call would return, in the block to come or as of a mined one. Raises CallReverted or CallFailed."""
        header, previous = self._context(block)
        return self._machine.call(header, request, previous)[0]

    def estimate_gas(self, request: CallRequest) -> int:
        """Enough gas for this call to be mined now. Raises CallReverted or CallFailed if it would not succeed.

        One execution instead of a search: a quarter above what was used suffices for 14 nested calls, each of which
        is given 63/64 of what is left (EIP-150), and gas costs nothing here.
        """
        header, previous = self._context(None)
        _, used = self._machine.call(header, request, previous)
        return min(used + used // 4 + 5_000, GAS_LIMIT)

    def balance(self, address: Address, block: int | None = None) -> int:
        """An account's balance after a block (the newest by default). Raises UnknownBlock, as do the next three."""
        return self._state(block).get_balance(EthAddress(address))

    def nonce(self, address: Address, block: int | None = None) -> int:
        """How many transactions an account has sent."""
        return self._state(block).get_nonce(EthAddress(address))

    def code(self, address: Address, block: int | None = None) -> bytes:
        """A contract's code; empty for other accounts."""
        return self._state(block).get_code(EthAddress(address))

    def storage(self, address: Address, slot: int, block: int | None = None) -> int:
        """One word of a contract's storage."""
        return self._state(block).get_storage(EthAddress(address), slot)

    def header(self, number: int) -> CancunBlockHeader:
        """A block's header. Raises UnknownBlock."""
        if number == self.block_number:
            return self._head
        found = self._store.block(number) if number < self.block_number else None
        if found is None:
            raise UnknownBlock(f"there is no block {number}")
        return decode_header(found.header)

    def block_time(self, number: int) -> int:
        """A mined block's timestamp."""
        found = self._store.block(number)
        assert found is not None, "a block that is on the chain"
        return header_time(found.header)

    def header_by_hash(self, block_hash: bytes) -> CancunBlockHeader:
        """A block's header. Raises UnknownBlock."""
        found = self._store.block_by_hash(block_hash)
        if found is None:
            raise UnknownBlock(f"there is no block {block_hash.hex()}")
        return decode_header(found.header)

    def transaction(self, transaction_hash: bytes) -> TransactionRecord | None:
        """A mined transaction."""
        return self._store.transaction(transaction_hash)

    def transaction_of(self, block: int) -> TransactionRecord | None:
        """The transaction of a block, which only the first block lacks."""
        return self._store.transaction_of(block)

    def logs(self, wanted: LogFilter) -> list[LogRecord]:
        """Matching log entries in order. Raises TooManyLogs."""
        return self._store.logs(wanted)

    def _state(self, block: int | None) -> StateAPI:
        return self._machine.state(self.header(self.block_number if block is None else block))

    def _context(self, block: int | None) -> tuple[CancunBlockHeader, Sequence[Hash]]:
        if block is None:
            return next_header(self._head, int(self._clock())), self._recent
        return self.header(block), list(self._store.block_hashes_before(block, _BLOCKHASH_DEPTH))

    def _record(self, applied: Applied, transaction: SignedTransactionAPI, raw: bytes) -> None:
        header = applied.header
        block = BlockRecord(header.block_number, Hash(header.hash), rlp.encode(header))
        record = TransactionRecord(
            Hash(transaction.hash),
            block.number,
            block.hash,
            raw,
            Address(transaction.sender),
            applied.receipt.state_root == _SUCCESS,
            applied.receipt.gas_used,
            applied.contract,
        )
        self._store.put_block(block)
        self._store.put_transaction(record, _logs(applied.receipt, record))


def _begin(store: ChainStore, timestamp: int) -> int:
    chain_id = _CHAIN_IDS[0] + secrets.randbelow(_CHAIN_IDS[1] - _CHAIN_IDS[0])
    first = genesis_header(timestamp)
    with store.commit():
        store.set_meta("chain_id", str(chain_id))
        store.put_block(BlockRecord(0, Hash(first.hash), rlp.encode(first)))
    return chain_id


def _logs(receipt: ReceiptAPI, record: TransactionRecord) -> list[LogRecord]:
    return [
        LogRecord(
            record.block_number,
            index,
            record.block_hash,
            record.hash,
            Address(log.address),
            tuple(topic.to_bytes(32, "big") for topic in log.topics),
            log.data,
        )
        for index, log in enumerate(receipt.logs)
    ]

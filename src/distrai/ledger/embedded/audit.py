"""Whether the file of an embedded chain says one thing: blocks that follow each other, and what each block commits to.

A chain with one operator proves nothing about that operator. But whoever changes a byte of what it has mined, or a disk
that does, is found: headers name the one before, and the roots of transaction and receipt, with all its logs.
"""

from collections.abc import Iterator
from pathlib import Path

from eth.abc import ReceiptAPI, SignedTransactionAPI
from eth.constants import BLANK_ROOT_HASH
from eth.db.trie import make_trie_root_and_nodes
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp import RLPException  # type: ignore[import-untyped]

from distrai.ledger.embedded.evm import decode_header, decode_transaction
from distrai.ledger.embedded.records import (
    BlockRecord,
    LogFilter,
    LogRecord,
    TransactionRecord,
    TransactionRefused,
)
from distrai.ledger.embedded.store import ChainStore
from distrai.protocol.primitives import ZERO_HASH, Hash

PROBLEMS_MAX = 20
_SUCCEEDED, _REVERTED = b"\x01", b""


def audit(folder: Path) -> list[str]:
    """What is wrong with the chain in a folder; nothing if its blocks, transactions and logs fit together.

    It only reads: the chain may be served meanwhile.
    """
    store = ChainStore(folder / "chain.sqlite")
    try:
        problems = []
        for problem in _problems(store, int(store.meta("chain_id") or 0)):
            problems.append(problem)
            if len(problems) == PROBLEMS_MAX:
                break
        return problems
    finally:
        store.close()


def _problems(store: ChainStore, chain_id: int) -> Iterator[str]:
    last = store.last_block()
    parent = ZERO_HASH
    for number in range(0 if last is None else last.number + 1):
        block = store.block(number)
        if block is None:
            yield f"block {number} is missing"
            return
        yield from _wrong_in(store, block, parent, chain_id)
        parent = block.hash


def _wrong_in(store: ChainStore, block: BlockRecord, parent: Hash, chain_id: int) -> Iterator[str]:
    try:
        header = decode_header(block.header)
    except (RLPException, ValidationError, ValueError, TypeError, AssertionError):
        yield f"block {block.number}: its header cannot be read"
        return
    if (bytes(header.hash), int(header.block_number)) != (block.hash, block.number):
        yield f"block {block.number}: its header is not the one that its hash names"
    if bytes(header.parent_hash) != parent and block.number > 0:
        yield f"block {block.number}: it does not follow block {block.number - 1}"
    record = store.transaction_of(block.number)
    if record is None:
        if header.transaction_root != BLANK_ROOT_HASH:
            yield f"block {block.number}: its transaction is missing"
        return
    logs = store.logs(LogFilter(block.number, block.number))
    yield from _wrong_transaction(header, record, logs, chain_id)


def _wrong_transaction(
    header: CancunBlockHeader, record: TransactionRecord, logs: list[LogRecord], chain_id: int
) -> Iterator[str]:
    place = f"block {record.block_number}"
    try:
        transaction = decode_transaction(record.raw, chain_id)
    except (TransactionRefused, BadSignature, ValidationError, ValueError) as error:
        yield f"{place}: its transaction cannot be read: {error}"
        return
    root, _ = make_trie_root_and_nodes((transaction,))
    made = bytes(transaction.hash), bytes(transaction.sender)
    if made != (bytes(record.hash), bytes(record.sender)) or root != header.transaction_root:
        yield f"{place}: its transaction is not the one that the block was made of"
    receipts, _ = make_trie_root_and_nodes((_receipt(transaction, record, logs),))
    if receipts != header.receipt_root:
        yield f"{place}: outcome, gas or logs of its transaction are not what the block says"


def _receipt(
    transaction: SignedTransactionAPI, record: TransactionRecord, logs: list[LogRecord]
) -> ReceiptAPI:
    entries = tuple(
        (log.address, tuple(int.from_bytes(topic, "big") for topic in log.topics), log.data) for log in logs
    )
    status = _SUCCEEDED if record.succeeded else _REVERTED
    return transaction.make_receipt(status, record.gas_used, entries)

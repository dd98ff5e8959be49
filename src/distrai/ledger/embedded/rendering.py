"""Blocks, transactions, receipts and logs as the JSON objects of the Ethereum JSON-RPC specification."""

from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.vm.forks.cancun.blocks import CancunBlockHeader

from distrai.ledger.embedded.evm import decode_transaction
from distrai.ledger.embedded.records import LogRecord, TransactionRecord

_BLOOM_SIZE = 256
_DYNAMIC_FEE = 2
"""The type of transactions that EIP-1559 brought."""


def to_hex(value: bytes | None) -> str:
    """Bytes, two digits each; py-evm types as optional what a mined block always has."""
    assert value is not None
    return "0x" + value.hex()


def block_json(header: CancunBlockHeader, transactions: list[Any]) -> dict[str, Any]:
    """A block; ``transactions`` are hashes or objects, as the caller was asked for."""
    return {
        "number": hex(header.block_number),
        "hash": to_hex(header.hash),
        "parentHash": to_hex(header.parent_hash),
        "sha3Uncles": to_hex(header.uncles_hash),
        "logsBloom": to_hex(header.bloom.to_bytes(_BLOOM_SIZE, "big")),
        "transactionsRoot": to_hex(header.transaction_root),
        "stateRoot": to_hex(header.state_root),
        "receiptsRoot": to_hex(header.receipt_root),
        "miner": to_hex(header.coinbase),
        "difficulty": hex(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": to_hex(header.extra_data),
        "mixHash": to_hex(header.mix_hash),
        "nonce": to_hex(header.nonce),
        "size": hex(len(rlp.encode(header))),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "baseFeePerGas": "0x0",
        "withdrawalsRoot": to_hex(header.withdrawals_root),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": to_hex(header.parent_beacon_block_root),
        "transactions": transactions,
        "uncles": [],
        "withdrawals": [],
    }


def transaction_json(record: TransactionRecord, chain_id: int) -> dict[str, Any]:
    """A mined transaction."""
    transaction = decode_transaction(record.raw, chain_id)
    kind = getattr(transaction, "type_id", None) or 0
    rendered = {
        "type": hex(kind),
        "hash": to_hex(record.hash),
        "blockHash": to_hex(record.block_hash),
        "blockNumber": hex(record.block_number),
        "transactionIndex": "0x0",
        "chainId": hex(chain_id),
        "from": to_hex(record.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        # Of the older types it was signed; of this one it says what was paid.
        "gasPrice": "0x0" if kind == _DYNAMIC_FEE else hex(transaction.max_fee_per_gas),
        "value": hex(transaction.value),
        "input": to_hex(transaction.data),
        "v": hex(transaction.y_parity if kind else transaction.v),  # type: ignore[attr-defined]
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    return rendered | (_typed_fields(transaction, kind) if kind else {})


def _typed_fields(transaction: Any, kind: int) -> dict[str, Any]:
    entries = [
        {"address": to_hex(account), "storageKeys": [to_hex(slot.to_bytes(32, "big")) for slot in slots]}
        for account, slots in transaction.access_list
    ]
    fields: dict[str, Any] = {"accessList": entries, "yParity": hex(transaction.y_parity)}
    if kind == _DYNAMIC_FEE:
        fields["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return fields


def log_json(log: LogRecord, timestamp: int) -> dict[str, Any]:
    """A log entry; ``timestamp`` is its block's, so that readers need no look at that."""
    return {
        "address": to_hex(log.address),
        "topics": [to_hex(topic) for topic in log.topics],
        "data": to_hex(log.data),
        "blockNumber": hex(log.block_number),
        "blockHash": to_hex(log.block_hash),
        "blockTimestamp": hex(timestamp),
        "transactionHash": to_hex(log.transaction_hash),
        "transactionIndex": "0x0",
        "logIndex": hex(log.log_index),
        "removed": False,
    }


def receipt_json(
    record: TransactionRecord, header: CancunBlockHeader, logs: list[LogRecord], chain_id: int
) -> dict[str, Any]:
    """What became of a mined transaction, the only one under ``header``."""
    transaction = decode_transaction(record.raw, chain_id)
    return {
        "type": hex(getattr(transaction, "type_id", None) or 0),
        "transactionHash": to_hex(record.hash),
        "transactionIndex": "0x0",
        "blockHash": to_hex(record.block_hash),
        "blockNumber": hex(record.block_number),
        "from": to_hex(record.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "contractAddress": None if record.contract is None else to_hex(record.contract),
        "status": hex(record.succeeded),
        "gasUsed": hex(record.gas_used),
        "cumulativeGasUsed": hex(record.gas_used),
        "effectiveGasPrice": "0x0",
        "logs": [log_json(log, header.timestamp) for log in logs],
        "logsBloom": to_hex(header.bloom.to_bytes(_BLOOM_SIZE, "big")),
    }

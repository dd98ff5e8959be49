"""The ``eth_`` methods that a client needs and no other: nothing here unlocks, signs, or changes the chain's rules."""

from collections.abc import Callable, Mapping
from typing import Any

from distrai.ledger.embedded import parameters as read
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.records import LogFilter, TransactionRecord, UnknownBlock
from distrai.ledger.embedded.rendering import block_json, log_json, receipt_json, to_hex, transaction_json
from distrai.protocol.primitives import HASH_SIZE

CLIENT_VERSION = "DisTrAI/embedded/1 (one operator, no consensus)"
_FEE_HISTORY_MAX = 1024
_PERCENTILES_MAX = 128

Method = Callable[[EmbeddedChain, list[Any]], Any]


def _by_number(chain: EmbeddedChain, params: list[Any]) -> int | None:
    """The number of the block that the first parameter names by its number; None if there is none."""
    number = read.block_number(chain, read.argument(params, 0))
    if number is None:
        return chain.block_number
    return number if number <= chain.block_number else None


def _by_hash(chain: EmbeddedChain, params: list[Any]) -> int | None:
    """The number of the block that the first parameter names by its hash; None if there is none."""
    try:
        return chain.header_by_hash(read.data(read.argument(params, 0), HASH_SIZE)).block_number
    except UnknownBlock:
        return None


def _by_either(chain: EmbeddedChain, params: list[Any]) -> int | None:
    """As ``_by_number`` or ``_by_hash``, whatever the first parameter looks like."""
    named = read.argument(params, 0)
    is_hash = isinstance(named, str) and len(named) == len("0x") + 2 * HASH_SIZE
    return _by_hash(chain, params) if is_hash else _by_number(chain, params)


def _about_a_block(
    find: Callable[[EmbeddedChain, list[Any]], int | None],
    say: Callable[[EmbeddedChain, int, list[Any]], Any],
) -> Method:
    """What ``say`` tells of the block that ``find`` finds; null if there is none."""

    def method(chain: EmbeddedChain, params: list[Any]) -> Any:
        number = find(chain, params)
        return None if number is None else say(chain, number, params)

    return method


def _block(chain: EmbeddedChain, number: int, params: list[Any]) -> Any:
    record = chain.transaction_of(number)
    full = bool(read.argument(params, 1, default=False))
    shown: list[Any] = []
    if record is not None:
        shown = [transaction_json(record, chain.chain_id) if full else to_hex(record.hash)]
    return block_json(chain.header(number), shown)


def _block_transaction(chain: EmbeddedChain, number: int, params: list[Any]) -> Any:
    record = chain.transaction_of(number)
    is_there = record is not None and read.quantity(read.argument(params, 1)) == 0
    return transaction_json(record, chain.chain_id) if record is not None and is_there else None


def _block_count(chain: EmbeddedChain, number: int, _params: list[Any]) -> Any:
    return hex(chain.transaction_of(number) is not None)


def _block_receipts(chain: EmbeddedChain, number: int, _params: list[Any]) -> Any:
    record = chain.transaction_of(number)
    return [] if record is None else [_receipt(chain, record)]


def _find_transaction(chain: EmbeddedChain, params: list[Any]) -> TransactionRecord | None:
    return chain.transaction(read.data(read.argument(params, 0), HASH_SIZE))


def _get_transaction(chain: EmbeddedChain, params: list[Any]) -> Any:
    record = _find_transaction(chain, params)
    return None if record is None else transaction_json(record, chain.chain_id)


def _get_receipt(chain: EmbeddedChain, params: list[Any]) -> Any:
    record = _find_transaction(chain, params)
    return None if record is None else _receipt(chain, record)


def _receipt(chain: EmbeddedChain, record: TransactionRecord) -> Any:
    logs = chain.logs(LogFilter(record.block_number, record.block_number))
    return receipt_json(record, chain.header(record.block_number), logs, chain.chain_id)


def _get_logs(chain: EmbeddedChain, params: list[Any]) -> Any:
    logs = chain.logs(read.log_filter(chain, read.argument(params, 0)))
    times = {number: chain.block_time(number) for number in {log.block_number for log in logs}}
    return [log_json(log, times[log.block_number]) for log in logs]


def _call(chain: EmbeddedChain, params: list[Any]) -> Any:
    block = read.block_number(chain, read.argument(params, 1, "latest"))
    return to_hex(chain.call(read.call_request(read.argument(params, 0)), block))


def _estimate_gas(chain: EmbeddedChain, params: list[Any]) -> Any:
    return hex(chain.estimate_gas(read.call_request(read.argument(params, 0))))


def _send_raw_transaction(chain: EmbeddedChain, params: list[Any]) -> Any:
    return to_hex(chain.send_raw_transaction(read.data(read.argument(params, 0))))


def _get_balance(chain: EmbeddedChain, params: list[Any]) -> Any:
    block = read.block_number(chain, read.argument(params, 1, "latest"))
    return hex(chain.balance(read.address(read.argument(params, 0)), block))


def _get_nonce(chain: EmbeddedChain, params: list[Any]) -> Any:
    block = read.block_number(chain, read.argument(params, 1, "latest"))
    return hex(chain.nonce(read.address(read.argument(params, 0)), block))


def _get_code(chain: EmbeddedChain, params: list[Any]) -> Any:
    block = read.block_number(chain, read.argument(params, 1, "latest"))
    return to_hex(chain.code(read.address(read.argument(params, 0)), block))


def _get_storage(chain: EmbeddedChain, params: list[Any]) -> Any:
    block = read.block_number(chain, read.argument(params, 2, "latest"))
    owner, slot = read.address(read.argument(params, 0)), read.quantity(read.argument(params, 1))
    return to_hex(chain.storage(owner, slot, block).to_bytes(32, "big"))


def _fee_history(chain: EmbeddedChain, params: list[Any]) -> Any:
    """All zeros: gas costs nothing here."""
    asked = read.argument(params, 0)
    blocks = min(asked if isinstance(asked, int) else read.quantity(asked), _FEE_HISTORY_MAX)
    newest = read.block_number(chain, read.argument(params, 1, "latest"))
    newest = chain.block_number if newest is None else min(newest, chain.block_number)
    blocks = max(0, min(blocks, newest + 1))
    percentiles = read.argument(params, 2, [])
    if not isinstance(percentiles, list) or len(percentiles) > _PERCENTILES_MAX:
        raise read.InvalidParams(f"percentiles are a list of at most {_PERCENTILES_MAX}")
    return {
        "oldestBlock": hex(newest - blocks + 1),
        "baseFeePerGas": ["0x0"] * (blocks + 1),
        "gasUsedRatio": [0.0] * blocks,
        "reward": [["0x0"] * len(percentiles)] * blocks,
    }


METHODS: Mapping[str, Method] = {
    "web3_clientVersion": lambda _chain, _params: CLIENT_VERSION,
    "net_version": lambda chain, _params: str(chain.chain_id),
    "net_listening": lambda _chain, _params: True,
    "eth_chainId": lambda chain, _params: hex(chain.chain_id),
    "eth_syncing": lambda _chain, _params: False,
    "eth_blockNumber": lambda chain, _params: hex(chain.block_number),
    "eth_gasPrice": lambda _chain, _params: "0x0",
    "eth_maxPriorityFeePerGas": lambda _chain, _params: "0x0",
    "eth_feeHistory": _fee_history,
    "eth_getBlockByNumber": _about_a_block(_by_number, _block),
    "eth_getBlockByHash": _about_a_block(_by_hash, _block),
    "eth_getBlockTransactionCountByNumber": _about_a_block(_by_number, _block_count),
    "eth_getBlockTransactionCountByHash": _about_a_block(_by_hash, _block_count),
    "eth_getTransactionByBlockNumberAndIndex": _about_a_block(_by_number, _block_transaction),
    "eth_getTransactionByBlockHashAndIndex": _about_a_block(_by_hash, _block_transaction),
    "eth_getBlockReceipts": _about_a_block(_by_either, _block_receipts),
    "eth_getTransactionByHash": _get_transaction,
    "eth_getTransactionReceipt": _get_receipt,
    "eth_getTransactionCount": _get_nonce,
    "eth_getBalance": _get_balance,
    "eth_getCode": _get_code,
    "eth_getStorageAt": _get_storage,
    "eth_getLogs": _get_logs,
    "eth_call": _call,
    "eth_estimateGas": _estimate_gas,
    "eth_sendRawTransaction": _send_raw_transaction,
}

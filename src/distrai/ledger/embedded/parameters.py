"""Reading the parameters of a JSON-RPC call: hex strings in, typed values out, everything bounded."""

from typing import Any

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.evm import GAS_LIMIT
from distrai.ledger.embedded.records import CallRequest, LogFilter, TooManyLogs
from distrai.protocol.primitives import ADDRESS_SIZE, HASH_SIZE, Address

BLOCK_RANGE_MAX = 10_000
"""Blocks that one log query may span."""
_OPTIONS_MAX = 64
"""Alternatives for an address or a topic in one log query."""
_TOPICS_MAX = 4
_WORD_MAX = (1 << 256) - 1
_NEWEST = ("latest", "pending", "safe", "finalized")


class InvalidParams(ValueError):
    """A parameter of a call is missing, of the wrong kind, or out of bounds."""


def argument(params: list[Any], place: int, default: Any = ...) -> Any:
    """The parameter at ``place``; without a default it must be there."""
    if place < len(params) and params[place] is not None:
        return params[place]
    if default is ...:
        raise InvalidParams(f"missing parameter {place + 1}")
    return default


def data(value: Any, size: int | None = None) -> bytes:
    """Bytes from "0x..." hex, of ``size`` bytes if given."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise InvalidParams("bytes are a string of hex digits after 0x")
    try:
        decoded = bytes.fromhex(value[2:])
    except ValueError:
        raise InvalidParams("bytes are a string of hex digits after 0x, two for each byte") from None
    if size is not None and len(decoded) != size:
        raise InvalidParams(f"expected {size} bytes, got {len(decoded)}")
    return decoded


def quantity(value: Any) -> int:
    """A number of at most 256 bits from "0x..." hex."""
    try:
        number = int(value, 16) if isinstance(value, str) and value.startswith("0x") else -1
    except ValueError:
        number = -1
    if not 0 <= number <= _WORD_MAX:
        raise InvalidParams("a quantity is a hex number of at most 256 bits after 0x")
    return number


def address(value: Any) -> Address:
    """An address from hex."""
    return Address(data(value, ADDRESS_SIZE))


def block_number(chain: EmbeddedChain, value: Any) -> int | None:
    """A block parameter: None for the newest, otherwise a number (which need not exist)."""
    if isinstance(value, dict):
        if "blockHash" in value:
            return chain.header_by_hash(data(value["blockHash"], HASH_SIZE)).block_number
        value = argument([value.get("blockNumber")], 0)
    if value in _NEWEST:
        return None
    return 0 if value == "earliest" else quantity(value)


def call_request(value: Any) -> CallRequest:
    """A call object; fields about fees are accepted and mean nothing here."""
    if not isinstance(value, dict):
        raise InvalidParams("a call is an object with to, from, data, value, gas")
    payload = value.get("input", value.get("data"))
    return CallRequest(
        to=None if value.get("to") in (None, "", "0x") else address(value["to"]),
        data=b"" if payload is None else data(payload),
        sender=Address(bytes(ADDRESS_SIZE)) if value.get("from") is None else address(value["from"]),
        value=0 if value.get("value") is None else quantity(value["value"]),
        gas=None if value.get("gas") is None else min(quantity(value["gas"]), GAS_LIMIT),
    )


def log_filter(chain: EmbeddedChain, value: Any) -> LogFilter:
    """A filter object of ``eth_getLogs``."""
    if not isinstance(value, dict):
        raise InvalidParams("a filter is an object with fromBlock, toBlock, address, topics")
    first, last = _range(chain, value)
    topics = value.get("topics") or []
    if not isinstance(topics, list) or len(topics) > _TOPICS_MAX:
        raise InvalidParams(f"topics are a list of at most {_TOPICS_MAX}")
    addresses = tuple(Address(item) for item in _options(value.get("address"), ADDRESS_SIZE))
    return LogFilter(first, last, addresses, tuple(_options(topic, HASH_SIZE) for topic in topics))


def _range(chain: EmbeddedChain, value: dict[str, Any]) -> tuple[int, int]:
    if "blockHash" in value:
        number = chain.header_by_hash(data(value["blockHash"], HASH_SIZE)).block_number
        return number, number
    newest = chain.block_number
    first, last = (block_number(chain, value.get(name) or "latest") for name in ("fromBlock", "toBlock"))
    first = newest if first is None else first
    last = newest if last is None else min(last, newest)
    if last - first >= BLOCK_RANGE_MAX:
        raise TooManyLogs(f"a query spans at most {BLOCK_RANGE_MAX} blocks: ask in parts")
    # SQLite's integers have 64 bits; beyond the newest block there is nothing anyway.
    return min(first, newest + 1), last


def _options(value: Any, size: int) -> tuple[bytes, ...]:
    if value is None:
        return ()
    options = value if isinstance(value, list) else [value]
    if len(options) > _OPTIONS_MAX:
        raise InvalidParams(f"at most {_OPTIONS_MAX} alternatives")
    return tuple(data(option, size) for option in options)

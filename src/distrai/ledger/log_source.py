"""Where an index reads: blocks and logs of a chain, through one or two nodes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from distrai.ledger.errors import BadAnswer, NodeError
from distrai.ledger.money_logs import RawLog, read_log
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.protocol.primitives import Hash

_AT_ONCE = 16
"""Blocks asked for at one time."""


@dataclass(frozen=True)
class Block:
    """A block by number, hash, the hash of the one before, and its time in seconds."""

    number: int
    hash: Hash
    parent: Hash
    time: int


class Source(Protocol):
    """What an index needs of a chain."""

    async def newest(self) -> Block:
        """The newest block."""
        ...

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Those of these blocks that there are."""
        ...

    async def logs(self, queries: Sequence[Mapping[str, Any]], first: int, last: int) -> list[RawLog]:
        """The logs of the blocks ``first`` to ``last`` inclusive that any of these filters wants."""
        ...


class LogSource:
    """A chain's blocks and logs through JSON-RPC."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @classmethod
    async def connect(
        cls, url: str, chain_id: int, second_url: str | None = None, patience: Patience | None = None
    ) -> Self:
        """A source; ``second_url`` is asked where the first does not answer. Raises WrongChain or LedgerUnreachable."""
        rpc = Rpc([url] if second_url is None else [url, second_url], patience or Patience())
        rpc.chain_id = chain_id
        try:
            await rpc.call("eth_blockNumber")
        except BaseException:
            await rpc.close()
            raise
        return cls(rpc)

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    async def newest(self) -> Block:
        """The newest block."""
        if (block := await self._block("latest")) is None:
            raise BadAnswer("the node has no newest block")
        return block

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Those of these blocks that there are."""
        found: list[Block | None] = []
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            found += await asyncio.gather(*(self._block(hex(number)) for number in some))
        return [block for block in found if block is not None]

    async def logs(self, queries: Sequence[Mapping[str, Any]], first: int, last: int) -> list[RawLog]:
        """The logs of the blocks ``first`` to ``last`` inclusive that any of these filters wants, in order."""
        answers = await asyncio.gather(*(self._logs(query, first, last) for query in queries))
        found = [log for answer in answers for item in answer if (log := read_log(item)) is not None]
        each = {log.at: log for log in found}  # a transfer between two contracts is found twice
        return [each[at] for at in sorted(each)]

    async def _logs(self, query: Mapping[str, Any], first: int, last: int) -> list[Any]:
        """Logs of a range, in halves where the node finds it too much for one answer."""
        try:
            asked = {**query, "fromBlock": hex(first), "toBlock": hex(last)}
            found = await self._rpc.call("eth_getLogs", asked)
        except NodeError:
            if first == last:
                raise
            middle = (first + last) // 2
            return await self._logs(query, first, middle) + await self._logs(query, middle + 1, last)
        if not isinstance(found, list):
            raise BadAnswer("the node gives logs that are no list")
        return found

    async def _block(self, which: str) -> Block | None:
        block = await self._rpc.call("eth_getBlockByNumber", which, False)
        if block is None:
            return None
        if not isinstance(block, dict):
            raise BadAnswer("the node gives a block that is no object")
        hashes = Hash(read_bytes(block.get("hash"))), Hash(read_bytes(block.get("parentHash")))
        return Block(read_quantity(block.get("number")), *hashes, read_quantity(block.get("timestamp")))

"""Reading one ``RunRegistry`` on one chain through JSON-RPC."""

import asyncio
from functools import cache
from typing import Any

from distrai.ledger.abi import Artifact, load_artifact
from distrai.ledger.errors import BadAnswer, LedgerRefused, NodeError
from distrai.ledger.events import parse_logs, topics
from distrai.ledger.interface import BlockMark, Limits, MemberState, RollCallState, RunState
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.ledger.sender import Sender
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.typed_data import Domain

LOG_BLOCKS_MAX = 2_000
"""Blocks in one log query: what public nodes allow."""
_AT_ONCE = 16
"""Blocks asked for at one time."""
_NOBODY = bytes(20)


@cache
def registry_artifact() -> Artifact:
    """The compiled ``RunRegistry``, read once."""
    return load_artifact("RunRegistry")


class LedgerReader:
    """A registry on a chain. Needs no key."""

    def __init__(self, rpc: Rpc, domain: Domain, patience: Patience) -> None:
        self._rpc, self.domain = rpc, domain
        self._abi = registry_artifact().abi
        self._sender = Sender(rpc, self._abi, patience.call_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    # Reading

    async def block_number(self) -> int:
        """The number of the newest block."""
        return read_quantity(await self._rpc.call("eth_blockNumber"))

    async def newest_block(self) -> BlockMark:
        """The newest block."""
        mark = await self._mark("latest")
        if mark is None:
            raise BadAnswer("the node has no newest block")
        return mark

    async def block_marks(self, first: int, last: int) -> list[BlockMark]:
        """The blocks ``first`` to ``last`` inclusive that the node has."""
        found: list[BlockMark | None] = []
        for start in range(first, last + 1, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, last + 1))
            found += await asyncio.gather(*(self._mark(hex(number)) for number in numbers))
        return [mark for mark in found if mark is not None]

    async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
        """The run's events in the blocks ``first`` to ``last`` inclusive, in order.

        A KeyChanged comes for every member of the registry: whom it does not concern ignores it.
        """
        events: list[LedgerEvent] = []
        for start in range(first, last + 1, LOG_BLOCKS_MAX):
            end = min(start + LOG_BLOCKS_MAX - 1, last)
            queries = [self._logs(start, end, wanted) for wanted in topics(self._abi, run)]
            logs = [log for found in await asyncio.gather(*queries) for log in found]
            events += parse_logs(self._abi, self.domain, logs)
        return events

    async def run_state(self, run: int) -> RunState:
        """Where a run stands. Raises LedgerRefused for one that was never opened."""
        (said,) = await self._view("runOf", run)
        if said[0] == _NOBODY:
            raise LedgerRefused("UnknownRun", (run,))
        return RunState(*said)

    async def limits(self, run: int) -> Limits:
        """The limits of a run."""
        (said,) = await self._view("limitsOf", run)
        min_seats, max_seats, stall, round_min, epoch, numerator, denominator, is_open = said
        return Limits(min_seats, max_seats, stall, round_min, (numerator, denominator), epoch, is_open)

    async def roll_call(self, run: int) -> RollCallState:
        """The roll call of a run."""
        (said,) = await self._view("rollCallOf", run)
        return RollCallState(*said)

    async def member(self, member: MemberId) -> MemberState:
        """The attributes of a member. Raises LedgerRefused for one that does not exist."""
        (said,) = await self._view("memberOf", member)
        if said[1] == _NOBODY:
            raise LedgerRefused("UnknownMember", (member,))
        return MemberState(*said)

    async def member_of_key(self, key: Address) -> MemberId | None:
        """Whose key this is or was; None for one that was never registered."""
        (member,) = await self._view("memberOfKey", key)
        return None if member == ZERO_HASH else MemberId(member)

    async def seat_key(self, run: int, member: MemberId) -> Address | None:
        """The key with which a member attests; None if it holds no seat."""
        (key,) = await self._view("seatKey", run, member)
        return None if key == _NOBODY else Address(key)

    # Below

    async def _view(self, function: str, *arguments: object) -> tuple[Any, ...]:
        data = await self._sender.call(self.domain.registry, self._abi.call_data(function, arguments))
        return self._abi.decode_result(function, data)

    async def _mark(self, which: str) -> BlockMark | None:
        block = await self._rpc.call("eth_getBlockByNumber", which, False)
        if block is None:
            return None
        if not isinstance(block, dict):
            raise BadAnswer("the node gives a block that is no object")
        number = read_quantity(block.get("number"))
        return BlockMark(
            number, Hash(read_bytes(block.get("hash"))), Hash(read_bytes(block.get("parentHash")))
        )

    async def _logs(self, first: int, last: int, wanted: list[Any]) -> list[Any]:
        """Logs of a range, in halves where the node finds it too much for one answer."""
        query = {
            "address": _hex(self.domain.registry),
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": wanted,
        }
        try:
            found = await self._rpc.call("eth_getLogs", query)
        except NodeError:
            if first == last:
                raise
            middle = (first + last) // 2
            return await self._logs(first, middle, wanted) + await self._logs(middle + 1, last, wanted)
        if not isinstance(found, list):
            raise BadAnswer("the node gives logs that are no list")
        return found


def _hex(data: bytes) -> str:
    return "0x" + data.hex()

"""Reading one ``RunRegistry`` on one chain through JSON-RPC."""

import asyncio
from typing import Any

from distrai.ledger.abi import Artifact, all_errors, load_artifact
from distrai.ledger.errors import BadAnswer, LedgerRefused, NodeError
from distrai.ledger.events import parse_deactivations, parse_logs, stake_topics, topics
from distrai.ledger.interface import BlockMark, Limits, Membership, MemberState, RollCallState, RunState
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.ledger.sender import Sender
from distrai.protocol.body import Body
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.primitives import SIGNATURE_SIZE, ZERO_HASH, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.typed_data import Domain

LOG_BLOCKS_MAX = 2_000
"""Blocks in one log query: what public nodes allow."""
_AT_ONCE = 16
"""Blocks asked for at one time."""
_NOBODY = bytes(20)
_STARTED, _JOINED = 2, 1
"""Numbers of ``RunState.Started`` and ``Part.Joined`` in the contract."""


def registry_artifact() -> Artifact:
    """The compiled ``RunRegistry``."""
    return load_artifact("RunRegistry")


class LedgerReader:
    """A registry on a chain. Needs no key."""

    def __init__(self, rpc: Rpc, domain: Domain, patience: Patience) -> None:
        self._rpc, self.domain = rpc, domain
        self._abi = registry_artifact().abi
        self._stakes: Address | None = None
        self._sender = Sender(rpc, all_errors(), patience.call_s, patience.spend_wei)

    def watch_stakes(self, stakes: Address | None) -> None:
        """Give ``Deactivated`` among a run's events, from the stake manager that the run asks for."""
        self._stakes = stakes

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

        A KeyChanged comes for every member of the registry: whom it does not concern ignores it. A Deactivated comes
        where stakes are watched.
        """
        events: list[LedgerEvent] = []
        for start in range(first, last + 1, LOG_BLOCKS_MAX):
            end = min(start + LOG_BLOCKS_MAX - 1, last)
            queries = [
                self._logs(self.domain.registry, start, end, wanted) for wanted in topics(self._abi, run)
            ]
            *found, deactivated = await asyncio.gather(*queries, self._deactivated(run, start, end))
            events += parse_logs(self._abi, self.domain, [log for logs in found for log in logs])
            events += deactivated
        return sorted(events, key=lambda event: event.at)

    async def _deactivated(self, run: int, first: int, last: int) -> list[LedgerEvent]:
        if self._stakes is None:
            return []
        abi = load_artifact("StakeManager").abi
        logs = await self._logs(self._stakes, first, last, stake_topics(abi, run))
        return parse_deactivations(abi, self._stakes, logs)

    async def run_count(self, block: int | None = None) -> int:
        """How many runs there are (were, after a block); the newest has this number."""
        return int((await self._view("runCount", block=block))[0])

    async def run_state(self, run: int, block: int | None = None) -> RunState:
        """Where a run stands (stood, after a block). Raises LedgerRefused for one that was never opened."""
        (said,) = await self._view("getRun", run, block=block)
        head, state_root, beacon, progress, limits, owner, recipe_hash, _parent = said
        number, head_at, seats, epoch_seats, epoch_rounds_left, state = progress
        return RunState(
            owner=owner,
            recipe_hash=recipe_hash,
            started=state == _STARTED,
            round=number,
            seats=seats,
            head=head,
            head_at=head_at,
            state_root=state_root,
            beacon=beacon,
            epoch_seats=epoch_seats,
            epoch_rounds_left=epoch_rounds_left,
            limits=_limits(*limits),
        )

    async def roll_call(self, run: int) -> RollCallState:
        """The newest roll call of a run."""
        call, needed, closable_at = await self._view("rollCall", run)
        number, round_number, closes_at, failures, checked_in = call
        return RollCallState(number, round_number, closes_at, closable_at, failures, checked_in, needed)

    async def member(self, member: MemberId) -> MemberState:
        """The attributes of a member. Raises LedgerRefused for one that does not exist."""
        (said,) = await self._view("getMember", member)
        state = MemberState(*said)
        if state.controller == _NOBODY:
            raise LedgerRefused("UnknownMember", (member,))
        return state

    async def membership(self, run: int, member: MemberId, block: int | None = None) -> Membership:
        """A member's part in a run (after a block); neither joined nor seated if it has none."""
        ((seat_key, part, checked_in),) = await self._view("membership", run, member, block=block)
        return Membership(None if seat_key == _NOBODY else Address(seat_key), part == _JOINED, checked_in)

    async def member_of_key(self, key: Address) -> MemberId | None:
        """Whose key this is or was; None for one that was never registered."""
        member, _since, _until = await self._view("keyRecord", key)
        return None if member == ZERO_HASH else MemberId(member)

    async def stakes_of(self, run: int) -> Address | None:
        """The stake manager that decides who may join a run; None if the run asks for no stake."""
        (stakes,) = await self._view("stakesOf", run)
        return None if stakes == _NOBODY else Address(stakes)

    async def attestations(self, body: Body, at: Position) -> tuple[SignatureBytes, ...]:
        """The signatures with which a certificate landed: they ride in its transaction and are part of no hash.

        ``at`` is where its event stands. Raises BadAnswer if the node does not have that transaction.
        """
        topic = _hex(self._abi.topic("Certified"))
        query = {"address": _hex(self.domain.registry), "blockHash": _hex(at.block_hash), "topics": [topic]}
        logs = await self._rpc.call("eth_getLogs", query)
        for log in logs if isinstance(logs, list) else ():
            if read_quantity(log.get("logIndex")) == at.log_index:
                found = await self._rpc.call("eth_getTransactionByHash", log.get("transactionHash"))
                return self._attestations(found.get("input") if isinstance(found, dict) else None, body)
        raise BadAnswer(f"the node has no certificate at log {at.log_index} of block {at.block_number}")

    # Below

    async def _view(self, function: str, *arguments: object, block: int | None = None) -> tuple[Any, ...]:
        data = await self._sender.call(self.domain.registry, self._abi.call_data(function, arguments), block)
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

    def _attestations(self, data: Any, body: Body) -> tuple[SignatureBytes, ...]:
        arguments = self._abi.decode_call("certify", read_bytes(data))
        if arguments is None or arguments[0] != body_values(body):
            raise BadAnswer(f"the transaction of round {body.round}'s certificate certifies something else")
        packed = arguments[1]
        cuts = range(0, len(packed), SIGNATURE_SIZE)
        return tuple(SignatureBytes(packed[cut : cut + SIGNATURE_SIZE]) for cut in cuts)

    async def _logs(self, address: Address, first: int, last: int, wanted: list[Any]) -> list[Any]:
        """Logs of a range, in halves where the node finds it too much for one answer."""
        query = {
            "address": _hex(address),
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
            lower = await self._logs(address, first, middle, wanted)
            return lower + await self._logs(address, middle + 1, last, wanted)
        if not isinstance(found, list):
            raise BadAnswer("the node gives logs that are no list")
        return found


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _limits(
    least: int, most: int, stall: int, numerator: int, denominator: int, epoch_rounds: int, is_open: bool
) -> Limits:
    return Limits(least, most, stall, (numerator, denominator), epoch_rounds, is_open)


def body_values(body: Body) -> tuple[object, ...]:
    """A body as the contract's ABI writes it."""
    promotions = tuple((item.member, item.key) for item in body.promotions)
    roots = (body.updates_root, body.state_root, body.trainers_root)
    return (body.run, body.round, body.previous_head, *roots, promotions, body.drops)

"""A chain of blocks with logs of money, that grows, is replaced and falls silent, for an index that reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth_abi.abi import encode

from distrai.ledger.abi import load_artifact
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.log_source import Block
from distrai.ledger.money_logs import MoneyLogs, RawLog
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.primitives import Address, Hash

CHAIN_ID = 77
REGISTRY, TOKEN, STAKES, REWARDS, RECORDS = (Address(bytes([number]) * 20) for number in range(1, 6))


def deployment(block: int = 0) -> Deployment:
    """Contracts at made-up addresses."""
    return Deployment(CHAIN_ID, REGISTRY, TOKEN, STAKES, REWARDS, RECORDS, 18, block)


def log_of(contract: str, address: Address, event: str, **arguments: object) -> RawLog:
    """A log of an event, without a place."""
    abi = load_artifact(contract).abi
    entry = abi.events[abi.topic(event)]
    topics, kinds, plain = [entry.id], [], []
    for name, kind, indexed in zip(entry.names, entry.inputs, entry.indexed, strict=True):
        if indexed:
            topics.append(encode([kind], [arguments[name]]))
        else:
            kinds.append(kind)
            plain.append(arguments[name])
    nowhere = Position(0, 0, Hash(bytes(32)))
    return RawLog(nowhere, address, tuple(topics), encode(kinds, plain), Hash(bytes(32)))


@dataclass
class LogChain:
    """Blocks, each with the logs that it holds; ``branch`` makes the hashes of replaced ones differ.

    ``moves`` are called before the answers to the next calls, ``visible`` is the newest block that the node has seen.
    """

    blocks: list[Block] = field(default_factory=list)
    held: list[list[RawLog]] = field(default_factory=list)
    branch: int = 0
    visible: int | None = None
    moves: list[Callable[[], None] | None] = field(default_factory=list)
    calls: int = 0
    says_times: bool = False

    def __post_init__(self) -> None:
        if not self.blocks:
            self.grow([[]])

    def grow(self, contents: Sequence[Sequence[RawLog]]) -> None:
        """Add a block for each of these."""
        for logs in contents:
            number = len(self.blocks)
            parent = self.blocks[-1].hash if number else Hash(bytes(32))
            own = keccak(b"%d %d" % (number, self.branch) + parent)
            self.blocks.append(Block(number, own, parent, 1_000 + 3 * number + self.branch))
            placed = [
                replace(log, at=Position(number, index, own), transaction=keccak(own + bytes([index])))
                for index, log in enumerate(logs)
            ]
            self.held.append(placed)

    def reorg(self, depth: int, contents: Sequence[Sequence[RawLog]]) -> None:
        """Replace the last ``depth`` blocks, the first one excepted, by these."""
        kept = max(1, len(self.blocks) - depth)
        del self.blocks[kept:], self.held[kept:]
        self.branch += 1
        self.grow(contents)

    def events(self, contracts: Deployment) -> list[LedgerEvent]:
        """What the chain as it is now tells, decoded here and kept nowhere."""
        logs = MoneyLogs(contracts)
        shown = zip(self.blocks[contracts.block :], self.held[contracts.block :], strict=True)
        found = [logs.decode(log, block.time) for block, held in shown for log in held]
        return [told.event for told in found if told is not None]

    # What an index asks

    async def newest(self) -> Block:
        self._answer()
        return self.blocks[self._newest]

    async def blocks_of(self, numbers: Sequence[int]) -> list[Block]:
        self._answer()
        return [self.blocks[number] for number in numbers if number <= self._newest]

    async def logs(self, queries: Sequence[Mapping[str, Any]], first: int, last: int) -> list[RawLog]:
        assert len(queries) == 3
        self._answer()
        found = [log for held in self.held[first : min(last, self._newest) + 1] for log in held]
        if self.says_times:
            return [replace(log, time=self.blocks[log.at.block_number].time) for log in found]
        return found

    @property
    def _newest(self) -> int:
        return len(self.blocks) - 1 if self.visible is None else min(self.visible, len(self.blocks) - 1)

    def _answer(self) -> None:
        self.calls += 1
        move = self.moves.pop(0) if self.moves else None
        if move is not None:
            move()


@dataclass
class Asked:
    """The chain as a ``Source``."""

    chain: LogChain

    async def newest(self) -> Block:
        return await self.chain.newest()

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        return await self.chain.blocks_of(numbers)

    async def logs(self, queries: Sequence[Mapping[str, Any]], first: int, last: int) -> list[RawLog]:
        return await self.chain.logs(queries, first, last)


def fail() -> None:
    """The node does not answer this time."""
    raise LedgerUnreachable("down")

"""The index: what a deployment's contracts told, kept in a SQLite file that follows the chain through reorgs.

It holds the hashes of the last 64 blocks. Where they differ from the chain's, the rows behind the last block that both
have are dropped and read anew; a reorg that is deeper drops everything. Whoever decides something that cannot be taken
back reads with a finality depth.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import BadAnswer, LedgerUnreachable
from distrai.ledger.index_store import IndexStore, Reach, Row, WrongIndex
from distrai.ledger.log_source import Block, LogSource, Source
from distrai.ledger.money_logs import MoneyLogs, TokenMoved, deactivation
from distrai.protocol.ledger_events import LedgerEvent, Position

__all__ = ["LedgerIndex", "LogSource", "TokenMoved", "WrongIndex", "deactivation"]

TRAIL_BLOCKS = 64
STEP_BLOCKS = 2_000
"""Blocks in one log query: what public nodes allow."""
_TRIES = 8
"""How often a sync begins anew where the chain moved while it was read."""
_KEPT_MAX = 65_536
_log = logging.getLogger(__name__)


class LedgerIndex:
    """Events of registry, distributor, stake manager, records and token, in the order of the ledger."""

    def __init__(self, store: IndexStore, logs: MoneyLogs) -> None:
        self._store, self._logs = store, logs
        self._decoded: dict[Position, LedgerEvent] = {}

    @classmethod
    def open(cls, path: Path, deployment: Deployment) -> Self:
        """Open or begin an index of the contracts of a deployment, from its ``block`` on. Raises WrongIndex."""
        money = (deployment.token, deployment.rewards, deployment.stakes, deployment.records)
        addresses = (deployment.registry, *money)
        named = ",".join([str(deployment.chain_id), *(address.hex() for address in addresses)])
        return cls(IndexStore(path, f"{named},{deployment.block}", deployment.block), MoneyLogs(deployment))

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    # Reading

    @property
    def newest_block(self) -> int:
        """The newest block that is read and that the node still had when it was last asked; -1 before the first."""
        reach = self._store.reach
        return min(reach.next_block - 1, reach.tip)

    @property
    def version(self) -> int:
        """A number that changes whenever the index does: whoever has seen it has seen all."""
        return self._store.reach.version

    def block_time(self, block: int) -> int | None:
        """The time of a block in seconds; None unless an event is in it or it is one of the last."""
        return self._store.time_of(block)

    def events(
        self,
        kinds: Iterable[type[LedgerEvent]] | None = None,
        run: int | None = None,
        finality: int = 0,
        since_block: int = 0,
    ) -> list[LedgerEvent]:
        """Events in the order of the ledger: of these classes, about this run, from ``since_block`` on.

        ``finality``: only those of blocks on which at least so many others stand. With ``run``, KeyChanged comes for
        every member of the registry, and TokenMoved, which is about no run, does not come.
        """
        names = None if kinds is None else [kind.__name__ for kind in kinds]
        rows = self._store.rows(names, run, since_block, self.newest_block - finality)
        return [self._event(row) for row in rows]

    def _event(self, row: Row) -> LedgerEvent:
        if (event := self._decoded.get(row.log.at)) is not None:
            return event
        told = self._logs.decode(row.log, row.time)
        assert told is not None, "only what tells something is kept"
        if len(self._decoded) >= _KEPT_MAX:
            self._decoded.clear()
        self._decoded[row.log.at] = told.event
        return told.event

    # Following the chain

    async def sync(self, source: Source) -> bool:
        """Read on to the chain's newest block, dropping what a reorg took back; gives whether anything changed.

        Every range is written whole or not at all, so it may be ended at any point. Raises LedgerUnreachable,
        BadAnswer or another LedgerError; what was read until then stays.
        """
        before = self._store.reach.version
        for _ in range(_TRIES):
            newest = await source.newest()
            while (outcome := await self._read_on(source, newest)) is True:
                pass
            if outcome is None:
                return self._store.reach.version != before
        raise LedgerUnreachable(
            "the chain moves too fast for its node: its blocks and logs do not fit together"
        )

    async def _read_on(self, source: Source, newest: Block) -> bool | None:
        """Take one step: True if there may be another, None at the newest block, False if the chain moved meanwhile."""
        reach, trail = self._store.reach, self._store.trail()
        if not await _is_on(source, newest, trail):
            self._go_back(reach, await _last_common(source, newest, trail))
            return False
        if newest.number < reach.next_block:
            done = reach.tip == newest.number or self._store.set_tip(reach, newest.number)
            return None if done else False
        first, last = reach.next_block, min(newest.number, reach.next_block + STEP_BLOCKS - 1)
        blocks = await source.blocks(range(max(first, last - TRAIL_BLOCKS + 1), last + 1))
        if not _fits(trail, blocks, last):
            return False
        rows = await self._rows(source, first, last, blocks)
        # The answers may be of different nodes or moments: they count if both ends are still the same.
        ends = [*trail[-1:], blocks[-1]]
        if rows is None or await source.blocks([block.number for block in ends]) != ends:
            return False
        if not self._store.extend(reach, rows, blocks, newest.number, TRAIL_BLOCKS):
            return False
        return True if last < newest.number else None

    def _go_back(self, reach: Reach, common: Block | None) -> None:
        number = None if common is None else common.number
        _log.warning(
            "the ledger was reorganised: reading anew from %s",
            "the beginning" if number is None else number + 1,
        )
        self._decoded.clear()
        self._store.back_to(reach, number)

    async def _rows(self, source: Source, first: int, last: int, blocks: Sequence[Block]) -> list[Row] | None:
        """What the logs of these blocks tell; None where they are of other blocks."""
        logs = await source.logs(self._logs.queries, first, last)
        if any(not first <= log.at.block_number <= last for log in logs):
            raise BadAnswer("the node gives logs of other blocks than was asked for")
        known = {block.number: block for block in blocks}
        without = {log.at.block_number for log in logs if log.time is None} - known.keys()
        known |= {block.number: block for block in await source.blocks(sorted(without))}
        rows = []
        for log in logs:
            block = known.get(log.at.block_number)
            if (block is None and log.time is None) or (block and block.hash != log.at.block_hash):
                return None
            time = block.time if block is not None else log.time
            assert time is not None
            if (told := self._logs.decode(log, time)) is not None:
                rows.append(Row(log, told.kind, told.run, told.record, time))
        return rows


def _fits(trail: Sequence[Block], blocks: Sequence[Block], last: int) -> bool:
    """Whether these are blocks in a row up to ``last`` that go on from the trail, where they touch it."""
    if not blocks or blocks[-1].number != last:
        return False
    touching = [*trail[-1:], *blocks] if trail and trail[-1].number + 1 == blocks[0].number else blocks
    return all(two.number == one.number + 1 and two.parent == one.hash for one, two in pairwise(touching))


async def _is_on(source: Source, newest: Block, trail: Sequence[Block]) -> bool:
    """Whether the trail is still on the chain, as far as the node has it. A node that lags behind is no reorg."""
    if not trail:
        return True
    last, first = trail[-1], trail[0]
    if newest.number < first.number:
        return False  # nothing can be compared: what was read may be of another chain
    if newest.number <= last.number:
        return newest == trail[newest.number - first.number]
    if newest.number == last.number + 1:
        return newest.parent == last.hash
    return await source.blocks([last.number]) == [last]


async def _last_common(source: Source, newest: Block, trail: Sequence[Block]) -> Block | None:
    """The last block of the trail that is still on the chain."""
    wanted = [block for block in trail if block.number <= newest.number]
    found = {block.number: block for block in await source.blocks([block.number for block in wanted])}
    return next((block for block in reversed(wanted) if found.get(block.number) == block), None)

"""Following a run's events from a cursor, noticing when blocks they came from are gone.

A cursor holds the last 64 blocks by hash: enough to find where a reorganised chain still agrees.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from distrai.ledger.errors import LedgerUnreachable, Reorganised
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.primitives import Hash

TRAIL_BLOCKS = 64
_STEP_BLOCKS = 2_000
"""Blocks read in one step while catching up."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockMark:
    """A block by number, hash and the hash of the one before."""

    number: int
    hash: Hash
    parent: Hash


@dataclass(frozen=True)
class Cursor:
    """Everything before ``next_block`` has been read; ``trail`` are the last blocks of that, oldest first."""

    next_block: int
    trail: tuple[BlockMark, ...] = ()

    def back_to(self, block: int) -> "Cursor":
        """The cursor after ``block``, which is what follows a Reorganised(to_block)."""
        kept = tuple(mark for mark in self.trail if mark.number <= block)
        return replace(self, next_block=min(self.next_block, block + 1), trail=kept)


@dataclass(frozen=True)
class Batch:
    """Events in ledger order, and the cursor behind them. ``caught_up``: they reach the node's newest block."""

    events: tuple[LedgerEvent, ...]
    cursor: Cursor
    caught_up: bool


class Reader(Protocol):
    """What following needs of a ledger."""

    async def newest_block(self) -> BlockMark:
        """The newest block."""
        ...

    async def block_marks(self, first: int, last: int) -> list[BlockMark]:
        """The blocks ``first`` to ``last`` inclusive that the node has."""
        ...

    async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
        """The run's events in the blocks ``first`` to ``last`` inclusive, in order."""
        ...


async def follow(
    ledger: Reader,
    run: int,
    cursor: Cursor,
    poll_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Batch]:
    """Yield batches with events, and one without when history is read and held none. Ends with Reorganised only.

    While the ledger does not answer it keeps asking: rounds wait, nothing is lost. Polls are spread by jitter.
    """
    told, out_of_reach = False, False
    while True:
        try:
            batch = await read_on(ledger, run, cursor)
        except LedgerUnreachable as error:
            if not out_of_reach:
                _log.warning("waiting for the ledger: %s", error)
            out_of_reach, batch = True, None
        else:
            out_of_reach = False
        if batch is not None:
            cursor = batch.cursor
            if batch.events or (batch.caught_up and not told):
                told = told or batch.caught_up
                yield batch
            if not batch.caught_up:
                continue
        await sleep(poll_s * (0.75 + random.random() / 2))  # noqa: S311


async def read_on(ledger: Reader, run: int, cursor: Cursor) -> Batch | None:
    """The next batch after ``cursor``; None if there is nothing new, or the chain moved while it was read.

    Raises Reorganised if the blocks of the cursor are not on the chain any more.
    """
    newest = await ledger.newest_block()
    if newest.number < cursor.next_block:
        # A node that lags behind is no reorg: only another block in an old one's place is.
        await _check_trail(ledger, cursor.back_to(newest.number).trail, newest)
        return None
    first, last = cursor.next_block, min(newest.number, cursor.next_block + _STEP_BLOCKS - 1)
    is_next = first == newest.number
    marks = [newest] if is_next else await ledger.block_marks(max(first, last - TRAIL_BLOCKS + 1), last)
    if not marks or not _is_chain(marks) or marks[-1].number != last:
        return None
    if marks[0].number > first:
        await _check_trail(ledger, cursor.trail)
    elif cursor.trail and marks[0].parent != cursor.trail[-1].hash:
        await _check_trail(ledger, cursor.trail)
        return None
    events = await ledger.events(run, first, last)
    hashes = {mark.number: mark.hash for mark in marks}
    if any(hashes.get(event.at.block_number, event.at.block_hash) != event.at.block_hash for event in events):
        return None
    trail = (*cursor.trail, *marks)[-TRAIL_BLOCKS:]
    return Batch(tuple(events), Cursor(last + 1, trail), caught_up=last == newest.number)


def _is_chain(marks: list[BlockMark]) -> bool:
    return all(later.parent == earlier.hash for earlier, later in pairwise(marks))


async def _check_trail(ledger: Reader, trail: tuple[BlockMark, ...], newest: BlockMark | None = None) -> None:
    """Raise Reorganised unless the last block of ``trail`` is still on the chain; older ones show how far back.

    ``newest`` is a block of the chain as it is now, known already.
    """
    for mark in reversed(trail):
        found = (
            newest
            if newest is not None and newest.number == mark.number
            else await _mark(ledger, mark.number)
        )
        if found is not None and found.hash == mark.hash:
            if mark is trail[-1]:
                return
            raise Reorganised(mark.number)
    if trail:
        raise Reorganised(max(0, trail[0].number - 1))


async def _mark(ledger: Reader, number: int) -> BlockMark | None:
    found = await ledger.block_marks(number, number)
    return found[0] if found else None

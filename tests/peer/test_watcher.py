"""A reorg as the engine is told of it: once, and nothing more before it has said from where on to go."""

import asyncio
from types import SimpleNamespace
from typing import Any

from distrai.peer.events import Event, LedgerChanged, LedgerRewound
from distrai.peer.feed import LedgerFeed
from distrai.peer.watcher import LedgerWatcher
from helpers.chains import RUN, FakeLedger

WAIT_S = 60.0


class Watched:
    """A watcher at work, and what it posts."""

    def __init__(self, ledger: FakeLedger) -> None:
        self.posted: asyncio.Queue[Event] = asyncio.Queue()
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        store: Any = SimpleNamespace(archive=False)
        telemetry: Any = SimpleNamespace(emit=lambda *_, **__: None)
        feed = LedgerFeed(ledger, RUN)
        self.watcher = LedgerWatcher(
            ledger,  # type: ignore[arg-type]
            feed,
            store,
            telemetry,
            self.posted.put,
            self._is_busy,
        )

    def _is_busy(self) -> bool:
        self.looks.put_nowait(None)  # asked before each look
        return True

    async def look(self, times: int) -> None:
        """Have it look so often."""
        while not self.looks.empty():
            self.looks.get_nowait()
        for _ in range(times):
            self.watcher.look.set()
            await asyncio.wait_for(self.looks.get(), WAIT_S)

    async def next(self) -> Event:
        self.watcher.look.set()
        return await asyncio.wait_for(self.posted.get(), WAIT_S)


async def test_a_reorg_is_told_once_and_then_nothing_before_the_engine_says_where_to_go_on() -> None:
    ledger = FakeLedger([0] * 7)
    watched = Watched(ledger)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.watcher.follow())
        told = await watched.next()
        assert told == LedgerChanged(tuple(ledger.all_events()))
        ledger.branches = [0] * 5 + [1] * 6
        assert await watched.next() == LedgerRewound(4)
        calls = ledger.calls
        await watched.look(4)
        assert watched.posted.empty() and ledger.calls == calls
        watched.watcher.follow_from(ledger.event(2).at)
        assert await watched.next() == LedgerChanged(tuple(ledger.all_events(first=4)))
        ledger.fails = 2  # what the ledger does not answer is told later
        ledger.branches += [1, 1]
        assert await watched.next() == LedgerChanged((ledger.event(12),))
        following.cancel()

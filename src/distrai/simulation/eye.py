"""How a simulated peer sees the ledger: through the real feed, as ``watcher.py`` does."""

from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any, TypeVar

from distrai.ledger.errors import LedgerUnreachable, Reorganised
from distrai.peer.events import Event, LedgerChanged, LedgerRewound
from distrai.peer.feed import LedgerFeed
from distrai.protocol.ledger_events import Position
from distrai.simulation.toy import RUN
from distrai.simulation.world import World

T = TypeVar("T")


def completed(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


class Eye:
    """One peer's view: its node, and how far it has read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node = world.ledger.node()
        self.feed = LedgerFeed(self.node, RUN)
        self.is_lost = False
        """The chain went back, and the engine has not said yet from where on to follow it."""

    def look(self, random: Random) -> Iterator[Event]:
        """What is new: events, or that blocks are gone. After that nothing until ``follow_from``."""
        if self.is_lost:
            return
        lag = self.world.scenario.ledger.lag_blocks
        self.node.lag = random.randint(0, lag) if lag and self.world.faulty else 0
        try:
            events = completed(self.feed.next())
        except LedgerUnreachable:
            return
        except Reorganised as reorg:
            self.is_lost = True
            yield LedgerRewound(reorg.to_block)
            return
        if events:
            yield LedgerChanged(tuple(events))

    def follow_from(self, after: Position | None) -> None:
        """Read the ledger again after this position."""
        self.feed.restart(after)
        self.is_lost = False

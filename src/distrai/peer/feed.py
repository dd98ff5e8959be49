"""The ledger's events from a position on, each given once."""

from distrai.ledger.follower import Cursor, Reader, read_on
from distrai.protocol.ledger_events import LedgerEvent, Position


class LedgerFeed:
    """Reads on from where it stands whenever it is asked."""

    def __init__(self, ledger: Reader, run: int, after: Position | None = None) -> None:
        """``after`` is the position of the last event that is known already."""
        self.ledger, self.run, self.after = ledger, run, after
        self.cursor = Cursor(0 if after is None else after.block_number)

    async def next(self) -> list[LedgerEvent]:
        """What is new. Raises LedgerUnreachable, or Reorganised."""
        found: list[LedgerEvent] = []
        while True:
            batch = await read_on(self.ledger, self.run, self.cursor)
            if batch is None:
                return found
            self.cursor = batch.cursor
            found += [event for event in batch.events if self.after is None or event.at > self.after]
            if batch.caught_up:
                return found

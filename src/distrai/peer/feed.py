"""The ledger's events from a position on, each given once."""

from distrai.ledger.errors import Reorganised
from distrai.ledger.follower import Cursor, Reader, read_on
from distrai.protocol.ledger_events import LedgerEvent, Position


class LedgerFeed:
    """Reads on from where it stands whenever it is asked."""

    def __init__(self, ledger: Reader, run: int, after: Position | None = None) -> None:
        """``after`` is the position of the last event that is known already."""
        self.ledger, self.run = ledger, run
        self.restart(after)

    def restart(self, after: Position | None) -> None:
        """Go on after another position: the one that an engine went back to."""
        self.after = after
        self.cursor = Cursor(0 if after is None else after.block_number)
        self._is_sure = after is None
        self._read: list[LedgerEvent] = []
        """Events that were read and not given yet: the ledger may fall silent in the middle of a long history."""

    async def next(self) -> list[LedgerEvent]:
        """What is new. Raises LedgerUnreachable, or Reorganised."""
        if not self._is_sure and not await self._is_there():
            return []
        while batch := await read_on(self.ledger, self.run, self.cursor):
            self.cursor = batch.cursor
            self._read += [event for event in batch.events if self.after is None or event.at > self.after]
            if batch.caught_up:
                break
        found, self._read = self._read, []
        return found

    async def _is_there(self) -> bool:
        """Whether the chain still has the block of ``after``: it may be from before a restart. Raises Reorganised."""
        assert self.after is not None
        number = self.after.block_number
        marks = await self.ledger.block_marks(number, number)
        if not marks:
            return False  # a node that lags behind: what it has not seen yet it cannot have given up
        if marks[0].hash != self.after.block_hash:
            raise Reorganised(number - 1)
        self._is_sure = True
        return True

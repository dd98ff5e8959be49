"""A chain that grows, lags, is replaced and falls silent, for whatever follows one."""

from dataclasses import dataclass, field

from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.follower import BlockMark
from distrai.protocol.ledger_events import LedgerEvent, Left, Position
from distrai.protocol.primitives import Hash, MemberId

RUN = 3


def block_hash(number: int, branch: int) -> Hash:
    return Hash(branch.to_bytes(16, "big") + number.to_bytes(16, "big"))


@dataclass
class FakeLedger:
    """A chain whose blocks are the branch they belong to, with ``logs`` events in each even block."""

    branches: list[int] = field(default_factory=list)
    visible: int | None = None
    """The newest block that the node has seen, if it lags."""
    fails: int = 0
    """How many of the next calls get no answer."""
    calls: int = 0
    logs: int = 1

    async def newest_block(self) -> BlockMark:
        self._answer()
        return self.mark(self._newest)

    def _answer(self) -> None:
        self.calls += 1
        if self.fails:
            self.fails -= 1
            raise LedgerUnreachable("down")

    @property
    def _newest(self) -> int:
        return len(self.branches) - 1 if self.visible is None else min(self.visible, len(self.branches) - 1)

    def mark(self, number: int) -> BlockMark:
        parent = block_hash(number - 1, self.branches[number - 1]) if number else Hash(bytes(32))
        return BlockMark(number, block_hash(number, self.branches[number]), parent)

    async def block_marks(self, first: int, last: int) -> list[BlockMark]:
        self._answer()
        return [self.mark(number) for number in range(first, min(last, self._newest) + 1)]

    async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
        assert run == RUN
        self._answer()
        return self.all_events(first, last)

    def all_events(self, first: int = 0, last: int | None = None) -> list[LedgerEvent]:
        """What the chain as it is now has to tell."""
        through = self._newest if last is None else last
        numbers = [number for number in range(first, through + 1) if number % 2 == 0]
        return [self.event(number, log) for number in numbers for log in range(self.logs)]

    def event(self, number: int, log: int = 0) -> LedgerEvent:
        at = Position(number, log, block_hash(number, self.branches[number]))
        return Left(at, MemberId(number.to_bytes(32, "big")))

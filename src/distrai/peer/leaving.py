"""Leaving in order: say so on the ledger, and go on as long as heads count on this member."""

import asyncio
from dataclasses import dataclass

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerRefused, LedgerUnreachable
from distrai.peer.engine import Engine
from distrai.peer.plan import Plan
from distrai.peer.telemetry import Telemetry

LEDGER_RETRY_S = 1.0
POLL_S = 0.1
PATIENCE_S_MIN = 60.0
PATIENCE_ROUNDS = 3
"""Who leaves is dropped by the second certificate from now on."""


@dataclass(frozen=True)
class Leaving:
    """One member's way out of a run."""

    engine: Engine
    ledger: LedgerClient
    plan: Plan
    telemetry: Telemetry

    @property
    def patience_s(self) -> float:
        """How long to go on at most: rounds may take their time, and the run may need this very seat."""
        timing = self.plan.rules.timing
        round_s = timing.hard_s + timing.settle_s + timing.attempt_s(0)
        return max(PATIENCE_S_MIN, PATIENCE_ROUNDS * round_s)

    async def when(self, asked: asyncio.Event) -> None:
        """Once asked to: leave, and go on until no head counts on this peer any more. Returns when that is so."""
        await asked.wait()
        self.telemetry.emit("leaving", patience_s=self.patience_s)
        try:
            async with asyncio.timeout(self.patience_s):
                await self._tell_ledger()
                while self.is_counted_on():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            why = "no certificate dropped this seat in time: the run may need it (min_seats), or nobody certifies"
            self.telemetry.emit("not-dropped", why=why)
            return
        self.telemetry.emit("left")

    def is_counted_on(self) -> bool:
        """Whether this member attests or trains as of the newest head, or will."""
        standing, member = self.engine.standing, self.engine.identity.member
        if standing is None or standing.round >= self.plan.rules.rounds:
            return False
        people = (*standing.trainers, *standing.next_trainers)
        return member in standing.seat_members or any(trainer.member == member for trainer in people)

    async def _tell_ledger(self) -> None:
        """Keep trying while the ledger is out of reach. A refusal is no harm: not joined yet, or left already."""
        while True:
            try:
                await self.ledger.leave(self.engine.run, self.engine.identity.member)
            except LedgerRefused as refusal:
                self.telemetry.emit("ledger", why=str(refusal))
            except LedgerUnreachable as error:
                self.telemetry.emit("ledger", why=str(error))
                await asyncio.sleep(LEDGER_RETRY_S)
                continue
            return

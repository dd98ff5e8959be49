"""A peer's eye on the ledger: new events for the engine, certificates for the archive's public folder, submissions.

The ledger may be out of reach at any time; then everything waits, and nothing is lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from distrai.ledger.errors import LedgerError, LedgerRefused, Reorganised, TooLittleGas
from distrai.ledger.gas import explain
from distrai.ledger.interface import Ledger
from distrai.ledger.keys import NodeKey
from distrai.peer.events import Event, LedgerChanged, LedgerRewound, Submit
from distrai.peer.feed import LedgerFeed
from distrai.peer.records import CertificateRecord, GenesisRecord, RollCallRecord
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.protocol.ledger_events import (
    Certified,
    LedgerEvent,
    Position,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.primitives import MemberId

QUIET_POLL_S = 1.0
BUSY_POLL_S = 0.1
FINISH_S = 2.0
LOOK_PAUSE_S = 0.02


class LedgerWatcher:
    """Follows one run on the ledger for one peer."""

    def __init__(
        self,
        ledger: Ledger,
        feed: LedgerFeed,
        store: PeerStore,
        telemetry: Telemetry,
        post: Callable[[Event], Awaitable[None]],
        is_busy: Callable[[], bool],
    ) -> None:
        """``is_busy`` says whether a certificate is due: then the ledger is looked at more often."""
        self.ledger, self.feed, self.store, self.telemetry = ledger, feed, store, telemetry
        self.post, self.is_busy = post, is_busy
        self.look = asyncio.Event()
        self._lost = False
        """The chain was reorganised, and the engine has not said yet from where on to follow it."""
        self._unpublished: deque[LedgerEvent] = deque()

    def publish(self, history: Iterable[LedgerEvent]) -> None:
        """Queue what an archive has to publish of ``history``; what is published already is left alone.

        What lands last counts: a reorg may have put something else in the place of what was published.
        """
        if self.store.archive:
            self._unpublished.extend(history)

    async def follow(self) -> None:
        """Look for new events, for ever: often while a certificate is due, seldom else."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BUSY_POLL_S if self.is_busy() else QUIET_POLL_S):
                    await self.look.wait()
            await asyncio.sleep(LOOK_PAUSE_S)  # messages may ask for a look, as fast as somebody sends them
            self.look.clear()
            try:
                await self._look()
            except LedgerError as error:
                self.telemetry.emit("ledger", why=str(error))

    async def finish(self) -> None:
        """Publish what is left, if the ledger answers soon: the last certificate may just have landed."""
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self._publish_all()

    def follow_from(self, after: Position | None) -> None:
        """Tell the events after this position again: where the engine went back to after a reorg."""
        self.feed.restart(after)
        self._lost = False
        self.look.set()

    async def _look(self) -> None:
        if self._lost:
            return
        try:
            events = await self.feed.next()
        except Reorganised as reorg:
            self._lost = True
            there = (event for event in self._unpublished if event.at.block_number <= reorg.to_block)
            self._unpublished = deque(there)  # nobody can say any more how the others were attested
            self.telemetry.emit("reorganised", to_block=reorg.to_block)
            await self.post(LedgerRewound(reorg.to_block))
            return
        if events:
            await self.post(LedgerChanged(tuple(events)))
            self.publish(events)
        await self._publish_all()

    async def _publish_all(self) -> None:
        while self._unpublished:
            await self._publish(self._unpublished[0])
            self._unpublished.popleft()

    async def _publish(self, event: LedgerEvent) -> None:
        """Write down what a replay reads: how the run began, and what ended every round."""
        match event:
            case RunOpened(genesis=genesis) if not self.store.public.genesis_path.exists():
                self.store.public.save_genesis(GenesisRecord(genesis, ()))
            case Started(seats=seats):
                self.store.public.save_genesis(GenesisRecord(self.store.public.genesis().genesis, seats))
            case Certified(body=body, head=head, at=at) if (
                self.store.public.published_head(body.round) != head
            ):
                signatures = await self.ledger.attestations(body, at)
                self.store.public.save_certificate(CertificateRecord(body, signatures))
            case RollCalled(round=number, head=head) if self.store.public.published_head(number) != head:
                record = RollCallRecord(number, event.previous_head, event.state_root, event.drops)
                self.store.public.save_roll_call(record)
            case _:
                pass

    async def check_in(self, key: NodeKey) -> None:
        """Say that this seat is alive. A refusal is no harm: it is too early, or somebody was first."""
        await self._try(self.ledger.check_in(self.feed.run, key))

    async def close_roll_call(self, absent: tuple[MemberId, ...]) -> None:
        """Ask for the end of a roll call. A refusal is no harm either."""
        await self._try(self.ledger.close_roll_call(self.feed.run, absent))

    async def submit(self, effect: Submit) -> None:
        """Certify. A refusal is no harm: most often another seat was first, and the next look shows it."""
        await self._try(self.ledger.certify(effect.body, effect.signatures))

    async def _try(self, transaction: Awaitable[object]) -> None:
        try:
            await transaction
        except LedgerRefused:
            pass
        except TooLittleGas as error:
            self.telemetry.emit("gas-needed", address=error.account.hex(), why=explain(error))
        except LedgerError as error:
            self.telemetry.emit("ledger", why=str(error))
        self.look.set()

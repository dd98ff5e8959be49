"""Settling what a run's members earned, beside the rounds: marks, epochs and their signatures, until all is settled.

One task of a peer, which the engine knows nothing of. Seats mark heads where epochs end, sign the epoch that they
computed, show their signature, ask the other seats for theirs, and whoever has two thirds lands it. Each step may be
repeated, by several peers and after any crash: the contracts take it once. Seats take turns in sending, so that one of
them pays for it as a rule.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from distrai.ledger.errors import LedgerError, LedgerRefused, TooLittleGas
from distrai.ledger.gas import explain
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.network.interface import Endpoint, NetworkError, Transport
from distrai.peer.epochs import EpochBook, View, Waits, look
from distrai.peer.signing import (
    DOCUMENT,
    DOCUMENT_BYTES_MAX,
    Gathered,
    ShownEpoch,
    SignedEpochs,
    decode_shown,
)
from distrai.peer.telemetry import Telemetry
from distrai.protocol.errors import ProtocolError
from distrai.protocol.pot import Due, is_mark_due
from distrai.protocol.primitives import Address, MemberId, SignatureBytes
from distrai.protocol.rewards import RewardTerms
from distrai.protocol.standing import Seat

POLL_S = 1.0
ASK_S = 10.0
"""For the document of one peer."""
MOVED_ON = ("WrongEpoch", "WrongKills", "WrongPreviousRoot", "NotMarked", "NoNewRounds")
"""Refusals by which another epoch landed, or was killed: the next look shows it."""


@dataclass(frozen=True)
class Seats:
    """The seats of now, sorted by member, and which of their keys are in this home."""

    seats: tuple[Seat, ...]
    me: MemberId
    keys: Callable[[Address], NodeKey]

    @property
    def key(self) -> NodeKey | None:
        """The key that this peer attests with; None without a seat."""
        seat = next((seat for seat in self.seats if seat.member == self.me), None)
        return None if seat is None else self.keys(seat.key)

    def turn(self, salt: int) -> int | None:
        """How many seats come before this peer where all take turns; None without a seat."""
        members = [seat.member for seat in self.seats]
        return None if self.me not in members else (members.index(self.me) - salt) % len(members)


@dataclass
class Settlement:
    """One peer's part in settling one run."""

    book: EpochBook
    index: LedgerIndex
    source: LogSource
    pots: PotsClient
    transport: Transport
    signed: SignedEpochs
    seats: Callable[[], Seats]
    endpoint: Callable[[MemberId], Endpoint | None]
    telemetry: Telemetry
    finality: int
    promised: RewardTerms
    """By the recipe."""
    turn_s: float
    """How long a seat waits for the one before it."""
    poll_s: float = POLL_S
    clock: Callable[[], float] = time.monotonic
    _view: tuple[int, View] | None = None
    _gathered: Gathered | None = None
    _since: dict[tuple[object, ...], float] = field(default_factory=dict)
    _told: dict[str, object] = field(default_factory=dict)

    async def run(self) -> None:
        """Settle, for ever: a killed epoch may have to be settled again long after the last round."""
        while True:
            try:
                await self.step()
            except Waits as why:
                self._tell("settlement-waits", str(why), why=str(why))
            except NetworkError as error:
                self._tell("settlement-waits", str(error), why=str(error))
            except LedgerError as error:
                self._tell_ledger(error)
            except Exception as error:  # noqa: BLE001 - whatever a node or a disk does here, training goes on
                said = f"{type(error).__name__}: {error}"
                self._tell("settlement-waits", said, why=said)
            await asyncio.sleep(self.poll_s)

    async def step(self) -> None:
        """Look once, and do what is to be done now. Raises Waits or LedgerError."""
        await self.index.sync(self.source)
        view = await self._look()
        self._tell_settled(view)
        if view.final.opened is None:
            return
        self._tell_terms(view.final.terms)
        await self._mark(view)
        due = await self.book.due(view)
        if due is None:
            self._tell_done(view)
        elif len(view.newest.epochs) <= len(
            view.final.epochs
        ):  # else it landed, and only has to become final
            await self._settle(due)

    async def _look(self) -> View:
        """What the index says; it is read anew when it has changed."""
        version = self.index.version
        if self._view is None or self._view[0] != version:
            self._view = (
                version,
                await asyncio.to_thread(look, self.index, self.book.run, self.finality, self.book.checked),
            )
        return self._view[1]

    # Marks

    async def _mark(self, view: View) -> None:
        """Mark the head of the moment where an epoch should end, when it is this peer's turn."""
        is_due = is_mark_due(view.newest, self.book.epoch_rounds, self.book.rounds, view.now)
        if not is_due or not self._is_turn("mark", len(view.newest.marks), len(view.newest.marks)):
            return
        try:
            number = await self.pots.mark_head(self.book.run)
        except LedgerError as error:
            self._tell_ledger(error)
            return  # another seat will; and this one may still sign
        if number is not None:
            self.telemetry.emit("marked", run=self.book.run, round=number)

    def _is_turn(self, what: str, place: object, salt: int) -> bool:
        """Whether all seats that come first had time to act; each seat tries again after all others had."""
        seats = self.seats()
        turn = seats.turn(salt)
        if turn is None:
            return False
        key, now = (what, place), self.clock()
        if key not in self._since:
            self._since = {known: at for known, at in self._since.items() if known[0] != what}
            self._since[key] = now + turn * self.turn_s
        if now < self._since[key]:
            return False
        self._since[key] = now + len(seats.seats) * self.turn_s
        return True

    # Epochs

    async def _settle(self, due: Due) -> None:
        """Sign what is due, gather what others signed, and land it."""
        if self._gathered is None or self._gathered.due.epoch != due.epoch:
            await self.transport.publish(due.table.blob, due.table.to_bytes())
            self._gathered = Gathered(due, self.book.domain.digest(due.epoch.id))
        gathered, seats = self._gathered, self.seats()
        if seats.key is None:
            return  # who has no seat keeps the table for those who look for it
        self._sign(gathered, seats)
        await self._show(gathered)
        if not gathered.enough(seats.seats):
            await self._ask(gathered, seats)
        signatures = gathered.enough(seats.seats)
        if not signatures:
            return
        await self._show(gathered)
        if self._is_turn("settle", due.epoch.id, due.epoch.epoch):
            await self._land(due, signatures)

    def _sign(self, gathered: Gathered, seats: Seats) -> None:
        key, due = seats.key, gathered.due
        assert key is not None
        if key.address in gathered.signatures:
            return
        if not self.signed.commit(due):
            raise Waits(
                f"this peer signed another epoch {due.epoch.epoch} until round {due.epoch.last_round} than it computes "
                "now, and signs no second one"
            )
        gathered.signatures[key.address] = key.sign(gathered.digest)
        epoch = due.epoch
        facts = {"run": epoch.run, "epoch": epoch.epoch, "last_round": epoch.last_round}
        self._tell("epoch-signed", epoch.id, **facts, total=epoch.total, root=epoch.root)

    async def _show(self, gathered: Gathered) -> None:
        """Show all signatures that are known here: not every peer reaches every other one."""
        if len(gathered.signatures) == gathered.shown:
            return
        epoch = gathered.due.epoch
        document = ShownEpoch(epoch.run, epoch.epoch, epoch.id, tuple(gathered.signatures.values()))
        await self.transport.show(DOCUMENT, document.to_bytes())
        gathered.shown = len(gathered.signatures)

    async def _ask(self, gathered: Gathered, seats: Seats) -> None:
        """Ask the seats whose signature is missing, all at once."""
        wanted = [seat.member for seat in seats.seats if seat.key not in gathered.signatures]
        places = [place for member in wanted if (place := self.endpoint(member)) is not None]
        for shown in await asyncio.gather(*map(self._ask_one, places)):
            if shown is not None and shown.id == gathered.due.epoch.id:
                gathered.take(shown.signatures, seats.seats)

    async def _ask_one(self, endpoint: Endpoint) -> ShownEpoch | None:
        try:
            async with asyncio.timeout(ASK_S):
                return decode_shown(await self.transport.ask(endpoint, DOCUMENT, DOCUMENT_BYTES_MAX))
        except (NetworkError, TimeoutError, ProtocolError):
            return None  # it has nothing to show, or shows nonsense: it is asked again when the others are

    async def _land(self, due: Due, signatures: tuple[SignatureBytes, ...]) -> None:
        try:
            is_own = await self.pots.settle(due.epoch, signatures)
        except LedgerRefused as refusal:
            if refusal.name not in MOVED_ON:
                raise Waits(f"the ledger refuses epoch {due.epoch.epoch}: {explain(refusal)}") from None
            return
        if is_own:
            self._told["own"] = due.epoch.id
            self.telemetry.emit("epoch-landed", run=due.epoch.run, epoch=due.epoch.epoch, id=due.epoch.id)

    # Telling

    def _tell_settled(self, view: View) -> None:
        """Tell of epochs that are final, each once; after a kill again of what is settled anew."""
        known = self._told.get("epochs", ())
        found = tuple((live.settled.epoch, live.settled.root, live.kills) for live in view.final.epochs)
        for live, name in zip(view.final.epochs, found, strict=True):
            if name not in known:  # type: ignore[operator]
                settled = live.settled
                facts = {"run": settled.run, "epoch": settled.epoch, "last_round": settled.last_round}
                amounts = {"total": settled.total, "root": settled.root, "active_from": settled.active_from}
                self.telemetry.emit("epoch-settled", **facts, **amounts)
        self._told["epochs"] = found

    def _tell_terms(self, terms: RewardTerms) -> None:
        """Tell where the pot pays by other terms than the recipe promises. What it pays is settled all the same."""
        pairs = [
            (item.name, getattr(terms, item.name), getattr(self.promised, item.name))
            for item in fields(terms)
        ]
        wrong = [f"{name} is {pays} instead of {says}" for name, pays, says in pairs if pays != says]
        if wrong:
            why = f"the pot pays by other terms than the recipe says (base units): {', '.join(wrong)}"
            self._tell("pot-differs", why, why=why)

    def _tell_done(self, view: View) -> None:
        """Tell when the run has done its rounds, or the pot is closed, and nothing is left to settle."""
        if view.final.closing is None and view.now.round < self.book.rounds:
            return
        if not is_mark_due(view.final, self.book.epoch_rounds, self.book.rounds, view.now):
            live, total = len(view.final.epochs), view.final.total
            self._tell("settlement-done", (live, total), run=self.book.run, epoch=live, total=total)

    def _tell_ledger(self, error: LedgerError) -> None:
        if isinstance(error, TooLittleGas):
            self.telemetry.emit("gas-needed", address=error.account.hex(), why=explain(error))
        else:
            self._tell("ledger", str(error), why=str(error))

    def _tell(self, event: str, what: object, **facts: object) -> None:
        """Tell something, unless it is what was told last."""
        if self._told.get(event) != what:
            self._told[event] = what
            self.telemetry.emit(event, **facts)

"""Which epoch is due, by the ledger's events and what this peer knows of the rounds; and what it lacks to say so.

Nothing is believed: what the ledger calls settled is computed again wherever the lists are here, tables must make their
roots, and lists must be what certificates commit to.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from distrai.ledger.index import LedgerIndex
from distrai.network.interface import NetworkError
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.circle import round_of
from distrai.peer.work import WorkBook
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.errors import MessageTooLarge, MissingList, ProtocolError, WrongBlob
from distrai.protocol.ledger_events import Certified, RollCalled
from distrai.protocol.lists import CertifiedList
from distrai.protocol.money_events import (
    EpochKilled,
    EpochSettled,
    Funded,
    HeadMarked,
    MemberAllowed,
    MemberDisallowed,
    PotClosed,
    PotOpened,
    Refunded,
)
from distrai.protocol.pot import LISTS_NEEDED, Due, Marked, Pot, due_mark, last_epoch, next_epoch, read_table
from distrai.protocol.primitives import Hash
from distrai.protocol.rewards import TABLE_BYTES_MAX, Earnings, HeadMark, WorkedRound
from distrai.protocol.typed_data import Domain

POT_EVENTS = (
    PotOpened,
    Funded,
    Refunded,
    MemberAllowed,
    MemberDisallowed,
    HeadMarked,
    EpochSettled,
    EpochKilled,
    PotClosed,
)
LISTS_AT_ONCE = 64
ASK_PAUSE_S = 15.0
EARNINGS_KEPT = 4


class Waits(Exception):
    """Why this peer takes no part in settling for now: told to whoever started it."""


class Others(Protocol):
    """What the run's other peers can give."""

    async def lists(self, bodies: Sequence[Body]) -> list[tuple[int, CertifiedList]]:
        """Lists of these certificates, of as many as anybody has, by round."""
        ...

    async def blob(self, name: Hash, size_max: int) -> BlobRef:
        """Have the blob with this name in the own store. Raises NetworkError."""
        ...


@dataclass(frozen=True)
class View:
    """What the ledger says of a run and its pot. ``final`` is as of blocks that stay, ``newest`` as of all of them.

    ``bodies`` are those of final certificates since the beginning of the last live epoch; ``now`` is the newest final
    round, without a time.
    """

    final: Pot
    newest: Pot
    bodies: tuple[Body, ...]
    now: HeadMark


def look(index: LedgerIndex, run: int, finality: int, checked: Collection[EpochSettled] = ()) -> View:
    """The view from an index; ``checked`` are epochs that need no second look."""
    final = Pot.fold(index.events(POT_EVENTS, run, finality))
    newest = Pot.fold(index.events(POT_EVENTS, run)) if finality else final
    if final.opened is None:
        return View(final, newest, (), HeadMark(0, 0, 0))
    since = final.since(first_unchecked(final, checked))
    ends = [
        event
        for event in index.events((Certified, RollCalled), run, finality, since.at.block_number)
        if round_of(event) > since.mark.round
    ]
    bodies = tuple(event.body for event in ends if isinstance(event, Certified))
    worked = since.mark.worked + sum(not body.is_empty for body in bodies)
    now = HeadMark(max(map(round_of, ends), default=since.mark.round), worked, 0)
    return View(final, newest, bodies, now)


def first_unchecked(pot: Pot, checked: Collection[EpochSettled]) -> int:
    """How many live epochs come before those that are to be computed again: the last one at least.

    Seats that are captured may land several at once, the last of which is right if the others are believed.
    """
    known = [live for live, epoch in enumerate(pot.epochs, start=1) if epoch.settled in checked]
    return max(0, min(known[-1] if known else len(pot.epochs) - 1, len(pot.epochs) - 1))


@dataclass
class EpochBook:
    """What one peer knows of what was earned. ``domain`` is the distributor's, ``rounds`` all that the run has."""

    run: int
    domain: Domain
    epoch_rounds: int
    rounds: int
    work: WorkBook
    blobs: BlobStore
    others: Others
    keep_lists_after: Callable[[int], None] = lambda _number: None
    """Told from which round on lists may still be asked for by who joins."""
    clock: Callable[[], float] = time.monotonic
    _ask_at: dict[object, float] = field(default_factory=dict)
    """When others may be asked again for what nobody had."""
    _earned: dict[EpochSettled, Earnings] = field(default_factory=dict)
    """By all that the ledger says of an epoch, the newest ones: a false one may name the table of another."""

    async def due(self, view: View) -> Due | None:
        """The epoch that is to be settled now; None if there is none. Raises Waits."""
        worked = [body.round for body in view.bodies if not body.is_empty]
        since = view.final.since(len(view.final.epochs)).mark.round
        self.keep_lists_after(max(since, worked[-LISTS_NEEDED] - 1) if len(worked) > LISTS_NEEDED else since)
        await self._check(view)
        marked = due_mark(view.final, self.epoch_rounds, self.rounds)
        if marked is None:
            return None
        work = await self._work(view, marked)
        before = await self._before(view.final, work)
        try:
            return next_epoch(
                view.final,
                before,
                work,
                self.domain,
                self.run,
                epoch_rounds=self.epoch_rounds,
                rounds=self.rounds,
            )
        except MissingList as error:
            raise Waits(
                f"{error}, and no peer has the others: this peer signs the next epoch again"
            ) from None

    async def _work(self, view: View, marked: Marked) -> list[WorkedRound]:
        """What was accepted in the rounds that count now, with what others give of those that are not known here."""
        pot = view.final
        known, missing = self.work.rounds(view.bodies, pot.may_pay)
        since, until = pot.begin(len(pot.epochs), marked).mark.round, marked.mark.round
        wanted = [body for body in missing if since < body.round <= until][:LISTS_AT_ONCE]
        if not wanted or not self._may_ask(wanted[0].updates_root):
            return known
        for number, certified in await self.others.lists(wanted):
            self.work.take(number, certified)
        return self.work.rounds(view.bodies, pot.may_pay)[0]

    def _may_ask(self, what: Hash) -> bool:
        """Whether others may be asked for something: what nobody had a moment ago nobody has now."""
        now = self.clock()
        self._ask_at = {known: at for known, at in self._ask_at.items() if at > now}
        if what in self._ask_at:
            return False
        self._ask_at[what] = now + ASK_PAUSE_S
        return True

    async def _check(self, view: View) -> None:
        """Compute what was settled again as soon as it is, while the guardian can still kill it. Raises Waits."""
        pot = view.final
        if not pot.epochs or pot.epochs[-1].settled in self._earned:
            return
        work = self.work.rounds(view.bodies, pot.may_pay)[0]
        earnings = await asyncio.to_thread(self._recomputed, pot, work)
        if earnings is not None:
            self._remember(pot.epochs[-1].settled, earnings)

    def _remember(self, settled: EpochSettled, earnings: Earnings) -> None:
        self._earned[settled] = earnings
        while len(self._earned) > EARNINGS_KEPT:
            del self._earned[next(iter(self._earned))]

    @property
    def checked(self) -> Collection[EpochSettled]:
        """The newest epochs that were computed again, or whose table is believed."""
        return tuple(self._earned)

    async def _before(self, pot: Pot, work: Sequence[WorkedRound]) -> Earnings:
        """What was earned until the last live epoch, which is computed again if that is possible. Raises Waits."""
        if not pot.epochs:
            return Earnings()
        settled = pot.epochs[-1].settled
        if settled in self._earned:
            return self._earned[settled]
        # beside the rounds: captured seats may have published a table of megabytes
        earnings = await asyncio.to_thread(self._recomputed, pot, work)
        if earnings is None:
            earnings = await asyncio.to_thread(self._held, settled) or await self._given(settled)
        self._remember(settled, earnings)
        return earnings

    def _recomputed(self, pot: Pot, work: Sequence[WorkedRound]) -> Earnings | None:
        """The same by own knowledge; None if it does not reach back. Raises Waits if the seats settled another."""
        first, before = first_unchecked(pot, self._earned), Earnings()
        if first:
            earlier = pot.epochs[first - 1].settled
            held = self._earned.get(earlier) or self._held(earlier)
            if held is None:
                return None
            before = held
        for live in range(first, len(pot.epochs)):
            settled = pot.epochs[live].settled
            try:
                own = last_epoch(
                    replace(pot, epochs=pot.epochs[: live + 1]), before, work, self.domain, self.run
                )
            except MissingList:
                return None
            if (own.epoch.root, own.epoch.data_hash) != (settled.root, settled.data_hash):
                raise Waits(
                    f"epoch {settled.epoch} on the ledger (root 0x{settled.root.hex()}, total {settled.total}) is not "
                    f"what the certified lists give (root 0x{own.epoch.root.hex()}, total {own.epoch.total}): this "
                    "peer signs nothing that follows it. Claim by an older epoch, and tell the guardian"
                )
            self.blobs.put(own.table.to_bytes())
            before = own.earnings
        return before

    def _held(self, settled: EpochSettled) -> Earnings | None:
        """By the table in the own store; None if there is none."""
        try:
            size = self.blobs.manifest(settled.data_hash)[0]
            if (
                size > TABLE_BYTES_MAX
            ):  # seats may name any blob, also one that everybody has and nobody can hold
                raise MessageTooLarge(f"{size} bytes; no table is longer than {TABLE_BYTES_MAX}")
            return read_table(settled, self.blobs.read(BlobRef(settled.data_hash, size)), self.domain)
        except (MissingBlob, WrongBlob):
            return None
        except ProtocolError as error:
            raise Waits(
                f"the table that the seats published for epoch {settled.epoch} is wrong: {error}"
            ) from None

    async def _given(self, settled: EpochSettled) -> Earnings:
        """By a table that another peer gives. Raises Waits."""
        if not self._may_ask(settled.data_hash):
            raise Waits(f"the table of epoch {settled.epoch} is not here")
        try:
            await self.others.blob(settled.data_hash, TABLE_BYTES_MAX)
        except NetworkError as error:
            raise Waits(f"no peer gives the table of epoch {settled.epoch}: {error}") from None
        earnings = await asyncio.to_thread(self._held, settled)
        if earnings is None:
            raise Waits(f"the table of epoch {settled.epoch} was lost again")
        return earnings

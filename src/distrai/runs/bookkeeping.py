"""What was earned in a run until where: by the tables behind its roots, or recomputed from certified lists.

Everything follows from events of the ledger, lists and tables; where one of them is missing, that is said and nothing
guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distrai.protocol.errors import MissingList
from distrai.protocol.ledger_events import Certified, LedgerEvent, RollCalled
from distrai.protocol.lists import CertifiedList
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.pot import Marked, Pot, compute_epoch, recompute
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import (
    MILLION,
    Earnings,
    HeadMark,
    WorkedRound,
    accepted_tokens,
    paid_rounds,
    rewards_root,
    settle,
)
from distrai.protocol.typed_data import Domain
from distrai.runs.reward_tables import NoTable, Tables, WrongTable


@dataclass(frozen=True)
class Work:
    """A round in which a member's update was certified, and what that earned.

    ``millionths`` of a base unit; None where lists of rounds before it are not known any more.
    """

    round: int
    update: Hash
    tokens: int
    millionths: int | None


@dataclass(frozen=True)
class Books:
    """What accounts are made from: a run's events in order (the registry's and the pot's), and what is known beside.

    ``lists`` by round, as many as there are; ``now`` is ledger time, ``head_time`` that of the newest head's block.
    ``domain`` is the distributor's. Of blocks that are not final nothing should be among the events.
    """

    events: Sequence[LedgerEvent]
    lists: Mapping[int, CertifiedList]
    domain: Domain
    run: int
    now: int
    head_time: int

    def worked(self) -> dict[int, CertifiedList]:
        """The lists of non-empty rounds that the ledger certified, by round: what else is in ``lists`` is ignored."""
        bodies = {event.body.round: event.body for event in self.events if isinstance(event, Certified)}
        return {
            number: self.lists[number]
            for number, body in sorted(bodies.items())
            if not body.is_empty
            and number in self.lists
            and self.lists[number].updates_root == body.updates_root
        }

    def newest(self, pot: Pot) -> Marked | None:
        """The newest head as if it were marked; None before the first round."""
        ends = [event for event in self.events if isinstance(event, Certified | RollCalled)]
        if not ends:
            return None
        number = ends[-1].body.round if isinstance(ends[-1], Certified) else ends[-1].round
        worked = sum(isinstance(event, Certified) and not event.body.is_empty for event in ends)
        return Marked(HeadMark(number, worked, self.head_time), ends[-1].head, pot.escrow, ends[-1].at)


@dataclass
class Bookkeeper:
    """What was earned until where, by tables or by lists."""

    books: Books
    pot: Pot
    worked: Mapping[int, CertifiedList]
    tables: Tables
    missing: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> list[WorkedRound]:
        """The non-empty rounds whose lists are known."""
        return [WorkedRound(number, accepted_tokens(listed)) for number, listed in self.worked.items()]

    async def until(self, settled: EpochSettled | None) -> Earnings:
        """What a live epoch's root pays; what nobody knows any more is said to be missing."""
        if settled is None:
            return Earnings()
        try:
            return await self.tables.earnings(settled, self.books.domain)
        except (NoTable, WrongTable) as error:
            recomputed = self._recomputed(settled)
            if recomputed is None:
                self._lacks(f"{error}, and the lists of its rounds are not here: what it pays is not counted")
            return recomputed or Earnings()

    async def most(self, live: Sequence[EpochSettled], *, is_paid_out: bool) -> dict[MemberId, int]:
        """What each member gets by that of these epochs that gives it most: the newest, if nobody lied.

        ``is_paid_out``: only what the contract would pay to the member now, beside what it paid already.
        """
        found: dict[MemberId, int] = {}
        paid = sum(self.pot.claimed.values())
        for settled in live:
            known = await self.until(settled) if settled is live[-1] else self._known(settled)
            for member, amount in known.amounts.items():
                claimed = self.pot.claimed.get(member, 0)
                if not is_paid_out or paid + amount - claimed <= settled.total:
                    found[member] = max(amount, found.get(member, 0))
        return found

    def _known(self, settled: EpochSettled) -> Earnings:
        """What an older epoch's root pays, as far as this machine knows."""
        try:
            return self.tables.held(settled, self.books.domain)
        except (NoTable, WrongTable):
            return self._recomputed(settled) or Earnings()

    def _recomputed(self, settled: EpochSettled) -> Earnings | None:
        try:
            due = recompute(self.pot, self.rounds, self.books.domain, self.books.run)[settled.epoch - 1]
        except MissingList:
            return None
        amounts = due.earnings.amounts
        is_root = rewards_root(self.books.domain, self.books.run, amounts) == settled.root
        return due.earnings if is_root else None

    def certified(self, before: Earnings) -> Earnings:
        """What would be earned if an epoch ended with the newest head."""
        newest = self.books.newest(self.pot)
        if newest is None or newest.mark.round <= self.pot.since(len(self.pot.epochs)).mark.round:
            return before
        domain, run = self.books.domain, self.books.run
        try:
            return compute_epoch(self.pot, before, self.rounds, newest, domain, run).earnings
        except MissingList as error:
            self._lacks(f"what was certified since the last epoch is not counted: {error}")
            return before

    def evidence(self) -> dict[MemberId, list[Work]]:
        """The rounds of each member with what they earned, as far as their lists are known."""
        ends = [self.pot.marks[each.settled.last_round] for each in self.pot.epochs]
        newest = self.books.newest(self.pot)
        ends += [] if newest is None else [newest]
        found: dict[MemberId, list[Work]] = {}
        earned: Earnings | None = Earnings()
        for live, until in enumerate(ends):
            earned = self._walk(earned, self.pot.since(live), until, found)
        return found

    def _walk(
        self, earned: Earnings | None, since: Marked, until: Marked, found: dict[MemberId, list[Work]]
    ) -> Earnings | None:
        """Go through the rounds of one epoch, one at a time: together they are what ``settle`` says at once."""
        numbers = [number for number in self.worked if since.mark.round < number <= until.mark.round]
        if len(numbers) != until.mark.worked - since.mark.worked:
            earned = None
        paid = paid_rounds(self.pot.terms, since.mark, until.mark, self.pot.closing)
        for at, number in enumerate(numbers):
            before = earned
            if before is not None:
                earned = self._after(before, number, until.escrow, paid=at < paid)
            for update in self.worked[number].updates:
                wage = None if earned is None or before is None else _added(before, earned, update.member)
                work = Work(number, update.identity(b""), update.tokens, wage)
                found.setdefault(update.member, []).append(work)
        return earned

    def _after(self, before: Earnings, number: int, escrow: int, *, paid: bool) -> Earnings:
        work = WorkedRound(number, accepted_tokens(self.worked[number]))
        return settle(
            before,
            [work],
            self.pot.terms,
            paid=int(paid),
            escrow=escrow,
            allowances=self.pot.allowances,
            closing=self.pot.closing,
        )

    def _lacks(self, what: str) -> None:
        if what not in self.missing:
            self.missing.append(what)


def _added(before: Earnings, after: Earnings, member: MemberId) -> int:
    return after.millionths.get(member, 0) - before.millionths.get(member, 0)


def whole(work: Iterable[Work]) -> int:
    """Base units of all these rounds together."""
    return sum(item.millionths or 0 for item in work) // MILLION

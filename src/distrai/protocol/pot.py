"""The epochs that follow from a run's pot, computed alike by everybody.

Pure. An epoch follows from the events before its end and from certified lists, and from nothing later: a closing, a
payment or a member let in after the mark changes nothing in what was signed for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distrai.protocol.errors import MissingList, WrongTable
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.pot_state import EPOCH_ROUNDS_MAX, LISTS_NEEDED, REACH, LiveEpoch, Marked, Pot
from distrai.protocol.primitives import ZERO_HASH
from distrai.protocol.rewards import (
    Earnings,
    Epoch,
    HeadMark,
    RewardTable,
    WorkedRound,
    decode_reward_table,
    paid_rounds,
    reward_table,
    rewards_root,
    settle,
)
from distrai.protocol.typed_data import Domain

__all__ = [
    "EPOCH_ROUNDS_MAX",
    "LISTS_NEEDED",
    "REACH",
    "Due",
    "LiveEpoch",
    "Marked",
    "Pot",
    "compute_epoch",
    "due_mark",
    "due_marks",
    "is_mark_due",
    "last_epoch",
    "next_epoch",
    "read_table",
    "recompute",
]


@dataclass(frozen=True)
class Due:
    """An epoch that is to be signed, the table that it publishes, and what everybody has earned then."""

    epoch: Epoch
    table: RewardTable
    earnings: Earnings
    marked: Marked


def due_marks(pot: Pot, epoch_rounds: int, rounds: int) -> Iterator[Marked]:
    """The marks at which the next epoch may end, in order; ``rounds`` is how many the run has.

    The first counts, or, where it adds nothing to what anybody has earned, the first that does. An epoch has
    ``epoch_rounds`` non-empty rounds; fewer at the end of the run, and where the pot is closed. A mark that a later one
    has out of reach counts no more: if two thirds of the seats cannot settle it by then, they never will.
    """
    if pot.opened is None:
        return
    since = pot.since(len(pot.epochs)).mark
    newest = list(pot.marks.values())[-1].mark
    for marked in pot.marks.values():
        is_last = marked.mark.round >= pot.last_paid(rounds) or pot.is_after_closing(marked)
        is_full = marked.mark.worked >= since.worked + epoch_rounds
        is_near = newest.worked - marked.mark.worked < REACH
        if marked.mark.round > since.round and is_near and (is_full or is_last):
            yield marked


def due_mark(pot: Pot, epoch_rounds: int, rounds: int) -> Marked | None:
    """The first of them, or None."""
    return next(due_marks(pot, epoch_rounds, rounds), None)


def is_mark_due(pot: Pot, epoch_rounds: int, rounds: int, now: HeadMark) -> bool:
    """Whether the head of the moment ought to be marked: an epoch could end there, and pay something.

    ``now.time`` says nothing here.
    """
    if pot.opened is None or now.round in pot.marks or not pot.is_affordable:
        return False
    known = list(due_marks(pot, epoch_rounds, rounds))
    newest = (known[-1] if known else pot.since(len(pot.epochs))).mark
    end = pot.last_paid(rounds)
    if now.worked <= newest.worked or newest.round >= end:
        return False
    is_closed = pot.closed_at is not None and not any(map(pot.is_after_closing, known))
    return now.worked >= newest.worked + epoch_rounds or now.round >= end or is_closed


def compute_epoch(
    pot: Pot,
    before: Earnings,
    worked_rounds: Sequence[WorkedRound],
    marked: Marked,
    domain: Domain,
    run: int,
) -> Due:
    """The epoch after the last live one, until ``marked``. ``before`` is what was earned until the last live one.

    ``domain`` is the distributor's. Of ``worked_rounds`` those that are not in the epoch are left out. Raises
    MissingList where some that are in it are not there.
    """
    return _compute(pot, len(pot.epochs), pot.kills, before, worked_rounds, marked, domain, run)


def next_epoch(
    pot: Pot,
    before: Earnings,
    worked_rounds: Sequence[WorkedRound],
    domain: Domain,
    run: int,
    *,
    epoch_rounds: int,
    rounds: int,
) -> Due | None:
    """The epoch that is to be settled now; None if none is. Raises MissingList."""
    for marked in due_marks(pot, epoch_rounds, rounds):
        due = compute_epoch(pot, before, worked_rounds, marked, domain, run)
        if pot.total < due.epoch.total <= pot.escrow:
            return due
    return None


def last_epoch(
    pot: Pot, before: Earnings, worked_rounds: Sequence[WorkedRound], domain: Domain, run: int
) -> Due:
    """What the last live epoch should be; ``before`` is what was earned until the one before. Raises MissingList."""
    known = pot.epochs[-1]
    marked = pot.marks[known.settled.last_round]
    return _compute(pot, len(pot.epochs) - 1, known.kills, before, worked_rounds, marked, domain, run)


def read_table(settled: EpochSettled, data: bytes, domain: Domain) -> Earnings:
    """What everybody had earned by a settled epoch, of the bytes that somebody gave as its table.

    Raises WrongTable, or what ``decode_reward_table`` raises.
    """
    table = decode_reward_table(data)
    if (table.run, table.epoch) != (settled.run, settled.epoch):
        raise WrongTable(f"this is the table of epoch {table.epoch} of run {table.run}")
    earnings = table.earnings
    if rewards_root(domain, settled.run, earnings.amounts) != settled.root:
        raise WrongTable(f"this table does not make the root of epoch {settled.epoch}")
    return earnings


def recompute(pot: Pot, worked_rounds: Sequence[WorkedRound], domain: Domain, run: int) -> list[Due]:
    """What all live epochs should be, in order, by the ledger's events and ``worked_rounds`` alone.

    Raises MissingList where some of those are not there.
    """
    found: list[Due] = []
    for live, known in enumerate(pot.epochs):
        before = found[-1].earnings if found else Earnings()
        marked = pot.marks[known.settled.last_round]
        found.append(_compute(pot, live, known.kills, before, worked_rounds, marked, domain, run))
    return found


def _compute(
    pot: Pot,
    live: int,
    kills: int,
    before: Earnings,
    worked_rounds: Sequence[WorkedRound],
    marked: Marked,
    domain: Domain,
    run: int,
) -> Due:
    """The epoch after ``live`` others."""
    since, until = pot.begin(live, marked).mark, marked.mark
    work = [item for item in worked_rounds if since.round < item.round <= until.round]
    if len(work) != until.worked - since.worked:
        raise MissingList(
            f"of {until.worked - since.worked} non-empty rounds from {since.round + 1} to {until.round} the lists of "
            f"{len(work)} are known"
        )
    earnings = settle(
        before,
        work,
        pot.terms,
        paid=paid_rounds(pot.terms, since, until, pot.closing),
        escrow=marked.escrow,
        allowances=pot.allowances,
        closing=pot.closing,
    )
    table = reward_table(run, live + 1, earnings)
    epoch = Epoch(
        run=run,
        epoch=live + 1,
        last_round=until.round,
        head=marked.head,
        root=rewards_root(domain, run, earnings.amounts),
        total=earnings.total,
        data_hash=table.blob.hash,
        previous_root=pot.epochs[live - 1].settled.root if live else ZERO_HASH,
        kills=kills,
    )
    return Due(epoch, table, earnings, marked)

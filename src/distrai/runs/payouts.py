"""Payouts recomputed: what the members of a run earned, from replayed lists, and whether the ledger's roots say so.

Nothing is believed but the ledger's events about the pot: marks must name heads that were replayed, and each live
epoch's root, total and table must be those that the lists lead to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from distrai.protocol.amounts import format_amount
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.pot import Due, Marked, Pot, compute_epoch
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import Earnings, HeadMark
from distrai.runs.anchor import PotEvents
from distrai.runs.published import ReplayFailed, blaming
from distrai.runs.replay import Replayed
from distrai.runs.reward_tables import Tables


@dataclass(frozen=True)
class Payouts:
    """What came of it: all that was earned, base units by member, and how many roots were recomputed."""

    epochs: int
    earned: Mapping[MemberId, int]
    decimals: int

    def to_json(self) -> dict[str, Any]:
        """As plain data; amounts in whole tokens."""
        earned = {
            member.hex(): format_amount(amount, self.decimals) for member, amount in self.earned.items()
        }
        return {"epochs": self.epochs, "earned": earned}


@dataclass(frozen=True)
class PotBooks:
    """What the ledger says of a run's pot; ``genesis`` is the head before the start."""

    told: PotEvents
    genesis: Hash


def recompute_payouts(replayed: Replayed, books: PotBooks, tables: Tables) -> Payouts:
    """Recompute the live epochs that end within what was replayed. Raises ReplayFailed, naming the first false one."""
    pot = Pot.fold(books.told.events)
    if pot.opened is None:
        return Payouts(0, {}, books.told.deployment.decimals)
    for marked in pot.marks.values():
        _check_mark(marked, replayed, books.genesis)
    earned, epochs = Earnings(), 0
    for live, known in enumerate(pot.epochs):
        if known.settled.last_round > replayed.rounds:
            break
        earlier = replace(pot, epochs=pot.epochs[:live])
        earned = _check_epoch(earlier, earned, known.settled, replayed, books, tables).earnings
        epochs += 1
    return Payouts(
        epochs, _until_now(pot, epochs, earned, replayed, books).amounts, books.told.deployment.decimals
    )


def _check_mark(marked: Marked, replayed: Replayed, genesis: Hash) -> None:
    """A mark names a head of the run, and how many rounds before it were not empty."""
    number = marked.mark.round
    if number > replayed.rounds:
        return
    worked = sum(item.round <= number for item in replayed.worked)
    heads = {replayed.heads[number], genesis} if number == 0 else {replayed.heads[number]}
    if marked.head not in heads or marked.mark.worked != worked:
        raise ReplayFailed(
            f"mark of round {number}",
            "WrongMark",
            f"it names the head 0x{marked.head.hex()} with {marked.mark.worked} non-empty rounds; they were {worked}, "
            f"and lead to 0x{replayed.heads[number].hex()}",
            number,
        )


def _check_epoch(
    pot: Pot, before: Earnings, settled: EpochSettled, replayed: Replayed, books: PotBooks, tables: Tables
) -> Due:
    """An epoch as the lists lead to it, if that is what the seats signed."""
    name, last = f"epoch {settled.epoch}", settled.last_round
    with blaming(name, last):
        due = compute_epoch(pot, before, replayed.worked, pot.marks[last], books.told.domain, books.told.run)
    if (settled.root, settled.total) != (due.epoch.root, due.epoch.total):
        raise ReplayFailed(
            name,
            "WrongRoot",
            f"two thirds of the seats signed the root 0x{settled.root.hex()} with a total of {settled.total}; the "
            f"certified lists lead to 0x{due.epoch.root.hex()} with {due.epoch.total}",
            last,
        )
    if settled.data_hash != due.epoch.data_hash:
        raise ReplayFailed(
            name,
            "WrongTable",
            f"it names the table 0x{settled.data_hash.hex()}; the certified lists lead to "
            f"0x{due.epoch.data_hash.hex()}",
            last,
        )
    with blaming(name, last):
        tables.held(settled, books.told.domain)
    return due


def _until_now(pot: Pot, epochs: int, earned: Earnings, replayed: Replayed, books: PotBooks) -> Earnings:
    """What was earned until the last round that was replayed, as if an epoch ended there."""
    earlier = replace(pot, epochs=pot.epochs[:epochs])
    newest = HeadMark(replayed.rounds, len(replayed.worked), books.told.head_time)
    if newest.round <= earlier.since(epochs).mark.round:
        return earned
    at = books.told.events[-1].at
    marked = Marked(newest, replayed.head, pot.escrow, at)
    with blaming("payouts", replayed.rounds):
        return compute_epoch(
            earlier, earned, replayed.worked, marked, books.told.domain, books.told.run
        ).earnings

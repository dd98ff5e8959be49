"""What each member of a run has: four states of every amount, each with what shows it.

*Pending*: its rounds are certified, and no root that pays for them is active. *Audited*: nothing, until audits exist.
*Payable*: its root is active, and nobody claimed. *Paid*: by a transaction. Everything follows from events of the
ledger, certified lists and the tables behind the roots; where one of them is missing, that is said and nothing guessed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distrai.protocol.amounts import format_amount
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import EpochSettled, RewardClaimed
from distrai.protocol.pot import Pot
from distrai.protocol.primitives import Hash, MemberId
from distrai.runs.bookkeeping import Bookkeeper, Books, Work
from distrai.runs.reward_tables import Tables

LABEL = "pending, unverified"
"""How amounts read that no audit has looked at."""


@dataclass(frozen=True)
class Payment:
    """A transaction that paid a member; ``amount`` in base units."""

    amount: int
    epoch: int
    transaction: Hash
    block: int


@dataclass(frozen=True)
class Account:
    """One member's amounts in base units. ``certified`` is in no live root yet, ``settled`` in one that is not active.

    ``active`` and ``root`` are the epochs that ``payable`` and ``settled`` are shown by.
    """

    member: MemberId
    certified: int = 0
    settled: int = 0
    payable: int = 0
    paid: int = 0
    active: EpochSettled | None = None
    root: EpochSettled | None = None
    work: tuple[Work, ...] = ()
    payments: tuple[Payment, ...] = ()

    @property
    def pending(self) -> int:
        """What no active root pays for yet."""
        return self.certified + self.settled

    @property
    def audited(self) -> int:
        """What an audit has confirmed: nothing, there are none yet."""
        return 0

    @property
    def earned(self) -> int:
        """All of it, in whatever state."""
        return self.pending + self.payable + self.paid

    @property
    def payable_from(self) -> int | None:
        """Ledger time from which on what is settled can be claimed; None if nothing waits for that."""
        return self.root.active_from if self.settled and self.root is not None else None

    def to_json(self, decimals: int) -> dict[str, Any]:
        """As plain data; amounts in whole tokens."""
        names = ("earned", "pending", "audited", "payable", "paid")
        amounts = {name: format_amount(getattr(self, name), decimals) for name in names}
        return {
            "member": "0x" + self.member.hex(),
            **amounts,
            "label": LABEL,
            "payable_from": self.payable_from,
            "evidence": {
                "pending": _root_json(self.root if self.settled else None),
                "payable": _root_json(self.active if self.payable else None),
                "rounds": [
                    {"round": item.round, "update": "0x" + item.update.hex(), "tokens": item.tokens}
                    for item in self.work
                ],
                "paid": [
                    {
                        "amount": format_amount(item.amount, decimals),
                        "epoch": item.epoch,
                        "transaction": "0x" + item.transaction.hex(),
                        "block": item.block,
                    }
                    for item in self.payments
                ],
            },
        }


def _root_json(settled: EpochSettled | None) -> dict[str, Any] | None:
    if settled is None:
        return None
    return {
        "epoch": settled.epoch,
        "last_round": settled.last_round,
        "root": "0x" + settled.root.hex(),
        "active_from": settled.active_from,
    }


@dataclass(frozen=True)
class Accounts:
    """All members' accounts in one run. ``missing`` says what could not be counted, and why."""

    run: int
    members: Mapping[MemberId, Account] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    pays: bool = False

    def of(self, member: MemberId) -> Account:
        """One member's account; an empty one if it never did anything."""
        return self.members.get(member, Account(member))

    @property
    def paid(self) -> int:
        """What all members were paid."""
        return sum(account.paid for account in self.members.values())

    @property
    def owed(self) -> int:
        """What all members have earned and were not paid."""
        return sum(account.pending + account.payable for account in self.members.values())


async def accounts(books: Books, tables: Tables) -> Accounts:
    """The accounts of everybody in a run. What is not on this machine is asked for where ``tables`` reaches others."""
    pot = Pot.fold(books.events)
    if pot.opened is None:
        return Accounts(books.run)
    keeper = Bookkeeper(books, pot, books.worked(), tables)
    live = [known.settled for known in pot.epochs]
    active = [settled for settled in live if settled.active_from <= books.now]
    payable, settled = await keeper.most(active, is_paid_out=True), await keeper.most(live, is_paid_out=False)
    certified = keeper.certified(await keeper.until(live[-1] if live else None)).amounts
    paid = list(_payments(books.events))
    evidence = keeper.evidence()
    found = {}
    for member in sorted({*certified, *settled, *payable, *pot.claimed, *evidence}):
        claimed = pot.claimed.get(member, 0)
        claimable = max(payable.get(member, 0), claimed)
        in_root = max(settled.get(member, 0), claimable)
        found[member] = Account(
            member,
            certified=max(certified.get(member, 0), in_root) - in_root,
            settled=in_root - claimable,
            payable=claimable - claimed,
            paid=claimed,
            active=active[-1] if active else None,
            root=live[-1] if live else None,
            work=tuple(evidence.get(member, ())),
            payments=tuple(payment for who, payment in paid if who == member),
        )
    return Accounts(books.run, found, tuple(keeper.missing), pays=True)


def _payments(events: Iterable[LedgerEvent]) -> Iterator[tuple[MemberId, Payment]]:
    for event in events:
        if isinstance(event, RewardClaimed):
            at = event.at.block_number
            yield event.member, Payment(event.amount, event.epoch, event.transaction, at)

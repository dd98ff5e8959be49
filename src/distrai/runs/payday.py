"""After a run: what its members earned is claimed for them, the rest goes back, and the training record is closed.

The peers are not needed any more, only the ledger; everything asks it first, so that all of this can be begun again.
Waits are short ones: what takes longer is left, and said with the command that goes on with it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distrai.ledger.errors import LedgerRefused
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotState
from distrai.ledger.training_records import Result
from distrai.protocol.amounts import format_amount
from distrai.protocol.ledger_events import Certified, RollCalled, Started
from distrai.protocol.money_events import EpochKilled, EpochSettled, MemberAllowed, Refunded
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.recipe import ResolvedRecipe
from distrai.runs.accounts import LABEL, Accounts, accounts
from distrai.runs.anchor import ledger_url
from distrai.runs.archive import Archive
from distrai.runs.bookkeeping import Books
from distrai.runs.claiming import Claim, claim_for, live_epochs
from distrai.runs.folder import RunFolder
from distrai.runs.recording import Recording
from distrai.runs.reward_tables import Tables
from distrai.runs.telling import TRUST
from distrai.runs.tills import Tills

Report = Callable[[dict[str, Any]], None]
NOT_FINISHED = "the run has not done all its rounds"
INTERRUPTED = "paying was interrupted"
SOON_S = 15
"""Ledger seconds that are waited for, until an epoch is active or a pot gives back what nobody earned."""
GRACE_S = 20.0
"""How much later than announced that may come."""
_LOOK_S = 0.25


@dataclass(frozen=True)
class Payday:
    """What the members of a run have, in base units, and how far paying them has come.

    ``waits``: what is not done yet, and why, in sentences. ``record`` is the number of the training record.
    """

    resolved: ResolvedRecipe
    earned: Mapping[MemberId, int]
    claimed: Mapping[MemberId, int]
    epochs: int
    funded: int
    refunded: int
    symbol: str
    record: int | None
    waits: tuple[str, ...] = ()
    external: bool = False

    @property
    def is_done(self) -> bool:
        """Whether everybody has what it earned, the rest went back, and the record is closed."""
        return not self.waits

    @property
    def money(self) -> dict[str, Any]:
        """What the summary says beside the members' amounts; those are whole tokens."""
        recipe, contracts = self.resolved.recipe, self.resolved.contracts
        rewards, stake = recipe.rewards, recipe.stake
        assert contracts is not None
        assert rewards is not None
        names = ("token", "stakes", "rewards", "records")
        return {
            "token": self.symbol,
            "decimals": contracts.decimals,
            "contracts": {name: "0x" + getattr(contracts, name).hex() for name in names},
            "price": rewards.price,
            "cap": rewards.cap,
            "min_round_seconds": rewards.min_round_seconds,
            "stake": stake.minimum if stake else None,
            "epochs": self.epochs,
            "label": TRUST,
            "unpaid": LABEL,
            "pending": self.amount(sum(self.earned.values()) - sum(self.claimed.values())),
            "funded": self.amount(self.funded),
            "refunded": self.amount(self.refunded),
            "record": self.record,
            "embedded": not self.external,
            "done": self.is_done,
            "waits": list(self.waits),
        }

    def amount(self, units: int) -> str:
        """Base units as whole tokens."""
        assert self.resolved.contracts is not None
        return format_amount(units, self.resolved.contracts.decimals)


@dataclass
class PayOffice:
    """Pays out one run. ``result`` is what its record is closed with; None leaves it open."""

    folder: RunFolder
    tills: Tills
    report: Report
    result: Result | None = None
    waits: list[str] = field(default_factory=list)

    async def settle_up(self) -> None:
        """Claim for everybody, take back what is left, close the record. What cannot be done soon is in ``waits``."""
        await self.tills.coins.settle()
        await self._claim_all()
        await self._refund()
        if self.result is not None:
            await Recording(self.tills, "auto", self.report).close(self.result)

    async def look(self) -> Payday:
        """What everybody has now."""
        tills = self.tills
        pot = await tills.pots.pot_of(tills.run)
        books = await self._accounts()
        record = await Recording(tills, "auto", self.report).record()
        refunds = await tills.events((Refunded,))
        live = live_epochs(await tills.events((EpochSettled, EpochKilled)))
        return Payday(
            tills.resolved,
            {member: account.earned for member, account in books.members.items() if account.earned},
            {member: account.paid for member, account in books.members.items() if account.paid},
            epochs=len(live),
            funded=0 if pot is None else pot.funded,
            refunded=sum(event.amount for event in refunds),
            symbol=await tills.token.symbol(),
            record=None if record is None else record.number,
            waits=(*self.waits, *books.missing),
            external=self.folder.read().external,
        )

    async def _claim_all(self) -> None:
        tables, decimals = Tables.of_folder(self.folder), self.tills.contracts.decimals
        for member in await self._members():
            claim = await self._claim(member, tables)
            if claim.amount:
                self.report({"event": "claimed", **claim.to_json(decimals)})
            if claim.state not in ("paid", "nothing") and claim.why not in self.waits:
                self.waits.append(claim.why)

    async def _members(self) -> list[MemberId]:
        """Everybody who was ever let earn."""
        return sorted({event.member for event in await self.tills.events((MemberAllowed,))})

    async def _claim(self, member: MemberId, tables: Tables) -> Claim:
        """Claim for a member, as soon as what it earned can be paid if that is soon."""
        paid, tills = 0, self.tills
        end: float | None = None
        while True:
            claim = await claim_for(
                tills.index,
                tills.pots,
                tills.pots.domain,
                tills.run,
                member,
                tables,
                sync=tills.sync,
                finality=self._finality,
            )
            paid += claim.amount
            if claim.state not in ("waiting", "confirming") and not (
                claim.state == "nothing" and await self._is_shallow()
            ):
                break
            if end is None:
                end = await self._until(claim.payable_from or 0, "waiting until what was earned can be paid")
            if time.monotonic() >= end:
                break
            await asyncio.sleep(_LOOK_S)
        return replace(claim, amount=paid)

    @property
    def _finality(self) -> int:
        return self.tills.rewards.finality_blocks

    async def _is_shallow(self) -> bool:
        """Whether an epoch is settled in a block that is not final yet."""
        if not self._finality:
            return False
        kinds = (EpochSettled, EpochKilled)
        final = self.tills.index.events(kinds, self.tills.run, self._finality)
        return live_epochs(final) != live_epochs(await self.tills.events(kinds))

    async def _refund(self) -> None:
        """Take back what nobody earned."""
        tills = self.tills
        pot = await tills.pots.pot_of(tills.run)
        if pot is None:
            return
        if not pot.closed_at:
            self.waits.append("the last rounds are not settled yet, so the pot is still open")
            return
        if not await self._left_over(pot):
            return
        at = await tills.pots.refundable_at(tills.run)
        end = await self._until(at, "waiting until what nobody earned can go back")
        while True:
            try:
                amount = await tills.pots.refund(tills.run)
            except LedgerRefused as refusal:
                if refusal.name != "NotRefundable":
                    raise
            else:
                if amount:
                    told = format_amount(amount, tills.contracts.decimals)
                    self.report({"event": "refunded", "amount": told})
                return
            if time.monotonic() >= end:
                self.waits.append(f"what nobody earned goes back to the opener from {at} (ledger time) on")
                return
            await asyncio.sleep(_LOOK_S)

    async def _left_over(self, pot: PotState) -> int:
        """Base units that no live epoch declares."""
        settled = await self.tills.pots.epoch_of(self.tills.run, pot.live) if pot.live else None
        return pot.funded - pot.refunded - (settled.total if settled else 0)

    async def _until(self, ledger_time: int, what: str) -> float:
        """When to give up waiting for a time of the ledger: now, if it is far away. Seconds of this machine's clock."""
        left = ledger_time - await self.tills.pots.ledger_time()
        if left > SOON_S:
            return time.monotonic()
        if left > 0:
            self.report({"event": "waiting", "what": what, "seconds": left})
        return time.monotonic() + max(0, left) + GRACE_S

    async def _accounts(self) -> Accounts:
        """All members' accounts, as of the newest block."""
        tills = self.tills
        await tills.sync()
        events = tills.index.events(None, tills.run)
        heads = [
            event.at.block_number for event in events if isinstance(event, Certified | RollCalled | Started)
        ]
        books = Books(
            events=events,
            lists=dict(Archive(self.folder.archive).lists()),
            domain=tills.pots.domain,
            run=tills.run,
            now=await tills.pots.ledger_time(),
            head_time=(tills.index.block_time(max(heads)) or 0) if heads else 0,
        )
        return await accounts(books, Tables.of_folder(self.folder))


async def pay(
    folder: RunFolder, owner: NodeKey, report: Report, result: Result | None, *, undone: str = ""
) -> Payday | None:
    """Pay out the run in a folder; None if it has nothing to do with money. Raises NoRun, NoLedger or a LedgerError.

    ``undone``: why nobody is paid now; then this only looks.
    """
    recipe_hash = Hash(bytes.fromhex(folder.read().recipe_hash.removeprefix("0x")))
    resolved = Archive(folder.archive).recipe(recipe_hash)
    if resolved.contracts is None:
        return None
    async with ledger_url(folder) as url, Tills.opened(url, folder, resolved, owner) as tills:
        office = PayOffice(folder, tills, report, result)
        if undone:
            office.waits.append(undone)
        else:
            await office.settle_up()
        return await office.look()

"""Claiming: a member is paid what a settled epoch says that it earned, by whoever sends the transaction.

The ledger is the journal: it keeps what each member was paid, pays the difference only, and so nothing is paid twice,
whatever crashes, is said twice, comes late or is taken back. What was paid already is a result here and no error.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from distrai.ledger.errors import LedgerRefused, NotMined
from distrai.ledger.pots import PotsClient
from distrai.protocol.amounts import format_amount
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import EpochKilled, EpochSettled, RewardClaimed
from distrai.protocol.pot import Pot
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import rewards_proof
from distrai.protocol.typed_data import Domain
from distrai.runs.reward_tables import NoTable, Tables, WrongTable

NOTHING_EARNED = "this member has earned nothing that was not paid already, as far as epochs are settled"
State = Literal["paid", "confirming", "waiting", "nothing", "no-table", "unknown"]
"""``confirming``: paid in a block that is not final; ``unknown``: sent, and the node did not answer in time."""


class Events(Protocol):
    """What claiming needs of the index."""

    def events(
        self, kinds: Collection[type[LedgerEvent]] | None = None, run: int | None = None, finality: int = 0
    ) -> list[LedgerEvent]:
        """Events in ledger order, of blocks that are ``finality`` deep."""
        ...


@dataclass(frozen=True)
class Claim:
    """What came of claiming. Amounts are base units; ``amount`` is what this call brought, ``claimed`` all so far.

    ``transaction`` is the newest claim of the member on the ledger, ``payable_from`` (ledger time) when a root becomes
    active that is waited for. ``why`` says what to do where something is not paid.
    """

    state: State
    run: int
    member: MemberId
    amount: int = 0
    claimed: int = 0
    epoch: int | None = None
    transaction: Hash | None = None
    payable_from: int | None = None
    why: str = ""

    def to_json(self, decimals: int) -> dict[str, Any]:
        """As plain data; amounts in whole tokens."""
        return {
            "state": self.state,
            "run": self.run,
            "member": "0x" + self.member.hex(),
            "amount": format_amount(self.amount, decimals),
            "claimed": format_amount(self.claimed, decimals),
            "epoch": self.epoch,
            "transaction": None if self.transaction is None else "0x" + self.transaction.hex(),
            "payable_from": self.payable_from,
            "why": self.why,
        }


def live_epochs(events: Collection[LedgerEvent]) -> list[EpochSettled]:
    """The epochs of one run that are pending or active after these events, in order."""
    return [live.settled for live in Pot.fold(events).epochs]


async def claim_for(
    index: Events,
    pots: PotsClient,
    domain: Domain,
    run: int,
    member: MemberId,
    tables: Tables,
    *,
    sync: Callable[[], Awaitable[object]],
    finality: int = 0,
) -> Claim:
    """Pay a member what is payable by now. ``domain`` is the distributor's; ``sync`` brings ``index`` up to date.

    Of the live epochs in final blocks the one that gives it most is claimed by: the newest, unless captured seats left
    the member out of it. Where that one is not active yet, or its table is missing, the next best.
    Raises LedgerUnreachable, WrongChain or NodeError (too little gas) before anything was sent; all else is the result.
    """
    await sync()
    claimant = _Claimant(index, pots, domain, run, member, finality)
    claimed = (await pots.account_of(run, member)).claimed
    found, offers = await claimant.offers(
        live_epochs(index.events((EpochSettled, EpochKilled), run, finality)), tables
    )
    for settled, amounts in offers:
        if amounts.get(member, 0) <= claimed:
            found = _merged(found, replace(found, epoch=settled.epoch, why=NOTHING_EARNED))
            break
        outcome = await claimant.send(settled, amounts, claimed)
        found = _merged(found, outcome)
        if outcome.state in ("paid", "unknown"):
            break
    await sync()
    return await claimant.told(found)


Offer = tuple[EpochSettled, dict[MemberId, int]]
"""An epoch, and what it gives to whom."""


@dataclass(frozen=True)
class _Claimant:
    """One member's claims against one pot."""

    index: Events
    pots: PotsClient
    domain: Domain
    run: int
    member: MemberId
    finality: int

    async def offers(self, live: Sequence[EpochSettled], tables: Tables) -> tuple[Claim, list[Offer]]:
        """What can be claimed by, the best first, and what to tell if that is nothing.

        Peers are asked for tables back to the epoch that paid the member last; older ones count where they are here.
        """
        why = "no epoch of this run is settled yet: its seats sign the first"
        found, offers = Claim("nothing", self.run, self.member, why=why), list[Offer]()
        paid_by = max((event.epoch for event in self._claims(0)), default=0)
        for settled in reversed(live):
            looked_at = tables if settled.epoch >= paid_by else replace(tables, transport=None)
            try:
                offers.append((settled, (await looked_at.earnings(settled, self.domain)).amounts))
            except (NoTable, WrongTable) as error:
                if not offers:  # of a newer one is known what it gives
                    missing = replace(found, state="no-table", epoch=settled.epoch, why=_advice(error))
                    found = _merged(found, missing)
        offers.sort(key=lambda offer: (offer[1].get(self.member, 0), offer[0].epoch), reverse=True)
        return found, offers

    async def send(self, settled: EpochSettled, amounts: dict[MemberId, int], before: int) -> Claim:
        """Claim by an epoch: paid, whoever sent it first, or why not; ``before`` is what was paid until then."""
        epoch, amount = settled.epoch, amounts[self.member]
        proof = rewards_proof(self.domain, self.run, amounts, self.member)
        outcome = Claim("paid", self.run, self.member, epoch=epoch)
        try:
            payment = await self.pots.claim(self.run, epoch, self.member, amount, proof)
        except LedgerRefused as refused:
            if (why := _refusal(refused, settled)) is None:
                raise
            active_from = settled.active_from if refused.name == "NotActive" else None
            return replace(outcome, state="waiting", payable_from=active_from, why=why)
        except NotMined as error:
            if (now := (await self.pots.account_of(self.run, self.member)).claimed) >= amount:
                return replace(outcome, amount=now - before)
            return replace(outcome, state="unknown", why=f"{error}; claim again: nothing is paid twice")
        return replace(outcome, amount=payment.paid, transaction=payment.transaction)

    async def told(self, found: Claim) -> Claim:
        """``found`` with what the ledger says was paid until now."""
        claims, final = self._claims(0), self._claims(self.finality)
        claimed = (await self.pots.account_of(self.run, self.member)).claimed
        newest = claims[-1].transaction if claims else found.transaction
        found = replace(found, claimed=claimed, transaction=newest)
        if found.state == "nothing" and claimed:
            found = replace(found, state="paid", why="")
        if found.state == "paid" and (not final or final[-1].claimed < claimed):
            why = f"paid in a block that is not {self.finality} blocks deep yet: if it is taken back, claim again"
            found = replace(found, state="confirming", why=why)
        return found

    def _claims(self, finality: int) -> list[RewardClaimed]:
        events = self.index.events((RewardClaimed,), self.run, finality)
        return [item for item in events if isinstance(item, RewardClaimed) and item.member == self.member]


def _merged(newer: Claim, older: Claim) -> Claim:
    """What came of an epoch and of the next best: what stands in the first one's way is told, unless a claim is out."""
    if newer.state == "nothing" or older.state == "unknown":
        return older
    if older.state == "paid":
        return replace(newer, amount=older.amount, transaction=older.transaction)
    return newer


def _advice(error: Exception) -> str:
    if isinstance(error, NoTable):
        return f"{error}: claim while a peer of the run is online, or from the folder of one"
    return (
        f"{error}. Nobody can be paid by it: the guardian can kill the epoch, and its seats settle it again"
    )


def _refusal(refused: LedgerRefused, settled: EpochSettled) -> str | None:
    """What a refusal means that leaves everything as it was; None for one that nobody expects."""
    match refused.name:
        case "NotActive":
            return f"epoch {settled.epoch} is not active yet: payable from {settled.active_from} (ledger time) on"
        case "NotAllowed":
            return "the owner of the run never let this member earn: ask it to allow the member"
        case "AboveTotal":
            return (
                f"later epochs were claimed by others already: this is payable when an epoch after {settled.epoch} is "
                "active"
            )
        case "NotLive" | "NotInRoot":
            return f"epoch {settled.epoch} was killed or taken back just now: its seats settle it again"
        case _:
            return None

"""A run's pot: every claim within its root, every root by the lists or its table, every sum as the contract has it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from distrai.ledger.pots import PotsClient
from distrai.protocol.errors import MissingList
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import EpochKilled, EpochSettled, MemberAllowed, RewardClaimed
from distrai.protocol.pot import LiveEpoch, Pot, compute_epoch
from distrai.protocol.primitives import MemberId
from distrai.protocol.rewards import Earnings, WorkedRound
from distrai.protocol.typed_data import Domain
from distrai.runs.ledger_checks.findings import Findings, shown
from distrai.runs.ledger_checks.heads import Course, is_marked
from distrai.runs.reward_tables import NoTable, Tables, WrongTable

BlockTime = Callable[[int], int]
"""The time of a block."""


@dataclass
class PotCheck:
    """What came of checking one pot. ``recomputed`` roots follow from lists, ``by_table`` from their tables alone."""

    pot: Pot
    findings: Findings
    earnings: list[Earnings | None] = field(default_factory=list)
    """What each live epoch pays, as far as it is known."""
    recomputed: int = 0
    by_table: int = 0

    @property
    def paid(self) -> int:
        """What members were paid, by events."""
        return sum(self.pot.claimed.values())

    @property
    def owed(self) -> int:
        """What live epochs declare and nobody claimed."""
        return self.pot.total - self.paid

    @property
    def held(self) -> int:
        """What the contract must still have of this pot."""
        return self.pot.escrow - self.paid


def check_pot(
    course: Course,
    events: Sequence[LedgerEvent],
    worked: Sequence[WorkedRound],
    tables: Tables,
    domain: Domain,
    block_time: BlockTime,
) -> PotCheck:
    """Check what the events say of a run's pot against each other and against lists and tables."""
    check = PotCheck(Pot.fold(events), Findings(f"run {course.run}"))
    for marked in check.pot.marks.values():
        check.findings.need(
            is_marked(course, marked.mark.round, marked.head, marked.mark.worked),
            f"the mark of round {marked.mark.round} names {shown(marked.head)} with {marked.mark.worked} non-empty "
            "rounds, and its certificates say otherwise",
        )
    if check.pot.opened is None:
        is_quiet = not (check.pot.funded or check.pot.marks or check.pot.allowances or check.pot.epochs)
        check.findings.need(is_quiet, "no event opens its pot, and others speak of it: an event is missing")
        check.earnings = [None] * len(check.pot.epochs)
        return check
    first = check.pot.opened.after_round
    check.findings.need(first in check.pot.marks, f"its pot opens after round {first}, which no event marks")
    for live, known in enumerate(check.pot.epochs):
        number, last = known.settled.epoch, known.settled.last_round
        check.findings.need(
            last in check.pot.marks,
            f"epoch {number} ends with round {last}, which no event marks: one is missing",
        )
        check.earnings.append(_earnings(check, live, known, worked, tables, domain))
    _check_claims(check, events, block_time)
    return check


def _earnings(
    check: PotCheck,
    live: int,
    known: LiveEpoch,
    worked: Sequence[WorkedRound],
    tables: Tables,
    domain: Domain,
) -> Earnings | None:
    """What an epoch pays: by the lists, or by its table."""
    settled, run = known.settled, known.settled.run
    name = f"epoch {settled.epoch}"
    published: Earnings | None = None
    try:
        published = tables.held(settled, domain)
    except WrongTable as error:
        check.findings.need(False, str(error))
    except NoTable:
        pass
    before = check.earnings[live - 1] if live else Earnings()
    try:
        earlier = replace(check.pot, epochs=check.pot.epochs[:live])
        marked = check.pot.marks[settled.last_round]
        if before is None:
            raise MissingList("nobody knows what the epoch before pays")
        due = compute_epoch(earlier, before, worked, marked, domain, run)
    except (MissingList, KeyError):
        if published is not None:
            check.by_table += 1
            check.findings.same(f"the total of {name}", settled.total, published.total)
        return published
    check.recomputed += 1
    told, should = (settled.root, settled.total), (due.epoch.root, due.epoch.total)
    if check.findings.need(
        told == should,
        f"{name} has the root {shown(told[0])} with a total of {told[1]}, and the certified lists lead to "
        f"{shown(should[0])} with {should[1]}: two thirds of the seats signed a false root"
        + _differences(published, due.earnings),
    ):
        check.findings.need(
            settled.data_hash == due.epoch.data_hash,
            f"{name} names another table ({shown(settled.data_hash)}) than its lists lead to "
            f"({shown(due.epoch.data_hash)})",
        )
        return due.earnings
    return published


def _differences(published: Earnings | None, due: Earnings) -> str:
    if published is None:
        return ""
    paid, earned = published.amounts, due.amounts
    wrong = [member for member in sorted({*paid, *earned}) if paid.get(member, 0) != earned.get(member, 0)]
    said = ", ".join(
        f"member {member.hex()[:12]} gets {paid.get(member, 0)} instead of {earned.get(member, 0)}"
        for member in wrong[:8]
    )
    return f" ({said})" if said else ""


def _check_claims(check: PotCheck, events: Sequence[LedgerEvent], block_time: BlockTime) -> None:
    """Every claim is of an active root, is its member's leaf, and goes on from what was paid before."""
    live: list[EpochSettled] = []
    claimed: dict[MemberId, int] = {}
    for event in events:
        match event:
            case EpochSettled():
                _follows(check.findings, live, event)
                live.append(event)
            case EpochKilled():
                del live[event.live :]
            case RewardClaimed():
                _check_claim(check, live, claimed, event, block_time)
                claimed[event.member] = event.claimed
            case _:
                pass


def _follows(findings: Findings, live: Sequence[EpochSettled], event: EpochSettled) -> None:
    due = len(live) + 1
    findings.need(
        event.epoch == due, f"epoch {event.epoch} landed where epoch {due} was due: an event is missing"
    )


def _check_claim(
    check: PotCheck,
    live: Sequence[EpochSettled],
    claimed: Mapping[MemberId, int],
    event: RewardClaimed,
    block_time: BlockTime,
) -> None:
    need, member = check.findings.need, event.member
    name = f"the claim {shown(event.transaction)} of member {member.hex()[:12]}"
    before = claimed.get(member, 0)
    need(
        event.amount == event.claimed - before and event.amount > 0,
        f"{name} paid {event.amount}, from {before} to {event.claimed}: an event is missing or was changed",
    )
    if not need(0 < event.epoch <= len(live), f"{name} is of epoch {event.epoch}, which was not live"):
        return
    settled, at = live[event.epoch - 1], event.at.block_number
    time = block_time(at)
    need(
        time >= settled.active_from,
        f"{name} came at {time}, and epoch {event.epoch} is active from {settled.active_from}",
    )
    paid = sum(claimed.values()) + event.amount
    need(
        paid <= settled.total,
        f"{name} brings all claims to {paid}, and epoch {event.epoch} has {settled.total}",
    )
    known = check.earnings[event.epoch - 1] if event.epoch <= len(check.earnings) else None
    if known is not None:
        leaf = known.amounts.get(member, 0)
        need(
            event.claimed == leaf,
            f"{name} says {event.claimed}, and its leaf in epoch {event.epoch} is {leaf}",
        )


async def check_pot_views(
    check: PotCheck, course: Course, events: Sequence[LedgerEvent], pots: PotsClient, block: int
) -> None:
    """See that the contract holds what the events lead to."""
    pot, run, same = check.pot, course.run, check.findings.same
    state = await pots.pot_of(run, block=block)
    if state is None or pot.opened is None:
        check.findings.need(
            (state is None) == (pot.opened is None), "the pot is there by events or by views, not by both"
        )
        return
    closing = pot.closing
    same("the pot's owner", pot.opened.owner, state.owner)
    same("the pot's terms", pot.terms, state.terms)
    same("what came into the pot", pot.funded, state.funded)
    same("what went back", pot.refunded, state.refunded)
    same("what members were paid", check.paid, state.paid)
    same("live epochs", len(pot.epochs), state.live)
    same("killed epochs", pot.kills, state.kills)
    same("when the pot was closed", 0 if closing is None else closing.time, state.closed_at)
    same("the paid rounds at closing", 0 if closing is None else closing.worked_max, state.worked_max)
    for known in pot.epochs:
        settled = known.settled
        held = await pots.epoch_of(run, settled.epoch, block=block)
        told = (settled.root, settled.total, settled.active_from, settled.last_round)
        same(f"epoch {settled.epoch}", told, (held.root, held.total, held.active_from, held.last_round))
    for number, marked in pot.marks.items():
        same(
            f"the mark of round {number}",
            (marked.head, marked.mark),
            await pots.mark_of(run, number, block=block),
        )
    may = {allowance.member for allowance in pot.allowances if allowance.last_round is None}
    same("members that may earn", len(may), state.members)
    for member in sorted(
        {event.member for event in events if isinstance(event, MemberAllowed)} | set(pot.claimed)
    ):
        account = await pots.account_of(run, member, block=block)
        told_account = (member in may, pot.claimed.get(member, 0))
        same(f"the account of member {member.hex()[:12]}", told_account, (account.allowed, account.claimed))

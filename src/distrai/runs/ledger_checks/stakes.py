"""Stakes: rebuilt from events, compared with what the contract holds, member by member."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distrai.ledger.stakes import StakesClient, StakeState, StakeTerms
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import ExitAsked, Slashed, Staked, StakeTermsSet, Unbonding, Withdrawn
from distrai.protocol.primitives import Hash, MemberId
from distrai.runs.ledger_checks.findings import Findings
from distrai.runs.ledger_checks.pots import BlockTime

NOTHING = StakeState(0, 0, 0, 0)


@dataclass
class StakesCheck:
    """What the events say of a run's stakes."""

    run: int
    findings: Findings
    terms: StakeTerms = field(default_factory=lambda: StakeTerms(0, 0))
    held: dict[MemberId, StakeState] = field(default_factory=dict)
    faults: list[Hash] = field(default_factory=list)
    """The places of the faults that were punished."""
    seized: int = 0
    """What slashed members lost and no challenger gets, ever."""

    @property
    def total(self) -> int:
        """What the contract must have for these members."""
        return sum(item.staked + item.unbonding for item in self.held.values())


def check_stakes(run: int, events: Sequence[LedgerEvent], block_time: BlockTime) -> StakesCheck:
    """Walk through a run's events."""
    check = StakesCheck(run, Findings(f"run {run}"))
    for event in events:
        _take(check, event, block_time)
    return check


def _take(check: StakesCheck, event: LedgerEvent, block_time: BlockTime) -> None:
    need = check.findings.need
    match event:
        case StakeTermsSet(minimum=minimum, fault_max=fault_max):
            check.terms = StakeTerms(minimum, fault_max)
        case Staked(member=member, amount=amount, staked=staked):
            before = check.held.get(member, NOTHING)
            need(
                before.staked + amount == staked,
                f"member {_name(member)} staked {amount}, and then has {staked}",
            )
            check.held[member] = StakeState(staked, before.unbonding, before.release_at, 0)
        case ExitAsked(member=member):
            before, at = check.held.get(member, NOTHING), block_time(event.at.block_number)
            check.held[member] = StakeState(before.staked, before.unbonding, before.release_at, at)
        case Unbonding(member=member, unbonding=unbonding, release_at=release_at):
            before = check.held.get(member, NOTHING)
            need(
                before.staked + before.unbonding == unbonding,
                f"member {_name(member)} unbonds {unbonding}, and has {before.staked + before.unbonding}",
            )
            check.held[member] = StakeState(0, unbonding, release_at, 0)
        case Withdrawn(member=member, amount=amount):
            before = check.held.get(member, NOTHING)
            need(
                before.unbonding == amount, f"member {_name(member)} withdrew {amount} of {before.unbonding}"
            )
            check.held[member] = StakeState(before.staked, 0, 0, before.asked_at)
        case Slashed():
            _slash(check, event)
        case _:
            pass


def _slash(check: StakesCheck, event: Slashed) -> None:
    before = check.held.get(event.member, NOTHING)
    lost = event.from_staked + event.from_unbonding
    check.findings.need(
        event.from_staked <= before.staked
        and event.from_unbonding <= before.unbonding
        and event.reward <= lost,
        f"member {_name(event.member)} lost {lost}, which is more than it had, or than the reward of {event.reward}",
    )
    check.findings.need(
        event.place not in check.faults, f"one fault of member {_name(event.member)} cost twice"
    )
    check.faults.append(event.place)
    check.seized += lost - event.reward
    left = before.staked - event.from_staked, before.unbonding - event.from_unbonding
    check.held[event.member] = StakeState(*left, before.release_at, before.asked_at)


async def check_stake_views(
    check: StakesCheck, members: Iterable[MemberId], stakes: StakesClient, block: int
) -> int:
    """See that the contract holds what the events lead to; gives what it owes to challengers.

    ``members`` take or took part: of them, too, nothing is held that no event tells.
    """
    check.findings.same("the terms of stakes", check.terms, await stakes.terms_of(check.run, block=block))
    quiet = members if check.terms.minimum or check.held else ()
    for member in sorted({*check.held, *quiet}):
        told = check.held.get(member, NOTHING)
        held = await stakes.stake_of(check.run, member, block=block)
        check.findings.same(f"the stake of member {_name(member)}", told, held)
        active = told.staked >= check.terms.minimum > 0 and not told.asked_at
        is_active = await stakes.is_active(check.run, member, block=block)
        check.findings.same(f"whether member {_name(member)} counts", active, is_active)
    owed = 0
    for place in check.faults:
        case = await stakes.case_of(place, block=block)
        if check.findings.need(case is not None, f"the contract knows nothing of the fault 0x{place.hex()}"):
            owed += 0 if case is None else case.reward
    return owed


def _name(member: MemberId) -> str:
    return member.hex()[:12]

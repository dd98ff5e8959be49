"""Tokens: what moved in and out of the contracts is what claims, refunds and stakes say, and what is owed is there."""

from collections import Counter
from collections.abc import Iterable, Sequence

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.money_logs import TokenMoved
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import Funded, Refunded, RewardClaimed, Slashed, Staked, Withdrawn
from distrai.protocol.primitives import Address
from distrai.runs.ledger_checks.findings import Findings, shown

Moves = Counter[tuple[int, bytes, int]]
"""In which block, from or to whom, how many base units; and how often."""


def _moves(found: Iterable[tuple[LedgerEvent, Address, int]]) -> Moves:
    return Counter((event.at.block_number, bytes(whom), amount) for event, whom, amount in found if amount)


def check_moves(deployment: Deployment, events: Sequence[LedgerEvent]) -> list[str]:
    """What of the token's transfers no event explains, and what of the events no transfer."""
    findings = Findings("token")
    moved = [event for event in events if isinstance(event, TokenMoved)]
    _check_claims(findings, deployment.rewards, events, moved)
    _check_pots(findings, deployment.rewards, events, moved)
    _check_stakes(findings, deployment.stakes, events, moved)
    return findings.problems


def _check_pots(
    findings: Findings, rewards: Address, events: Sequence[LedgerEvent], moved: Sequence[TokenMoved]
) -> None:
    """What came into pots and went out of them is what moved; nothing else went out."""
    came = _moves((event, event.sender, event.amount) for event in moved if event.to == rewards)
    left = _moves((event, event.to, event.amount) for event in moved if event.sender == rewards)
    funded = _moves((event, event.sender, event.amount) for event in events if isinstance(event, Funded))
    paid = _moves(
        (event, event.to, event.amount) for event in events if isinstance(event, RewardClaimed | Refunded)
    )
    for block, whom, amount in (funded - came).elements():
        findings.need(False, f"{amount} should have come from {shown(whom)} in block {block}, and did not")
    for block, whom, amount in (paid - left).elements():
        findings.need(False, f"{amount} should have gone to {shown(whom)} in block {block}, and did not")
    for block, whom, amount in (left - paid).elements():
        findings.need(
            False,
            f"{amount} went from the distributor to {shown(whom)} in block {block}; no claim or refund says so",
        )


def _check_stakes(
    findings: Findings, stakes: Address, events: Sequence[LedgerEvent], moved: Sequence[TokenMoved]
) -> None:
    """What was staked came, from whomever; what was withdrawn went. (Who collects rewards is no event here.)"""
    came = _moves((event, stakes, event.amount) for event in moved if event.to == stakes)
    left = _moves((event, event.to, event.amount) for event in moved if event.sender == stakes)
    staked = _moves((event, stakes, event.amount) for event in events if isinstance(event, Staked))
    withdrawn = _moves((event, event.to, event.amount) for event in events if isinstance(event, Withdrawn))
    for block, _, amount in (staked - came).elements():
        findings.need(False, f"a stake of {amount} should have come in block {block}, and did not")
    for block, whom, amount in (withdrawn - left).elements():
        findings.need(
            False, f"a stake of {amount} should have gone to {shown(whom)} in block {block}, and did not"
        )


def _check_claims(
    findings: Findings, rewards: Address, events: Sequence[LedgerEvent], moved: Sequence[TokenMoved]
) -> None:
    """Each claim paid what it says, in its own transaction."""
    there = {(event.transaction, event.to, event.amount) for event in moved if event.sender == rewards}
    for event in events:
        if isinstance(event, RewardClaimed):
            findings.need(
                (event.transaction, event.to, event.amount) in there,
                f"the claim {shown(event.transaction)} says that {shown(event.to)} got {event.amount}, and no transfer "
                "says so",
            )


async def check_balances(
    deployment: Deployment,
    events: Sequence[LedgerEvent],
    token: TokenClient,
    stakes: StakesClient,
    *,
    pots_hold: int,
    stakes_hold: int,
    block: int,
) -> list[str]:
    """Balances are what moved, and at least what is owed; ``stakes_hold``: stakes, unbonding, rewards of reporters."""
    findings = Findings("token")
    moved = [event for event in events if isinstance(event, TokenMoved)]
    slashed = sum(e.from_staked + e.from_unbonding - e.reward for e in events if isinstance(e, Slashed))
    seized = int((await stakes.read("seized", block=block))[0])
    findings.need(seized <= slashed, f"the treasury is owed {seized}, and only {slashed} were ever seized")
    owed = {deployment.rewards: ("the distributor", pots_hold)}
    owed[deployment.stakes] = ("the stake manager", stakes_hold + seized)
    for holder, (name, needed) in owed.items():
        balance = await token.balance(holder, block=block)
        flowed = sum(event.amount for event in moved if event.to == holder)
        flowed -= sum(event.amount for event in moved if event.sender == holder)
        findings.same(f"what {name} has", flowed, balance)
        findings.need(balance >= needed, f"{name} has {balance} and owes {needed}")
    return findings.problems

"""Tokens: what moved in and out of the contracts is what claims, refunds and stakes say, and what is owed is there."""

from collections import Counter
from collections.abc import Sequence

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.money_logs import TokenMoved
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import Funded, Refunded, RewardClaimed, Slashed, Staked, Withdrawn
from distrai.protocol.primitives import Address
from distrai.runs.ledger_checks.findings import Findings, shown

Move = tuple[int, bytes, int]
"""In which block, from or to whom, how much."""


def check_moves(deployment: Deployment, events: Sequence[LedgerEvent]) -> list[str]:
    """What of the token's transfers no event explains, and what of the events no transfer."""
    findings = Findings("token")
    moved = [event for event in events if isinstance(event, TokenMoved)]
    rewards, stakes = deployment.rewards, deployment.stakes
    _check_claims(findings, rewards, events, moved)
    paid = [
        (event.at.block_number, event.to, event.amount)
        for event in events
        if isinstance(event, RewardClaimed)
    ]
    back = [
        (event.at.block_number, event.to, event.amount) for event in events if isinstance(event, Refunded)
    ]
    _check_out(findings, "the distributor", rewards, [*paid, *back], moved)
    funds = [
        (event.at.block_number, event.sender, event.amount) for event in events if isinstance(event, Funded)
    ]
    came = Counter(
        (event.at.block_number, bytes(event.sender), event.amount) for event in moved if event.to == rewards
    )
    for missing in (Counter(funds) - came).elements():
        findings.need(
            False, f"{missing[2]} that came into a pot in block {missing[0]} were never transferred"
        )
    staked = Counter((event.at.block_number, event.amount) for event in events if isinstance(event, Staked))
    came_in = Counter((event.at.block_number, event.amount) for event in moved if event.to == stakes)
    for block, amount in (staked - came_in).elements():
        findings.need(amount == 0, f"a stake of {amount} in block {block} was never transferred")
    out = Counter(
        (event.at.block_number, bytes(event.to), event.amount) for event in moved if event.sender == stakes
    )
    for event in events:
        if isinstance(event, Withdrawn):
            move = (event.at.block_number, bytes(event.to), event.amount)
            findings.need(
                out[move] > 0,
                f"a stake of {event.amount} was withdrawn in block {move[0]}, and nothing moved",
            )
    return findings.problems


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


def _check_out(
    findings: Findings, what: str, holder: Address, explained: Sequence[Move], moved: Sequence[TokenMoved]
) -> None:
    """Nothing left a contract but by what its events say."""
    left = Counter(
        (event.at.block_number, bytes(event.to), event.amount) for event in moved if event.sender == holder
    )
    for block, to, amount in (
        left - Counter((at, bytes(who), sum_) for at, who, sum_ in explained)
    ).elements():
        findings.need(
            False,
            f"{amount} went from {what} to {shown(to)} in block {block}; no claim or refund says so",
        )
    for block, to, amount in (
        Counter((at, bytes(who), sum_) for at, who, sum_ in explained) - left
    ).elements():
        findings.need(
            False, f"{amount} should have gone from {what} to {shown(to)} in block {block}, and did not"
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

"""What is looked at before a user's tokens go to contracts that a stranger's run names.

A link is text from anybody: its recipe names contracts, its owner names terms, and its node says what the chain is. So
the code of every contract must be the one that is shipped here, the terms on the ledger must be the recipe's, and what
is still believed (how much, where, by whose node) is said before anything is signed.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from distrai.ledger.deployment import check
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.stakes import StakesClient
from distrai.protocol.amounts import format_amount
from distrai.runs.money import NoMoney, RunMoney
from distrai.runs.telling import duration, printable
from distrai.runs.wallet import show_address

UNBOND_S_MAX = 60 * 86_400
"""A stake that takes longer to come back is as good as lost."""
GAS_WEI_MAX = 5 * 10**16
"""What the gas of one command may cost: the node that says the price may be anybody's."""
Confirm = Callable[[str, str], None]
"""Takes what is to be said yes to, and the amount; raises Unconfirmed."""


class Unsafe(ValueError):
    """The run is not what it says it is: nothing was sent."""


class Unconfirmed(ValueError):
    """Nobody said yes to a stake."""


@dataclass(frozen=True)
class Asked:
    """What a seat of a run stakes, and what follows from that. Base units, seconds."""

    minimum: int
    fault_max: int
    unbond_seconds: int


def check_stakes(money: RunMoney) -> None:
    """Raise NoMoney for a run that asks for no stake."""
    if money.resolved.contracts is None or money.resolved.recipe.stake is None:
        pays = "pays nothing and " if money.resolved.contracts is None else ""
        raise NoMoney(
            f"run {money.run} ({money.resolved.recipe.name}) {pays}asks for no stake: there is none to put in or to "
            "take out"
        )


async def asked_stake(money: RunMoney, stakes: StakesClient) -> Asked:
    """What the run asks for, after a look at the contracts that ask. Raises NoMoney, Unsafe or a LedgerError."""
    check_stakes(money)
    link, at = money.link, money.contracts
    findings = await check(link.rpc, Deployment.named_by(at, link.chain_id, link.registry))
    if findings:
        raise Unsafe(
            f"nothing was staked, and nothing should be: {'; '.join(findings)}. Ask who opened the run, or stay away"
        )
    stake = money.resolved.recipe.stake
    assert stake is not None
    said, terms = stake.units(at.decimals), await stakes.terms_of(money.run)
    if said != (terms.minimum, terms.fault_max):
        shown = format_amount(terms.minimum, at.decimals)
        raise Unsafe(
            f"nothing was staked: the recipe asks for {stake.minimum} tokens and {stake.fault_max} for a fault, and "
            f"the ledger for {shown} and {format_amount(terms.fault_max, at.decimals)}; wait until the owner has "
            "opened the run to the end, or stay away"
        )
    (unbond,) = await stakes.read("unbondSeconds")
    if unbond > UNBOND_S_MAX:
        raise Unsafe(
            f"nothing was staked: it would come back {unbond // 86_400} days after it was asked for, and more than "
            f"{UNBOND_S_MAX // 86_400} is not accepted"
        )
    return Asked(terms.minimum, terms.fault_max, int(unbond))


def question(money: RunMoney, asked: Asked, amount: int, symbol: str) -> str:
    """What a user says yes to."""
    decimals, link = money.contracts.decimals, money.link
    name = printable(f"{symbol} in run {money.run} ({money.resolved.recipe.name})")
    return (
        f"Stake {format_amount(amount, decimals)} {name} at "
        f"{show_address(money.contracts.stakes)} on chain {link.chain_id}, as the node {link.rpc} says?\n"
        f"It comes back {duration(asked.unbond_seconds)} after you asked for it. Two different updates for one place "
        f"cost up to {format_amount(asked.fault_max, decimals)} each time."
    )


def confirm_on_terminal(text: str, amount: str) -> None:
    """Ask whoever is at the terminal. Raises Unconfirmed where the answer is no, or nobody is there."""
    if not sys.stdin.isatty():
        raise Unconfirmed(
            f"say how much you stake, with --amount {amount}, or --yes for what the run asks for"
        )
    print(text, file=sys.stderr)
    if input("yes or no: ").strip().lower() not in ("y", "yes"):
        raise Unconfirmed("nothing was staked")


def confirmed(text: str, amount: str) -> None:
    """For whoever said yes before."""

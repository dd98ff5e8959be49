"""What a peer stakes for its seat before it joins, where its run asks for that.

The tokens come from the account of the member's first key, which controls it: whoever starts the peer sends them there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.keys import NodeKey
from distrai.ledger.stakes import StakesClient, StakeTerms
from distrai.peer.link import Link
from distrai.peer.plan import Plan
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import MemberId
from distrai.protocol.recipe import ResolvedRecipe

LOOK_S = 1.0


class UnstakedRun(ValueError):
    """A run does not hold its members to the stake that its recipe promises."""


Answer = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Asks the ledger until it answers: ``Participation._answer``."""


async def ensure_staked(
    plan: Plan, link: Link, member: MemberId, key: NodeKey, answer: Answer, emit: Callable[..., None]
) -> None:
    """Stake what a seat needs, unless that is done; tokens that are missing are asked for and waited for.

    Raises UnstakedRun where the ledger asks for another stake than the recipe.
    """
    recipe, contracts = plan.resolved.recipe, plan.resolved.contracts
    if recipe.stake is None or contracts is None:
        return
    minimum, fault_max = recipe.stake.units(contracts.decimals)
    stakes = await answer(lambda: StakesClient.connect(link.rpc, contracts.stakes, link.chain_id, key))
    asked = False
    try:
        if await answer(lambda: stakes.terms_of(link.run)) != StakeTerms(minimum, fault_max):
            raise UnstakedRun(
                "the ledger asks for another stake, or takes more of it for a fault, than the recipe says: do not join "
                "this run"
            )
        while not await answer(lambda: stakes.is_active(link.run, member)):
            try:
                added = await answer(lambda: stakes.stake_up_to(link.run, member, minimum))
            except LedgerRefused as refusal:
                if refusal.name != "ERC20InsufficientBalance":
                    raise
                if not asked:
                    amount = format_amount(minimum, contracts.decimals)
                    emit("stake-needed", member=member.hex(), address=key.address.hex(), amount=amount)
                asked = True
                await asyncio.sleep(LOOK_S)
            else:
                emit("staked", member=member.hex(), amount=format_amount(added, contracts.decimals))
    finally:
        await stakes.close()


async def check_gate(ledger: LedgerClient, run: int, resolved: ResolvedRecipe) -> None:
    """Raise UnstakedRun where members may join without the stake that the recipe asks for: the ledger decides that."""
    if resolved.recipe.stake is None or resolved.contracts is None:
        return
    if await ledger.stakes_of(run) != resolved.contracts.stakes:
        raise UnstakedRun(
            "the recipe asks for a stake, and the ledger lets members join without it: the run was not opened as its "
            "recipe says, so do not join it"
        )

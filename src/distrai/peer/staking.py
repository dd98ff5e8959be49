"""What a peer stakes for its seat before it joins, where its run asks for that.

The tokens come from the account of the member's first key, which controls it: whoever starts the peer sends them there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from distrai.ledger.errors import LedgerRefused
from distrai.ledger.keys import NodeKey
from distrai.ledger.stakes import StakesClient
from distrai.peer.link import Link
from distrai.peer.plan import Plan
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import MemberId

LOOK_S = 1.0
T = TypeVar("T")
Answer = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Asks the ledger until it answers: ``Participation._answer``."""


async def ensure_staked(
    plan: Plan, link: Link, member: MemberId, key: NodeKey, answer: Answer, emit: Callable[..., None]
) -> None:
    """Stake what a seat needs, unless that is done; tokens that are missing are asked for and waited for."""
    recipe, contracts = plan.resolved.recipe, plan.resolved.contracts
    if recipe.stake is None or contracts is None:
        return
    minimum, _ = recipe.stake.units(contracts.decimals)
    stakes = await answer(lambda: StakesClient.connect(link.rpc, contracts.stakes, link.chain_id, key))
    asked = False
    try:
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

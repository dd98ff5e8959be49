"""A peer stakes for its seat before it joins: with tokens that it waits for, and by the terms of the recipe alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from distrai.network.store import BlobStore
from distrai.peer import staking
from distrai.peer.link import Link
from distrai.peer.plan import Plan
from distrai.peer.staking import UnstakedRun, ensure_staked
from distrai.protocol.recipe import parse_recipe
from distrai.runs.folder import RunFolder
from distrai.runs.resolving import resolve
from helpers.archives import recipe_of
from helpers.paid_runs import REWARDS, Clock, PaidRun, Player, open_run, opened

TOKEN = 10**18
STAKE = {"minimum": "10", "fault_max": "1"}


async def answered(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


@asynccontextmanager
async def staked_run(base: Path, fault_max: int) -> AsyncIterator[tuple[PaidRun, Plan, Player]]:
    """A run that nobody has joined yet, and a member whose controller is its key."""
    folder, texts = RunFolder(base / "run"), base / "texts"
    for path in (folder.path, texts):
        path.mkdir()
    async with opened(folder, Clock()) as world:
        recipe = parse_recipe(recipe_of(texts) | {"rewards": REWARDS, "stake": STAKE})
        resolved = resolve(recipe, texts, BlobStore(folder.archive / "blobs"), world.contracts)
        world.run = await open_run(world, resolved)
        await world.stakes.set_terms(world.run, 10 * TOKEN, fault_max)
        await world.ledger.require_stake(world.run, world.contracts.stakes)
        (player,) = await world.register([0])
        yield world, Plan.of(resolved), player


async def stake(world: PaidRun, plan: Plan, player: Player, tell: Callable[[str], None]) -> None:
    link = Link(world.url, world.deployment.chain_id, world.deployment.registry, world.run)
    await ensure_staked(plan, link, player.member, player.key, answered, lambda event, **_: tell(event))


def test_it_waits_for_the_tokens_and_stakes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staking, "LOOK_S", 0.01)
    told: list[str] = []

    async def go() -> None:
        async with staked_run(tmp_path, TOKEN) as (world, plan, player):
            asked = asyncio.Event()

            def tell(event: str) -> None:
                told.append(event)
                asked.set()

            at_work = asyncio.create_task(stake(world, plan, player, tell))
            async with asyncio.timeout(60):
                await asked.wait()
                await world.token.transfer(player.address, 15 * TOKEN)
                await at_work
            assert await world.stakes.is_active(world.run, player.member)
            await stake(world, plan, player, tell)
            assert await world.token.balance(player.address) == 5 * TOKEN

    asyncio.run(go())
    assert told == ["stake-needed", "staked"]


def test_it_stakes_nothing_where_the_ledger_takes_more_than_the_recipe_says(tmp_path: Path) -> None:
    async def go() -> None:
        async with staked_run(tmp_path, 2 * TOKEN) as (world, plan, player):
            await world.token.transfer(player.address, 15 * TOKEN)
            with pytest.raises(UnstakedRun, match="than the recipe says"):
                await stake(world, plan, player, print)
            assert await world.token.balance(player.address) == 15 * TOKEN

    asyncio.run(go())

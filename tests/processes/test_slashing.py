"""One of four real peers signs two Updates for one place: the others report it, it loses stake and its seat."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.stakes import StakesClient
from distrai.protocol.primitives import MemberId
from distrai.runs.folder import RunFolder
from helpers.local_runs import Drive, tiny_recipe
from helpers.nursery import LIAR, Nursery

pytestmark = pytest.mark.processes
LIES = "peer-3"
TOKEN = 10**18
TIMES = {"count": 1000, "d0_s": 0.2, "cut_s": 60.0, "hard_s": 120.0, "stall_seconds": 400}
REWARDS = {
    "price": "1000",
    "cap": "0.3",
    "max_members": 4,
    "min_round_seconds": 1,
    "epoch_rounds": 4,
    "funded_rounds": 8,
}


async def stakes_of(folder: RunFolder, members: dict[str, str]) -> dict[str, int]:
    link, deployment = folder.link(), Deployment.read(folder.deployment)
    client = await StakesClient.connect(link.rpc, deployment.stakes, link.chain_id)
    try:
        states = {
            name: await client.stake_of(link.run, MemberId(bytes.fromhex(member)))
            for name, member in members.items()
        }
    finally:
        await client.close()
    return {name: state.staked for name, state in states.items()}


async def slash(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    texts, folder = new_folder("slashed-texts"), RunFolder(new_folder("slashed"))
    recipe = tiny_recipe(
        texts,
        rounds=TIMES,
        membership={"peers": 4, "min_seats": 3},
        rewards=REWARDS,
        stake={"minimum": "10", "fault_max": "1"},
    )
    environment = defaultdict(dict, {LIES: {LIAR: "equivocates"}})
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts, environment=environment.__getitem__) as drive:
            observer = drive.observer
            await drive.until(lambda: observer.of("started"), "the start")
            members = observer.of("started")[0]["members"]
            await drive.until(
                lambda: any(event["own"] for event in observer.of("fault-reported")), "a report of the fault"
            )
            await drive.until(
                lambda: any(members[LIES] in event["drops"] for event in observer.of("applied")),
                "the end of the liar's seat",
            )
            stakes = await stakes_of(folder, members)
            assert not await drive.stop()
    assert stakes.pop(LIES) <= 9 * TOKEN
    assert set(stakes.values()) == {10 * TOKEN}
    reported = {event["member"] for event in observer.of("fault-reported")}
    assert reported == {members[LIES]}
    after = max(event["round"] for event in observer.of("applied") if members[LIES] in event["drops"])
    for event in observer.of("applied", "peer-0"):
        assert event["round"] <= after + 1 or members[LIES] not in event["members"]


def test_two_updates_for_one_place_cost_stake_and_seat(
    nursery: Nursery, new_folder: Callable[[str], Path]
) -> None:
    asyncio.run(slash(nursery, new_folder))

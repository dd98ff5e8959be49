"""A replay recomputes what members earned, and names the epoch whose root or table is another."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.pot import Pot, recompute
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import MILLION, Earnings, reward_table
from distrai.runs.verify import Verdict, verify
from helpers.paid_runs import PRICE, PaidRun, Scene

WAGE = 256 * PRICE
ROUNDS_OF = (6, 7, 7, 1)
"""Rounds of each author of the scene."""


def verdict(scene: Scene, head: str | None = None) -> Verdict:
    return verify(scene.folder, head, lambda number, updates: None)


def change(scene: Scene, play: Callable[[PaidRun], Awaitable[Any]]) -> None:
    """Change what is on the ledger."""

    async def run() -> None:
        async with scene.opened() as world:
            await play(world)

    asyncio.run(run())


def test_a_replay_recomputes_what_was_earned(paid: Scene) -> None:
    told = verdict(paid).to_json()
    assert (told["ok"], told["rounds"], told["epochs"]) == (True, 8, 2)
    assert told["earned"] == {
        player.member.hex(): f"0.{count * WAGE // MILLION:018}".rstrip("0")
        for player, count in zip(paid.people, ROUNDS_OF, strict=True)
    }


def test_without_a_ledger_a_trusted_head_is_replayed_as_before(scene: Scene) -> None:
    head = "0x" + verdict(scene).replayed.head.hex()  # type: ignore[union-attr]
    shutil.rmtree(scene.folder.ledger)
    told = verdict(scene, head).to_json()
    assert told["ok"] and "earned" not in told
    assert verdict(scene).to_json()["rule"] == "NoLedger"


def conspiracy(
    scene: Scene, changes: Callable[[dict[MemberId, int]], dict[MemberId, int]], **also: Any
) -> None:
    """The seats kill the second epoch's root by another one that pays what they like."""

    async def play(world: PaidRun) -> None:
        pot = Pot.fold(await world.events())
        amounts = recompute(pot, world.worked(), world.domain, world.run)[-1].earnings.amounts
        await world.conspire(world.run, changes(amounts), **also)

    change(scene, play)


def test_a_false_root_is_named_with_its_epoch(scene: Scene) -> None:
    liar = scene.author(0).member
    conspiracy(scene, lambda amounts: amounts | {liar: amounts[liar] + 9})
    told = verdict(scene).to_json()
    assert (told["ok"], told["culprit"], told["rule"], told["round"]) == (False, "epoch 3", "WrongRoot", 8)
    assert "the certified lists lead to" in told["why"]


def test_a_root_that_leaves_somebody_out_is_false_too(scene: Scene) -> None:
    """The total is right: only who gets it is another."""
    honest = verdict(scene).payouts
    assert honest is not None
    liar, robbed = scene.author(0).member, scene.author(1).member
    due = dict(honest.earned)
    due[liar] += due.pop(robbed)
    conspiracy(scene, lambda _: due)
    told = verdict(scene).to_json()
    assert (told["culprit"], told["rule"]) == ("epoch 3", "WrongRoot")


def test_another_table_than_the_lists_lead_to_is_named(scene: Scene) -> None:
    honest = verdict(scene).payouts
    assert honest is not None
    conspiracy(scene, lambda _: dict(honest.earned), data_hash=Hash(b"\1" * 32))
    told = verdict(scene).to_json()
    assert (told["culprit"], told["rule"]) == ("epoch 3", "WrongTable")


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_table_that_is_not_in_the_folder_is_named(scene: Scene, how: str) -> None:
    async def name(world: PaidRun) -> None:
        names.append(Pot.fold(await world.events()).epochs[0].settled.data_hash)

    names: list[Hash] = []
    change(scene, name)
    store = BlobStore(scene.folder.archive / "blobs")
    blob = BlobRef(names[0], store.manifest(names[0])[0])
    if how == "missing":
        store.delete(blob)
    else:
        store.path_of(blob).write_bytes(reward_table(1, 1, Earnings()).to_bytes().ljust(blob.size, b"\0"))
    told = verdict(scene).to_json()
    assert (told["ok"], told["culprit"], told["rule"]) == (False, "epoch 1", "NoTable")


def test_a_killed_epoch_is_no_root_any_more(scene: Scene) -> None:
    change(scene, lambda world: world.pots.kill(world.run, 2))
    told = verdict(scene).to_json()
    assert (told["ok"], told["epochs"]) == (True, 1)
    assert told["earned"] == verdict(scene).to_json()["earned"]

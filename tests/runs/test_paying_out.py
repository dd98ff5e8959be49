"""Paying a run out: dying after every transaction pays nobody twice, and what cannot be paid soon is said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from distrai.ledger.sender import Sender
from distrai.ledger.training_records import Result, Stage
from distrai.protocol.money_events import EpochSettled, Refunded, RewardClaimed
from distrai.protocol.primitives import Hash
from distrai.runs.archive import Archive
from distrai.runs.payday import PayOffice
from distrai.runs.recording import Recording
from distrai.runs.tills import Tills
from helpers.paid_runs import PaidRun, Scene

RESULT = Result(Hash(b"\x01" * 32), Hash(b"\x02" * 32), 100, 300, 4)


class Died(BaseException):
    """The process was killed after its transaction was mined."""


@asynccontextmanager
async def tills_of(world: PaidRun) -> AsyncIterator[Tills]:
    name = Hash(bytes.fromhex(world.folder.read().recipe_hash[2:]))
    resolved = Archive(world.folder.archive).recipe(name)
    async with Tills.opened(world.url, world.folder, resolved, world.owner) as tills:
        yield tills


def test_an_opener_that_dies_after_every_transaction_pays_everybody_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, dying, told = Sender.send, False, []

    async def send_and_die(self: Sender, *arguments: Any, **settings: Any) -> Any:
        receipt = await send(self, *arguments, **settings)
        if dying:
            raise Died
        return receipt

    monkeypatch.setattr(Sender, "send", send_and_die)

    async def go() -> None:
        nonlocal dying
        async with scene.opened() as world:
            async with tills_of(world) as tills:
                await Recording(tills, "cpu", told.append).open()
                await tills.pots.close_pot(world.run)
            world.wait(1000)
            dying, deaths = True, 0
            while deaths < 60:
                async with tills_of(world) as tills:
                    try:
                        await PayOffice(world.folder, tills, told.append, RESULT).settle_up()
                    except Died:
                        deaths += 1
                    else:
                        break
            assert deaths == 4 + 1 + 4, "claims, refund, stages of the record and its end"
            await check(world)

    async def check(world: PaidRun) -> None:
        async with tills_of(world) as tills:
            payday = await PayOffice(world.folder, tills, told.append).look()
            events = await world.events()
            settled = [event for event in events if isinstance(event, EpochSettled)][-1]
            claims = [event for event in events if isinstance(event, RewardClaimed)]
            assert sum(event.amount for event in claims) == settled.total == sum(payday.claimed.values())
            for player in world.people:
                paid = payday.claimed.get(player.member, 0)
                assert await world.token.balance(player.payout) == paid
            (refund,) = [event for event in events if isinstance(event, Refunded)]
            assert (payday.refunded, payday.funded) == (refund.amount, refund.amount + settled.total)
            record = await tills.records.get(1)
            assert (record.stage, record.result) == (Stage.CLOSED, RESULT)
            assert payday.is_done

    asyncio.run(go())


def test_what_is_not_active_yet_is_left_and_said(scene: Scene) -> None:
    told: list[dict[str, Any]] = []

    async def go() -> None:
        async with scene.opened() as world:
            async with tills_of(world) as tills:
                office = PayOffice(world.folder, tills, told.append)
                await office.settle_up()
                payday = await office.look()
            assert not payday.is_done
            assert "payable from" in payday.waits[0]
            assert "still open" in payday.waits[-1]
            events = await world.events()
            settled = [event.total for event in events if isinstance(event, EpochSettled)]
            assert sum(payday.claimed.values()) == settled[0], "what was active; the rest waits"
            assert payday.money["pending"] != "0"
            assert (payday.money["label"], payday.money["done"]) == ("trusted", False)

    asyncio.run(go())
    assert [event["event"] for event in told] == ["claimed"] * 2, "the others had theirs"

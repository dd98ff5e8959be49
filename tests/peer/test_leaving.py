"""Leaving takes until no head counts on the member, and no longer than is sensible."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from distrai.ledger.errors import LedgerRefused, LedgerUnreachable
from distrai.peer import leaving
from distrai.peer.identity import Timing
from distrai.peer.leaving import Leaving
from distrai.protocol.lists import Trainer
from helpers.rounds import authors, started

PEOPLE = authors(4)
ME = PEOPLE[1]
ROUNDS = 20


class World:
    """A member with a seat, a ledger that answers as it is told to, and everything that is said."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.answers: list[Exception] = []
        self.asked = 0
        standing = started(PEOPLE)
        self.engine: Any = SimpleNamespace(
            standing=standing, identity=SimpleNamespace(member=ME.member), run=standing.run
        )
        rules = SimpleNamespace(timing=Timing(0.3, 1.0, 2.0), rounds=ROUNDS)
        plan: Any = SimpleNamespace(rules=rules)
        telemetry: Any = SimpleNamespace(emit=lambda event, **facts: self.told.append(event))
        self.leaving = Leaving(self.engine, self, plan, telemetry)  # type: ignore[arg-type]

    async def leave(self, run: int, member: bytes) -> None:
        assert (run, member) == (self.engine.standing.run, ME.member)
        self.asked += 1
        if self.answers:
            raise self.answers.pop(0)

    def stand(self, **changes: Any) -> None:
        self.engine.standing = replace(self.engine.standing, **changes)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "POLL_S", 0.0)
    monkeypatch.setattr(leaving, "LEDGER_RETRY_S", 0.0)


def others(trainers: tuple[Trainer, ...]) -> tuple[Trainer, ...]:
    return tuple(trainer for trainer in trainers if trainer.member != ME.member)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_goes_on_until_seat_and_work_are_over() -> None:
    world, asked = World(), asyncio.Event()
    task = asyncio.create_task(world.leaving.when(asked))
    await turns()
    assert world.asked == 0 and world.told == []
    asked.set()
    await turns()
    assert (world.asked, world.told, task.done()) == (1, ["leaving"], False)
    now = world.engine.standing
    world.stand(next_trainers=others(now.next_trainers))
    await turns()
    world.stand(seats=tuple(seat for seat in now.seats if seat.member != ME.member))
    await turns()
    assert not task.done(), "its update may still count in the next round"
    world.stand(trainers=others(now.trainers))
    await asyncio.wait_for(task, 60)
    assert world.told == ["leaving", "left"]


async def test_asks_again_while_the_ledger_is_away_and_takes_no_for_an_answer() -> None:
    world, asked = World(), asyncio.Event()
    world.answers = [LedgerUnreachable("away"), LedgerUnreachable("away"), LedgerRefused("NotJoined")]
    world.stand(seats=(), trainers=(), next_trainers=())
    asked.set()
    await world.leaving.when(asked)
    assert world.asked == 3 and world.told[-1] == "left"


async def test_a_run_that_is_over_counts_on_nobody() -> None:
    world, asked = World(), asyncio.Event()
    world.stand(round=ROUNDS)
    asked.set()
    await world.leaving.when(asked)
    assert world.told[-1] == "left"


async def test_gives_up_if_nobody_drops_the_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = World(), asyncio.Event()
    assert world.leaving.patience_s == 60.0, "never less, though rounds take seconds here"
    monkeypatch.setattr(leaving, "PATIENCE_S_MIN", 0.01)
    monkeypatch.setattr(leaving, "PATIENCE_ROUNDS", 0)
    asked.set()
    await asyncio.wait_for(world.leaving.when(asked), 60)
    assert world.told[-1] == "not-dropped"

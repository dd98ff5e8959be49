"""Catching up as a stranger: when to join, where lists come from, and when only a newer snapshot helps."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from distrai.peer.checkpoint import Checkpoint, Landing
from distrai.peer.events import Event, ListArrived
from distrai.peer.guest import FellBehind, Guest, Pace
from distrai.peer.snapshots import Blob, Shown, Snapshot
from distrai.protocol.ledger_events import Certified, Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.standing import advance
from helpers.messages import Author, named
from helpers.rounds import RULES, RUN, authors, listing, next_body, roster_of, started

PEOPLE, ME = authors(4), Author(7)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_joins_when_the_rest_is_applied_by_the_time_that_joining_takes_effect() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.saw(10)
    clock.now += 30
    pace.saw(12)  # ten seconds a round, with the one that is on
    assert pace.round_s == 10
    assert pace.is_near(4) and not pace.is_near(5), "applying takes half a round's time until that is known"
    pace.applied(5)
    clock.now += 6
    pace.applied(8)
    assert pace.replay_s == 2 and pace.round_s == 12
    assert pace.is_near(12) and not pace.is_near(13)
    assert pace.is_near(0)


class World:
    """A guest with a stand-in for everything around it."""

    def __init__(self) -> None:
        self.clock, self.posted, self.joins, self.asked = Clock(), [], 0, 0
        before = started(PEOPLE)
        certified = listing(before, PEOPLE)
        self.certified = certified
        body = next_body(before, updates_root=certified.updates_root)
        event = Certified(Position(3, 0, named("block")), body, body.head)
        following = SimpleNamespace(pending=[], landing=Landing(event))
        self.engine: Any = SimpleNamespace(
            following=following,
            standing=before,
            roster=roster_of(PEOPLE),
            rules=SimpleNamespace(run=RULES),
            identity=SimpleNamespace(member=ME.member),
        )
        self.after = advance(before, body, certified, roster_of(PEOPLE))
        self.shown: dict[Any, Shown] = {}
        self.lists: dict[int, CertifiedList] = {1: certified}
        self.store: Any = SimpleNamespace(checkpoints=lambda: [Checkpoint(before)])
        self.pace = Pace(self.clock)
        self.guest = Guest(
            self.engine,
            self.store,
            self._newcomer(),
            self._directory(),
            self.pace,
            self._post,
            self._join,
            self._tell,
        )

    def _newcomer(self) -> Any:
        async def ask(roster: Any) -> None:
            self.asked += 1

        async def wanted(body: Any, people: int, keys: Any) -> CertifiedList | None:
            assert keys is not None
            return self.lists.get(body.round)

        def learn(records: Any, roster: Any) -> None:
            assert list(records) == [b"record"], "whom the peer knows already is asked as well"

        circle = SimpleNamespace(
            ask=ask,
            learn=learn,
            endpoints={},
            pruned_through=lambda: min(
                (min(s.round for s in each.snapshots) for each in self.shown.values()), default=0
            ),
            snapshots=lambda: [(snapshot, []) for each in self.shown.values() for snapshot in each.snapshots],
        )
        return SimpleNamespace(circle=circle, list=wanted)

    def _pruned_through(self) -> int:
        return min((min(s.round for s in each.snapshots) for each in self.shown.values()), default=0)

    def _directory(self) -> Any:
        return SimpleNamespace(introduce=lambda endpoint: None, records=lambda count: (b"record",))

    async def _post(self, event: Event) -> None:
        self.posted.append(event)

    async def _join(self) -> None:
        self.joins += 1

    def _tell(self, event: str, **facts: Any) -> None:
        pass

    def show(self, number: int) -> None:
        snapshot = Snapshot(number, named(f"head {number}"), Blob(named("state"), 5))
        self.shown[PEOPLE[0].member] = Shown(RUN, (snapshot,), (), ())

    async def supply(self) -> None:
        await self.guest._supply()


@pytest.fixture
def world() -> World:
    return World()


async def test_a_stranger_gets_lists_from_what_peers_show(world: World) -> None:
    await world.supply()
    assert world.posted == [] and world.asked == 1
    await world.supply()
    assert world.posted == [ListArrived(world.certified)]
    world.engine.following.landing = None
    await world.supply()
    assert world.asked == 1


async def test_a_member_asks_by_messages_first(world: World) -> None:
    world.engine.roster[ME.member] = ME.address
    await world.supply()
    world.clock.now += 10
    await world.supply()
    assert world.asked == 0
    world.clock.now += 15
    await world.supply()
    assert world.asked == 1


async def test_gives_up_when_nobody_keeps_what_comes_next(world: World) -> None:
    del world.lists[1]
    await world.supply()  # nobody answers: that says nothing
    world.clock.now += 1
    world.show(1)
    with pytest.raises(FellBehind):
        await world.supply()


async def test_is_patient_while_an_older_snapshot_is_shown(world: World) -> None:
    del world.lists[1]
    world.show(0)
    for _ in range(10):
        world.clock.now += 1
        await world.supply()
    invented, newer = named("h"), world.engine.following.landing.event.head
    world.shown[PEOPLE[1].member] = Shown(RUN, (Snapshot(4, invented, Blob(named("s"), 5)),), (), ())
    world.clock.now += 121
    await world.supply()  # else a liar could make it begin again, and again
    world.shown[PEOPLE[2].member] = Shown(RUN, (Snapshot(4, newer, Blob(named("s"), 5)),), (), ())
    world.clock.now += 1
    with pytest.raises(FellBehind):
        await world.supply()


async def test_joins_once_and_passes_on_what_made_it_impossible(world: World) -> None:
    world.pace.saw(50)
    world.guest._see_to_joining(50)
    assert world.guest._joining is None
    for _ in range(3):
        world.guest._see_to_joining(0)
        await asyncio.sleep(0)
    assert world.joins == 1

    async def refuse() -> None:
        raise ValueError("not invited")

    other = World()
    other.guest.join = refuse  # type: ignore[method-assign]
    other.guest._see_to_joining(0)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="not invited"):
        other.guest._see_to_joining(0)


async def test_the_ledgers_newest_round_counts_though_its_event_is_not_read_yet(world: World) -> None:
    """Else a guest that has just begun would seem to be done."""
    assert world.guest.remaining() == 1
    world.pace.saw(40)
    assert world.guest.remaining() == 40

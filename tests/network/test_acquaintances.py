import asyncio

from distrai.network.acquaintances import Acquaintances, AskingLimits
from distrai.protocol.primitives import MemberId

ONE, TWO = MemberId(b"1" * 32), MemberId(b"2" * 32)
LIMITS = AskingLimits(in_flight=2, at_once=3, slow_s=1.0)


class Asking:
    """Tasks that each take a turn with a holder and keep it until they are let go."""

    def __init__(self, known: Acquaintances) -> None:
        self.known, self.at_work, self.order = known, set[int](), list[int]()
        self.tasks: list[asyncio.Task[None]] = []
        self.gates: list[asyncio.Event] = []

    def ask(self, member: MemberId) -> None:
        self.gates.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._ask(member, len(self.tasks))))

    async def _ask(self, member: MemberId, number: int) -> None:
        async with self.known.turn(member):
            self.at_work.add(number)
            self.order.append(number)
            await self.gates[number].wait()
            self.at_work.remove(number)

    async def settle(self) -> set[int]:
        for _ in range(10):
            await asyncio.sleep(0)
        return self.at_work


async def test_a_stranger_is_asked_once_at_a_time_and_a_fast_one_more_often() -> None:
    asking = Asking(Acquaintances(LIMITS))
    for _ in range(5):
        asking.ask(ONE)
    assert await asking.settle() == {0}
    asking.known.learn(ONE, 0.1)
    asking.gates[0].set()
    assert await asking.settle() == {1, 2}
    asking.known.learn(ONE, 9.0)
    asking.gates[1].set()
    assert await asking.settle() == {2}, "it became slow"
    asking.gates[2].set()
    assert await asking.settle() == {3} and asking.order == [0, 1, 2, 3]
    for gate in asking.gates:
        gate.set()
    await asyncio.gather(*asking.tasks)


async def test_who_stops_waiting_takes_no_turn_with_it() -> None:
    asking = Asking(Acquaintances(LIMITS))
    for _ in range(4):
        asking.ask(ONE)
    await asking.settle()
    asking.tasks[1].cancel()  # waits
    asking.gates[0].set()
    await asking.settle()
    asking.tasks[2].cancel()  # has the turn
    assert await asking.settle() == {2, 3} - {2} | {2} & asking.at_work
    asking.gates[3].set()
    await asyncio.wait(asking.tasks)
    asking.ask(ONE)
    assert 4 in await asking.settle()
    asking.gates[4].set()
    await asking.tasks[4]


async def test_all_together_are_bounded() -> None:
    known = Acquaintances(LIMITS)
    asking = Asking(known)
    for member in (ONE, TWO):
        known.learn(member, 0.1)
        for _ in range(2):
            asking.ask(member)
    assert len(await asking.settle()) == LIMITS.at_once
    for gate in asking.gates:
        gate.set()
    await asyncio.gather(*asking.tasks)


def test_the_last_chunks_count_most() -> None:
    known = Acquaintances(LIMITS)
    assert known.usual_s(ONE) == 0.0
    known.learn(ONE, 4.0)
    assert known.usual_s(ONE) == 4.0
    known.learn(ONE, 2.0)
    assert known.usual_s(ONE) == 3.0 and known.usual_s(TWO) == 0.0


def test_where_many_fetches_run_each_asks_more_seldom() -> None:
    known = Acquaintances(LIMITS)
    assert known.crowd == 1.0
    fetches = [known.fetch() for _ in range(16)]
    for fetch in fetches:
        fetch.__enter__()
    assert known.crowd == 2.0
    for fetch in fetches:
        fetch.__exit__(None, None, None)
    assert known.crowd == 1.0

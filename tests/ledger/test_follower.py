"""Following events on a chain that grows, lags, is replaced, and is out of reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.ledger.errors import Reorganised
from distrai.ledger.follower import TRAIL_BLOCKS, Batch, Cursor, follow, read_on
from distrai.protocol.ledger_events import LedgerEvent
from helpers.chains import RUN, FakeLedger


async def read_all(ledger: FakeLedger, cursor: Cursor) -> tuple[list[LedgerEvent], Cursor]:
    events: list[LedgerEvent] = []
    while (batch := await read_on(ledger, RUN, cursor)) is not None:
        events += batch.events
        cursor = batch.cursor
    return events, cursor


@given(first=st.integers(1, 5_000), then=st.lists(st.integers(0, 200), max_size=5))
async def test_every_event_comes_once_in_order(first: int, then: list[int]) -> None:
    ledger = FakeLedger([0] * first)
    events, cursor = await read_all(ledger, Cursor(0))
    for more in then:
        ledger.branches += [0] * more
        found, cursor = await read_all(ledger, cursor)
        events += found
    assert events == [ledger.event(number) for number in range(0, len(ledger.branches), 2)]
    assert len(cursor.trail) == min(TRAIL_BLOCKS, len(ledger.branches))


@given(length=st.integers(2, 150), depth=st.integers(1, 70), new=st.integers(0, 150))
async def test_a_reorg_is_found_where_the_chains_part(length: int, depth: int, new: int) -> None:
    ledger = FakeLedger([0] * length)
    _, cursor = await read_all(ledger, Cursor(0))
    depth = min(depth, length - 1)
    ledger.branches = [0] * (length - depth) + [1] * new
    if (
        new == 0 or len(ledger.branches) <= cursor.trail[0].number
    ):  # so far not to be told from a node that lags
        assert await read_on(ledger, RUN, cursor) is None
        ledger.branches += [1] * (depth + 1)
    with pytest.raises(Reorganised) as found:
        await read_on(ledger, RUN, cursor)
    expected = length - depth - 1
    oldest = cursor.trail[0].number
    assert found.value.to_block == (expected if expected >= oldest else max(0, oldest - 1))
    if expected >= oldest:
        events, _ = await read_all(ledger, cursor.back_to(found.value.to_block))
        assert events == [
            ledger.event(number) for number in range(expected + 1, len(ledger.branches)) if number % 2 == 0
        ]


async def test_a_node_that_lags_is_no_reorg() -> None:
    ledger = FakeLedger([0] * 100)
    _, cursor = await read_all(ledger, Cursor(0))
    for visible in (98, 50, 2):
        ledger.visible = visible
        assert await read_on(ledger, RUN, cursor) is None


async def test_an_idle_poll_is_one_call() -> None:
    ledger = FakeLedger([0] * 10)
    _, cursor = await read_all(ledger, Cursor(0))
    ledger.calls = 0
    assert await read_on(ledger, RUN, cursor) is None
    assert ledger.calls == 1


async def test_a_block_replaced_at_the_same_height_is_found() -> None:
    ledger = FakeLedger([0] * 10)
    _, cursor = await read_all(ledger, Cursor(0))
    ledger.branches[-1] = 1
    with pytest.raises(Reorganised) as found:
        await read_on(ledger, RUN, cursor)
    assert found.value.to_block == 8


async def test_events_of_a_block_that_was_replaced_meanwhile_are_not_given_out() -> None:
    class Moving(FakeLedger):
        async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
            self.branches[-1] = 1
            return await super().events(run, first, last)

    ledger = Moving([0] * 11)
    assert await read_on(ledger, RUN, Cursor(0)) is None


async def test_following_waits_for_a_ledger_that_is_down() -> None:
    ledger = FakeLedger([0] * 5)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            ledger.fails = 3
            ledger.branches += [0] * 2
        assert len(slept) < 10

    batches: list[Batch] = []
    async for batch in follow(ledger, RUN, Cursor(0), 1.0, sleep):
        batches.append(batch)
        if len(batches) == 2:
            break
    assert [event.at.block_number for batch in batches for event in batch.events] == [0, 2, 4, 6]
    assert len(slept) == 4
    assert all(0.5 < seconds < 1.5 for seconds in slept)


async def test_a_follower_learns_that_there_is_no_history() -> None:
    ledger = FakeLedger([0] * 2)
    async for batch in follow(ledger, RUN, Cursor(1), 1.0):
        assert batch.events == ()
        assert batch.caught_up
        break

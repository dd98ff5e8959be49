"""The ledger's events to an engine: each once, in order, whatever node and chain do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.ledger.errors import LedgerUnreachable, Reorganised
from distrai.peer.feed import LedgerFeed
from distrai.protocol.ledger_events import LedgerEvent, Position
from helpers.chains import RUN, FakeLedger, block_hash


def numbers(events: list[LedgerEvent]) -> list[tuple[int, int]]:
    return [(event.at.block_number, event.at.log_index) for event in events]


async def test_goes_on_after_the_last_event_that_is_known_though_its_block_has_more() -> None:
    ledger = FakeLedger([0] * 7, logs=3)
    feed = LedgerFeed(ledger, RUN, Position(4, 1, block_hash(4, 0)))
    assert numbers(await feed.next()) == [(4, 2), (6, 0), (6, 1), (6, 2)]
    assert await feed.next() == []
    ledger.branches += [0] * 2
    assert numbers(await feed.next()) == [(8, 0), (8, 1), (8, 2)]


@pytest.mark.parametrize("lost", [2, 4])
async def test_a_restart_tells_it_again_from_where_the_engine_went_back_to(lost: int) -> None:
    ledger = FakeLedger([0] * 7)
    feed = LedgerFeed(ledger, RUN)
    told = await feed.next()
    assert numbers(told) == [(0, 0), (2, 0), (4, 0), (6, 0)]
    feed.restart(told[lost // 2].at)
    assert await feed.next() == told[lost // 2 + 1 :]
    feed.restart(None)
    assert await feed.next() == told


@pytest.mark.parametrize("height", [5, 9])
async def test_a_block_that_was_replaced_while_the_peer_was_down_is_noticed_though_no_trail_is_left(
    height: int,
) -> None:
    known = Position(4, 0, block_hash(4, 0))
    ledger = FakeLedger([0] * 3 + [1] * (height - 3))
    feed = LedgerFeed(ledger, RUN, known)
    for _ in range(2):  # until somebody says where to go on
        with pytest.raises(Reorganised) as found:
            await feed.next()
        assert found.value.to_block == 3
    feed.restart(Position(2, 0, block_hash(2, 0)))
    assert numbers(await feed.next()) == [(number, 0) for number in range(4, height, 2)]


async def test_a_node_that_lags_behind_the_checkpoint_is_waited_for() -> None:
    ledger = FakeLedger([0] * 9, visible=3)
    feed = LedgerFeed(ledger, RUN, Position(4, 0, block_hash(4, 0)))
    assert await feed.next() == [] == await feed.next()
    ledger.visible = 6
    assert numbers(await feed.next()) == [(6, 0)]
    ledger.visible = 5  # another node answers
    assert await feed.next() == []
    ledger.visible = None
    assert numbers(await feed.next()) == [(8, 0)]


async def test_a_ledger_that_goes_away_in_the_middle_of_a_long_history_loses_no_event() -> None:
    ledger = FakeLedger([0] * 5001)  # three batches
    feed = LedgerFeed(ledger, RUN)

    class Away(FakeLedger):
        async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
            found = await super().events(run, first, last)
            self.fails = 2 if first < 4000 else 0  # after this batch
            return found

    feed.ledger = away = Away(ledger.branches)
    refused, told = 0, []
    while not told:
        try:
            told = await feed.next()
        except LedgerUnreachable:
            refused += 1
    assert refused == 4 and told == away.all_events()


async def test_a_reorg_during_a_long_history_forgets_what_was_read_and_not_told() -> None:
    class Moving(FakeLedger):
        async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
            found = await super().events(run, first, last)
            self.branches[1990:] = [1] * (len(self.branches) - 1990)
            return found

    moving = Moving([0] * 2500)
    feed = LedgerFeed(moving, RUN)
    with pytest.raises(Reorganised) as found:
        await feed.next()
    assert found.value.to_block == 1989
    feed.ledger = FakeLedger(moving.branches)
    feed.restart(None)
    assert await feed.next() == FakeLedger(moving.branches).all_events()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("grow", "fork", "lag", "fail", "look", "restart")),
            st.integers(1, 40),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=25,
    )
)
async def test_in_the_end_exactly_the_events_of_the_chain_were_told(
    story: list[tuple[str, int, int]],
) -> None:
    """An engine keeps every tenth event as a head: after a reorg it goes back to the newest one that is still there."""
    ledger, told = FakeLedger([0], logs=2), list[LedgerEvent]()
    feed = LedgerFeed(ledger, RUN)

    async def look() -> None:
        nonlocal told
        try:
            told += await feed.next()
        except LedgerUnreachable:
            pass
        except Reorganised as reorg:
            told = [event for event in told if event.at.block_number <= reorg.to_block]
            told = told[: len(told) // 10 * 10]
            feed.restart(told[-1].at if told else None)

    for branch, (what, count, depth) in enumerate(story, 1):
        match what:
            case "grow":
                ledger.branches += [ledger.branches[-1]] * count
            case "fork":
                stays = max(1, len(ledger.branches) - depth)
                ledger.branches = ledger.branches[:stays] + [branch] * count
            case "lag":
                ledger.visible = max(0, len(ledger.branches) - depth)
            case "fail":
                ledger.fails = count % 4
            case "restart":  # of the peer: it has what it was told, and no trail
                feed = LedgerFeed(ledger, RUN, told[-1].at if told else None)
            case _:
                ledger.visible = None
        await look()
    ledger.visible, ledger.fails = None, 0
    # A chain that became shorter cannot be told from a node that lags, until it is as long as it was.
    longest = max(event.at.block_number for event in (*told, ledger.event(0)))
    ledger.branches += [ledger.branches[-1]] * (longest + 1)
    for _ in range(longest + 2):  # one head back at each look, at worst
        await look()
        if told == ledger.all_events():
            return
    raise AssertionError(f"{numbers(told)} instead of {numbers(ledger.all_events())}")

"""The index against a chain that is reorganised: whatever happens, it tells what the chain as it is now has to tell."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distrai.ledger.errors import BadAnswer, LedgerUnreachable
from distrai.ledger.index import LedgerIndex, TokenMoved, WrongIndex
from distrai.ledger.money_logs import RawLog
from distrai.protocol.ledger_events import KeyChanged
from distrai.protocol.money_events import Funded, PotClosed, RecordClosed, RecordOpened, StageReached, Staked
from distrai.protocol.primitives import Address, Hash, MemberId
from helpers.log_chains import (
    RECORDS,
    REGISTRY,
    REWARDS,
    STAKES,
    TOKEN,
    Asked,
    LogChain,
    deployment,
    fail,
    log_of,
)

MEMBER = MemberId(b"m" * 32)
OWNER = bytes(19) + b"\x01"


def funded(run: int, amount: int) -> RawLog:
    return log_of(
        "RewardsDistributor", REWARDS, "Funded", run=run, amount=amount, funded=amount, **{"from": OWNER}
    )


def staked(run: int, amount: int) -> RawLog:
    return log_of("StakeManager", STAKES, "Staked", run=run, member=MEMBER, amount=amount, staked=amount)


def closed(run: int) -> RawLog:
    return log_of("RewardsDistributor", REWARDS, "PotClosed", run=run, lastRound=7, workedMax=5)


def moved(amount: int) -> RawLog:
    return log_of("Token", TOKEN, "Transfer", to=REWARDS, value=amount, **{"from": OWNER})


def key_changed() -> RawLog:
    arguments = {"member": MEMBER, "key": OWNER, "rotations": 1}
    return log_of("RunRegistry", REGISTRY, "NodeKeyChanged", **arguments)


def opened(record: int, run: int) -> RawLog:
    arguments = {"record": record, "sender": OWNER, "run": run, "source": b"s" * 32, "claims": b"c"}
    return log_of("TrainingRecords", RECORDS, "RecordOpened", **arguments)


def reached(record: int) -> RawLog:
    arguments = {"record": record, "stage": 2, "evidence": b"e" * 32}
    return log_of("TrainingRecords", RECORDS, "StageReached", **arguments)


def unknown() -> RawLog:
    return log_of("StakeManager", STAKES, "SeizedCollected", amount=3)


async def synced(path: Path, chain: LogChain) -> LedgerIndex:
    index = LedgerIndex.open(path, deployment())
    await index.sync(Asked(chain))
    return index


def told(index: LedgerIndex, chain: LogChain) -> bool:
    return index.events() == chain.events(deployment())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "money.sqlite"


async def test_events_are_told_by_run_class_block_and_depth(path: Path) -> None:
    chain = LogChain()
    chain.grow([[funded(1, 5), moved(5)], [], [key_changed(), staked(2, 7), unknown()], [closed(1)], []])
    index = await synced(path, chain)
    assert told(index, chain)
    kinds = [Funded, TokenMoved, KeyChanged, Staked, PotClosed]
    assert [type(event) for event in index.events()] == kinds
    assert [type(event) for event in index.events(run=1)] == [Funded, KeyChanged, PotClosed]
    assert [type(event) for event in index.events(run=2, since_block=2)] == [KeyChanged, Staked]
    assert [type(event) for event in index.events([PotClosed, TokenMoved])] == [TokenMoved, PotClosed]
    assert [type(event) for event in index.events(finality=2)] == kinds[:-1]
    (end,) = index.events([PotClosed])
    assert isinstance(end, PotClosed)
    assert end.time == index.block_time(4) == chain.blocks[4].time
    assert (index.newest_block, index.block_time(99)) == (5, None)
    index.close()


async def test_a_record_s_events_are_those_of_its_run(path: Path) -> None:
    chain = LogChain()
    result = (b"m" * 32, bytes(32), 10, 20, 2)
    arguments = {"record": 2, "round": 3, "stateRoot": b"r" * 32, "result": result, "bySeats": True}
    ended = log_of("TrainingRecords", RECORDS, "RecordClosed", **arguments)
    chain.grow([[opened(1, 0), opened(2, 9)], [reached(2), reached(1)], [ended]])
    index = await synced(path, chain)
    assert [type(event) for event in index.events(run=9)] == [RecordOpened, StageReached, RecordClosed]
    assert [type(event) for event in index.events(run=0)] == [RecordOpened, StageReached]
    (event,) = index.events([RecordClosed])
    assert event == RecordClosed(event.at, 2, 3, Hash(b"r" * 32), *result, True)  # type: ignore[arg-type]
    index.close()


async def test_a_quiet_chain_costs_one_call_and_changes_nothing(path: Path) -> None:
    chain = LogChain()
    chain.grow([[funded(1, 1)]])
    index = await synced(path, chain)
    version, chain.calls = index.version, 0
    assert await index.sync(Asked(chain)) is False
    assert (index.version, chain.calls) == (version, 1)
    chain.grow([[]])
    assert await index.sync(Asked(chain)) is True
    assert index.version > version
    index.close()


@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 3, 64, 65, 90])
async def test_a_reorg_of_any_depth_is_followed(path: Path, depth: int, more: int) -> None:
    chain = LogChain()
    chain.grow([[funded(1, number)] for number in range(1, 101)])
    index = await synced(path, chain)
    first = index.events()
    chain.reorg(depth, [[staked(1, number)] for number in range(depth + more)])
    await index.sync(Asked(chain))
    assert told(index, chain)
    assert index.events()[: 100 - depth] == first[: 100 - depth]
    assert len(index.events()) == 100 + more
    index.close()


async def test_a_node_that_lags_behind_hides_and_loses_nothing(path: Path) -> None:
    chain = LogChain()
    chain.grow([[funded(1, number)] for number in range(10)])
    index = await synced(path, chain)
    chain.visible, chain.calls = 4, 0
    await index.sync(Asked(chain))
    assert (index.newest_block, len(index.events()), chain.calls) == (4, 4, 1)
    chain.visible = None
    await index.sync(Asked(chain))
    assert told(index, chain)
    assert chain.calls == 2
    index.close()


async def test_the_second_node_may_be_behind_the_first(path: Path) -> None:
    chain = LogChain()
    chain.grow([[funded(1, number)] for number in range(1, 11)])

    class Failover(Asked):
        """Here the first node falls silent; the second has not seen the newest blocks."""

        async def logs(self, *arguments: object) -> list[RawLog]:
            chain.visible = 4
            return await chain.logs(*arguments)  # type: ignore[arg-type]

    index = LedgerIndex.open(path, deployment())
    await index.sync(Failover(chain))
    assert index.newest_block == 4
    chain.visible = None
    await index.sync(Asked(chain))
    assert told(index, chain)
    index.close()


async def test_what_a_node_mixes_up_is_not_taken(path: Path) -> None:
    """Logs of another fork than the blocks, as from two nodes behind one address."""
    chain, other = LogChain(), LogChain(branch=7)
    for each, amount in ((chain, 1), (other, 2)):
        each.grow([[funded(1, amount)]] * 3)

    class Mixed(Asked):
        async def logs(self, *arguments: object) -> list[RawLog]:
            return await other.logs(*arguments)  # type: ignore[arg-type]

    index = LedgerIndex.open(path, deployment())
    with pytest.raises(LedgerUnreachable, match="do not fit"):
        await index.sync(Mixed(chain))
    assert index.events() == []
    strange = replace(funded(1, 1), address=Address(OWNER))
    chain.grow([[strange]])
    with pytest.raises(BadAnswer, match="another contract"):
        await index.sync(Asked(chain))
    index.close()


_LOGS = st.lists(
    st.one_of(
        st.builds(funded, st.integers(1, 2), st.integers(1, 9)),
        st.builds(staked, st.integers(1, 2), st.integers(1, 9)),
        st.builds(closed, st.integers(1, 2)),
        st.builds(moved, st.integers(1, 9)),
        st.builds(opened, st.integers(1, 2), st.integers(0, 2)),
        st.builds(reached, st.integers(1, 2)),
        st.builds(unknown),
    ),
    max_size=3,
)
_BLOCKS = st.lists(_LOGS, max_size=5)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), _BLOCKS),
        st.tuples(st.just("reorg"), st.tuples(st.integers(1, 12), _BLOCKS)),
        st.tuples(st.just("lag"), st.integers(0, 8)),
        st.tuples(st.just("fail"), st.integers(0, 6)),
        st.tuples(st.just("move"), st.tuples(st.integers(0, 6), st.integers(1, 12), _BLOCKS)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=14,
)


@given(
    steps=_STEPS,
    step_blocks=st.sampled_from([2, 5, 2_000]),
    trail=st.sampled_from([4, 64]),
    times=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_after_any_reorgs_it_equals_a_fresh_index(
    steps: Sequence[tuple[str, object]], step_blocks: int, trail: int, times: bool
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("distrai.ledger.index.STEP_BLOCKS", step_blocks)
        patch.setattr("distrai.ledger.index.TRAIL_BLOCKS", trail)
        chain = LogChain(says_times=times)
        asyncio.run(_follow(Path(folder), chain, steps))


async def _follow(folder: Path, chain: LogChain, steps: Sequence[tuple[str, object]]) -> None:
    index = LedgerIndex.open(folder / "followed", deployment())
    for what, value in steps:
        chain.visible, chain.moves = None, []
        if what == "reopen":
            index.close()
            index = LedgerIndex.open(folder / "followed", deployment())
        _happen(chain, what, value)
        try:
            await index.sync(Asked(chain))
        except LedgerUnreachable:
            continue
        shown = [event for event in chain.events(deployment()) if event.at.block_number <= index.newest_block]
        assert index.events() == shown
    chain.visible, chain.moves = None, []
    await index.sync(Asked(chain))
    fresh = await synced(folder / "fresh", chain)
    for run in (None, 0, 1, 2):
        assert index.events(run=run) == fresh.events(run=run)
    assert told(index, chain)
    assert index.newest_block == fresh.newest_block == len(chain.blocks) - 1
    index.close()
    fresh.close()


def _happen(chain: LogChain, what: str, value: object) -> None:
    match what, value:
        case "grow", list(blocks):
            chain.grow(blocks)
        case "reorg", (int(depth), list(blocks)):
            chain.reorg(depth, blocks)
        case "lag", int(behind):
            chain.visible = max(0, len(chain.blocks) - 1 - behind)
        case "fail", int(after):
            chain.moves = [None] * after + [fail]
        case "move", (int(after), int(depth), list(blocks)):
            chain.moves = [None] * after + [lambda: chain.reorg(depth, blocks)]


async def test_two_that_use_one_file_do_not_spoil_it(path: Path) -> None:
    chain = LogChain()
    chain.grow([[funded(1, number)] for number in range(1, 40)])
    one, other = LedgerIndex.open(path, deployment()), LedgerIndex.open(path, deployment())

    class Slow(Asked):
        """Reads for the one while the other writes."""

        async def logs(self, *arguments: object) -> list[RawLog]:
            await other.sync(Asked(chain))
            return await chain.logs(*arguments)  # type: ignore[arg-type]

    await one.sync(Slow(chain))
    assert told(one, chain)
    assert told(other, chain)
    one.close()
    other.close()


def test_the_file_of_other_contracts_is_not_used(path: Path) -> None:
    LedgerIndex.open(path, deployment()).close()
    with pytest.raises(WrongIndex, match="other contracts"):
        LedgerIndex.open(path, replace(deployment(), chain_id=78))


@pytest.mark.parametrize("damage", ["garbage", "old"])
async def test_a_damaged_or_older_file_is_made_anew(path: Path, damage: str) -> None:
    chain = LogChain()
    chain.grow([[funded(1, 5)]])
    (await synced(path, chain)).close()
    _damage(path, damage)
    index = await synced(path, chain)
    assert told(index, chain)
    index.close()


def _damage(path: Path, how: str) -> None:
    if how == "garbage":
        path.write_bytes(b"no database at all" * 100)
        return
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 0")
    database.close()


def test_killed_in_the_middle_of_a_sync_it_goes_on(path: Path) -> None:
    """A process is killed while it writes its range; the file then holds what was committed and no more."""
    program = textwrap.dedent("""
        import asyncio, os, signal, sys
        from pathlib import Path
        from distrai.ledger.index import LedgerIndex
        import distrai.ledger.index as module, distrai.ledger.index_store as store
        from helpers.log_chains import Asked, LogChain, deployment
        from ledger.test_index import funded

        module.STEP_BLOCKS, put = 8, store.IndexStore._put
        def dies(self, row):
            put(self, row)
            if row.log.at.block_number == 20:
                os.kill(os.getpid(), signal.SIGKILL)
        store.IndexStore._put = dies
        chain = LogChain()
        chain.grow([[funded(1, number)] for number in range(1, 31)])
        asyncio.run(LedgerIndex.open(Path(sys.argv[1]), deployment()).sync(Asked(chain)))
    """)
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, check=False, timeout=180
    )
    assert done.returncode == -signal.SIGKILL
    chain = LogChain()
    chain.grow([[funded(1, number)] for number in range(1, 31)])
    index = LedgerIndex.open(path, deployment())
    assert index.newest_block == 15
    assert index.events() == chain.events(deployment())[:15]
    asyncio.run(index.sync(Asked(chain)))
    assert told(index, chain)
    index.close()

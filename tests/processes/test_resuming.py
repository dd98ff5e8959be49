"""A run that was stopped, or whose peers were killed, arrives at the bits of one that nothing happened to."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.runs.folder import RunFolder
from distrai.runs.local import LocalRun
from helpers.local_runs import Death, Drive, Observer, check_consistent, logged, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

SPARSE = {
    "algorithm": {"preset": "sparseloco", "inner_steps": 2, "codec_options": {"k": 16}, "overlap": 1},
    "membership": {"peers": 1},
}
"""Private inner state, error feedback, and rounds that begin before the last one is certified.

With more peers, who gets which data hangs on the members' new ids.
"""

COUNT = 8
"""Rounds: enough that a run is stopped before its last one even if this process hears late of the second."""

NewFolder = Callable[[str], Path]


def check_deaths(drive: Drive, name: str, points: list[str]) -> None:
    """That a peer died at these points, and otherwise ended in order."""
    assert drive.deaths_of(name) == [-9] * len(points) + [0]
    words = logged(drive.folder, name).splitlines()
    assert [line for line in words if line.startswith("failpoint")] == [
        f"failpoint: {point}" for point in points
    ]


def rounds_applied(name: str, *observers: Observer) -> list[int]:
    """The rounds that a peer told it has applied, in order."""
    return [event["round"] for observer in observers for event in observer.of("applied", name)]


def test_averaged_inner_state(nursery: Nursery, new_folder: NewFolder) -> None:
    """Stopped once, then killed four times within a round that cannot end without the peer: it must say the same again.

    Two peers: their sum is the same in either order, so the state does not show who had which data.
    """
    texts = new_folder("averaged-texts")
    recipe = tiny_recipe(
        texts, rounds={"count": COUNT, "d0_s": 10.0, "stall_seconds": 1000}
    )  # nobody goes on without it
    points = ["sent-update", "sent-have", "persisted-key", "sent-signature"]

    async def whole() -> str:
        with nursery.attached():
            async with Drive(RunFolder(new_folder("averaged-whole")), nursery, recipe, texts) as drive:
                assert await drive.finish()
                return drive.observer.final_root()

    async def stopped() -> str:
        folder = RunFolder(new_folder("averaged-stopped"))
        with nursery.attached():
            async with Drive(folder, nursery, recipe, texts) as drive:
                await drive.until(
                    lambda: any(event["round"] == 2 for event in drive.observer.of("trained", "peer-1")),
                    "the training of round 2",
                )
                assert not await drive.stop()
            assert drive.observer.newest_round() < COUNT
            armed = folder.path / "armed"
            armed.touch()
            deaths = [Death("peer-1", point, armed) for point in points]
            async with Drive(folder, nursery, None, texts, deaths) as again:
                assert await again.finish()
            check_deaths(again, "peer-1", points)
            check_consistent(again.observer, folder, ["peer-0", "peer-1"])
            told = {
                name: rounds_applied(name, drive.observer, again.observer) for name in ("peer-0", "peer-1")
            }
            assert told["peer-0"] == list(range(1, COUNT + 1))
            assert told["peer-1"] == sorted(
                set(told["peer-1"])
            )  # none twice; one whose news died with it may lack
            assert len(told["peer-1"]) >= COUNT - len(points)
            assert told["peer-1"][-1] == COUNT
            return again.observer.final_root()

    assert asyncio.run(stopped()) == asyncio.run(whole())


def test_kept_inner_state_and_error_feedback(nursery: Nursery, new_folder: NewFolder) -> None:
    """Stopped once, killed four times. The run that it is compared with starts its processes the plain way."""
    texts = new_folder("kept-texts")
    recipe = tiny_recipe(texts, **SPARSE, rounds={"count": 2 * COUNT})
    points = ["trained", "persisted-update", "applying", "applied"]

    async def whole() -> str:
        observer = Observer()
        run = LocalRun(RunFolder(new_folder("kept-whole")), observer.report, device="cpu")
        assert await run.run(recipe, texts)
        return observer.final_root()

    async def disturbed() -> str:
        folder = RunFolder(new_folder("kept-disturbed"))
        with nursery.attached():
            async with Drive(folder, nursery, recipe, texts) as drive:
                await drive.until(lambda: drive.observer.newest_round() >= 2, "round 2")
                assert not await drive.stop()
            armed = folder.path / "armed"
            armed.touch()
            deaths = [Death("peer-0", point, armed) for point in points]
            async with Drive(folder, nursery, None, texts, deaths) as again:
                assert await again.finish()
            check_deaths(again, "peer-0", points)
            return again.observer.final_root()

    assert asyncio.run(disturbed()) == asyncio.run(whole())


def test_copies_of_a_stopped_run_arrive_at_the_same_head(nursery: Nursery, new_folder: NewFolder) -> None:
    """Three peers with private states and error feedback: everything follows, keys and heads too."""
    texts = new_folder("copied-texts")
    recipe = tiny_recipe(texts, **SPARSE | {"membership": {"peers": 3}, "rounds": {"count": COUNT}})
    original = RunFolder(new_folder("copied-original"))

    async def stop_in_the_middle() -> None:
        with nursery.attached():
            async with Drive(original, nursery, recipe, texts) as drive:
                await drive.until(lambda: drive.observer.newest_round() >= 2, "round 2")
                assert not await drive.stop()

    async def go_on(folder: RunFolder) -> set[str]:
        with nursery.attached():
            async with Drive(folder, nursery, None, texts) as drive:
                assert await drive.finish()
            last = drive.observer.newest_round()
            return {event["head"] for event in drive.observer.of("applied") if event["round"] == last}

    asyncio.run(stop_in_the_middle())
    copy = RunFolder(original.path.with_name("copied-copy"))
    shutil.copytree(original.path, copy.path)
    heads = asyncio.run(go_on(original))
    assert len(heads) == 1
    assert asyncio.run(go_on(copy)) == heads

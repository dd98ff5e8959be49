"""A run that was stopped, or whose peers were killed, arrives at the bits of one that nothing happened to."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.runs.folder import RunFolder
from distrai.runs.local import LocalRun
from helpers.local_runs import Death, Drive, Observer, logged, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

SPARSE = {
    "algorithm": {"preset": "sparseloco", "inner_steps": 2, "codec_options": {"k": 16}},
    "membership": {"peers": 1},
}
"""Private inner state and error feedback. With more than one peer, who gets which data hangs on new keys."""

NewFolder = Callable[[str], Path]


def test_averaged_inner_state(nursery: Nursery, new_folder: NewFolder) -> None:
    """Two peers: their sum is the same in either order, so the state does not show who had which data."""
    texts = new_folder("averaged-texts")
    recipe = tiny_recipe(texts)

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
                    lambda: any(event["round"] == 3 for event in drive.observer.of("trained", "peer-1")),
                    "the training of round 3",
                )
                assert not await drive.stop()
            assert drive.observer.newest_round() < 6
            async with Drive(folder, nursery, None, texts) as again:
                assert await again.finish()
            for name in ("peer-0", "peer-1"):
                applied = [*drive.observer.of("applied", name), *again.observer.of("applied", name)]
                assert [event["round"] for event in applied] == [1, 2, 3, 4, 5, 6]
            return again.observer.final_root()

    assert asyncio.run(stopped()) == asyncio.run(whole())


def test_kept_inner_state_and_error_feedback(nursery: Nursery, new_folder: NewFolder) -> None:
    """Stopped once, killed four times. The run that it is compared with starts its processes the plain way."""
    texts = new_folder("kept-texts")
    recipe = tiny_recipe(texts, **SPARSE)
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
            assert again.deaths_of("peer-0")[:-1] == [-9] * len(points)
            words = logged(folder, "peer-0").splitlines()
            assert [line for line in words if line.startswith("failpoint")] == [
                f"failpoint: {point}" for point in points
            ]
            return again.observer.final_root()

    assert asyncio.run(disturbed()) == asyncio.run(whole())

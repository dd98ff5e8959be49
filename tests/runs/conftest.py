import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distrai.runs.folder import RunFolder
from helpers import paid_runs
from helpers.archives import ArchiveMaker, FakeArchive, make_archive
from helpers.run_folders import FakeRun, make_run


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    """A finished run of eight rounds; tests copy it before they spoil it."""
    (texts := tmp_path_factory.mktemp("texts")).mkdir(exist_ok=True)
    return make_archive(tmp_path_factory.mktemp("published") / "home", texts)


@pytest.fixture
def archive(published: FakeArchive, tmp_path) -> FakeArchive:
    """A copy of the finished run, for one test."""
    return published.copy(tmp_path / "elsewhere" / "home")


@pytest.fixture(scope="module")
def spoiled(published: FakeArchive, tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    """A copy of the finished run for a module whose tests put back what they change."""
    return published.copy(tmp_path_factory.mktemp("spoiled") / "home")


@pytest.fixture
def conspiracy(tmp_path) -> ArchiveMaker:
    """A run that was just opened, all of whose seats do what the test says."""
    (tmp_path / "texts").mkdir()
    return ArchiveMaker.opened(tmp_path / "home", tmp_path / "texts")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """The folder of a run of four rounds; tests copy it before they write into it."""
    return make_run(tmp_path_factory.mktemp("runs") / "smoke", tmp_path_factory.mktemp("texts"))


@pytest.fixture
def fake_run(finished: FakeRun, tmp_path: Path) -> FakeRun:
    """A copy of that folder, for one test."""
    shutil.copytree(finished.folder.path, tmp_path / "smoke")
    return replace(finished, folder=RunFolder(tmp_path / "smoke"))


@pytest.fixture
def ledger_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeRun], None]:
    """Let a run's ledger answer without a chain."""

    def says(run: FakeRun) -> None:
        async def state(folder: RunFolder) -> object:
            return run.ledger

        async def no_roll_calls(folder: RunFolder, round_number: int) -> frozenset[int]:
            return frozenset()

        for module in ("results", "exporting", "verify", "status"):
            monkeypatch.setattr(f"distrai.runs.{module}.ledger_state", state)
        monkeypatch.setattr("distrai.runs.verify.roll_calls_until", no_roll_calls)

    return says


@pytest.fixture(scope="session")
def paid(tmp_path_factory: pytest.TempPathFactory) -> paid_runs.Scene:
    """A run that pays on a chain of its own; tests copy it."""
    texts = tmp_path_factory.mktemp("texts")
    return asyncio.run(paid_runs.make_paid_run(tmp_path_factory.mktemp("paid") / "run", texts))


@pytest.fixture
def scene(paid: paid_runs.Scene, tmp_path: Path) -> paid_runs.Scene:
    """A copy of that run, for one test."""
    return paid.copy(tmp_path / "paid")

"""Folders that other users may pass through."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def new_folder() -> Iterator[Callable[[str], Path]]:
    """Makes folders. Not below pytest's own, which only this user may enter."""
    base = Path(tempfile.mkdtemp(prefix="distrai-test-"))
    base.chmod(0o711)

    def make(name: str) -> Path:
        folder = base / name
        folder.mkdir(mode=0o755)
        return folder

    yield make
    shutil.rmtree(base)

"""Toy models and data, made once, and templates run on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.template_runs import Ran, Toys, smoke_run


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    return Toys.make(tmp_path_factory.mktemp("toys"))


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Smoke runs of a user of their own, whose scripts ask no hub."""
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(template: str, **values: Any) -> Ran:
        return smoke_run(template, tmp_path / template, values, values.pop("watch", None))

    return run

"""Toy models and data, made once, and templates run on them; packages that are all that pip knows."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.template_runs import Ran, Toys, smoke_run
from helpers.toy_models import make_undecided_model
from helpers.wheels import make_wheel


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    return Toys.make(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="session")
def undecided(toys: Toys, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that gives one of two answers, as it happens."""
    return str(make_undecided_model(Path(toys.model), tmp_path_factory.mktemp("undecided") / "model"))


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Smoke runs of a user of their own, whose scripts ask no hub."""
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(template: str, folder: str = "", **values: Any) -> Ran:
        more = {name: values.pop(name, None) for name in ("watch", "beside")}
        return smoke_run(template, tmp_path / (folder or template), values, **more)

    return run


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that is all that pip knows."""
    folder = tmp_path / "packages"
    folder.mkdir()
    make_wheel(folder, "distraitoy", "1.0", "distraitoypart")
    make_wheel(folder, "distraitoy", "2.0", "distraitoypart")
    make_wheel(folder, "distraitoypart", "0.5")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder

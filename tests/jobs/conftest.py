"""Toy models and data, made once, and templates run on them; packages that are all that pip knows."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.models.store import ModelStore, Saved
from helpers.fake_hub import FakeHub
from helpers.hub_tests import reached_hub, save_tiny
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub on loopback that is the one of this process."""
    with reached_hub(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore.at(str(tmp_path / "models"))


@pytest.fixture
def saved(store: ModelStore, tmp_path: Path) -> Saved:
    return save_tiny(store, tmp_path / "made")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What a training leaves behind: a model, and things that are none of it."""
    folder = tmp_path / "made"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(3000))
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "sub" / "more.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(pickle.dumps({}))
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(b"old")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")
    return folder

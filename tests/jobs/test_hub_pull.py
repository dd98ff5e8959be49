"""Pulling from a hub: only data, and only what its manifest says."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from distrai.jobs.hub.errors import NoRepository
from distrai.jobs.hub.pull import pull_model
from distrai.jobs.hub.token import (
    BadToken,
)
from distrai.jobs.models.manifest import MANIFEST
from distrai.jobs.models.places import StoreFull
from distrai.jobs.models.saving import NothingToSave
from distrai.jobs.models.store import DamagedModel, ForeignManifest, ModelStore, Saved
from distrai.jobs.records.claims import parameter_count
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NAME, NOT_OURS, REPO, given, push

pytestmark = pytest.mark.filterwarnings(NOT_OURS)


def test_a_damaged_model_is_not_pulled(hub: FakeHub, store: ModelStore, saved: Saved, tmp_path: Path) -> None:
    push(store, saved, hub.token("alice"), public=True)
    other = ModelStore.at(str(tmp_path / "other"))
    hub.damage(REPO, "model.safetensors")
    with pytest.raises(DamagedModel, match=r"model\.safetensors of alice/tiny"):
        pull_model(other, REPO)
    assert other.all() == [] and list(Path(other.place.root).iterdir()) == []
    with pytest.raises(ForeignManifest):
        pull_model(other, REPO, expected="00" * 32)
    before = pull_model(other, REPO, revision=hub.repos["model", REPO].commits[1][0])
    assert before.saved.manifest == saved.manifest


def test_a_model_that_has_no_room_is_not_pulled(
    hub: FakeHub, store: ModelStore, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, saved, hub.token("alice"), public=True)
    other, room = ModelStore.at(str(tmp_path / "other")), SimpleNamespace(free=saved.manifest.size)
    monkeypatch.setattr("distrai.jobs.hub.pull.shutil.disk_usage", lambda path: room)
    with pytest.raises(StoreFull, match="no room is left"):
        pull_model(other, REPO)
    assert list(Path(other.place.root).iterdir()) == []
    assert not [asked for asked in hub.asked if asked.method == "GET" and asked.path.endswith(".safetensors")]


def test_a_model_without_a_manifest_is_pulled_and_told_and_nothing_that_runs(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    weights = Path(store.place.path(NAME), "model.safetensors").read_bytes()
    hub.put(
        "bob/old",
        {"model.safetensors": weights, "pytorch_model.bin": b"x", "code.py": b"y", "config.json": b"{}"},
    )
    pulled = pull_model(store, "bob/old")
    assert not pulled.sealed and pulled.left == ("code.py", "pytorch_model.bin")
    assert sorted(pulled.saved.manifest.files) == ["config.json", "model.safetensors"]
    assert pulled.saved.manifest.origin.source == f"hub:bob/old@{pulled.commit}"
    with pytest.raises(DamagedModel, match="not the model that was recorded"):
        pull_model(store, "bob/old", expected="00" * 32)


@pytest.mark.parametrize("path", ["weights.bin", "../../out.json"])
def test_a_hostile_manifest_brings_nothing_in(
    hub: FakeHub, store: ModelStore, saved: Saved, path: str
) -> None:
    entry = saved.manifest.files["config.json"]
    told = json.loads(saved.manifest.to_bytes())
    told["files"] = {path: {"size": entry.size, "sha256": entry.sha256}}
    content = (json.dumps(told, indent=2, sort_keys=True) + "\n").encode()
    root = Path(store.place.path(NAME))
    hub.put("eve/x", {MANIFEST: content, "weights.bin": (root / "config.json").read_bytes()})
    with pytest.raises(ValueError, match=r"may run code|no path of a file inside"):
        pull_model(store, "eve/x")
    assert store.all() == [saved]


def test_a_hostile_list_of_files_brings_nothing_in(
    hub: FakeHub, store: ModelStore, saved: Saved, tmp_path: Path
) -> None:
    weights = Path(store.place.path(NAME), "model.safetensors").read_bytes()
    hub.put("eve/y", {"model.safetensors": weights, "a/../../../out.json": b"{}"})
    with pytest.raises(ValueError, match="no path of a file inside"):
        pull_model(store, "eve/y")
    assert store.all() == [saved] and not list(tmp_path.rglob("out.json"))


def test_pulling_what_is_not_there_or_hidden_is_one_sentence(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    push(store, saved, hub.token("alice"))
    for repo, token in (
        ("alice/none", given(hub.token("alice"))),
        (REPO, None),
        (REPO, given(hub.token("bob"))),
    ):
        with pytest.raises(NoRepository, match="no such repository"):
            pull_model(store, repo, token)
    with pytest.raises(NoRepository, match="no such revision"):
        pull_model(store, REPO, given(hub.token("alice")), revision="f" * 40)
    with pytest.raises(BadToken):
        pull_model(store, REPO, given("hf_" + "z" * 34))


def test_a_model_of_pickles_only_is_refused_in_words(hub: FakeHub, store: ModelStore) -> None:
    hub.put("alice/old", {"pytorch_model.bin": b"\x80\x04x", "config.json": b"{}"})
    with pytest.raises(NothingToSave, match=r"alice/old has no weights as \.safetensors; pickles run code"):
        pull_model(store, "alice/old")
    assert store.all() == [] and list(Path(store.place.root).iterdir()) == []


def test_the_parameters_of_a_model_are_known_by_its_name(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert parameter_count({"model": "alice/none"}) == parameter_count({}) == 0
    assert parameter_count({"model": "alice/none-7B"}) == 7_000_000_000, "a guess, where the hub knows none"
    assert parameter_count({"hidden": 64, "layers": 2, "vocabulary": 100}) == 100 * 64 + 2 * 16 * 64 * 64
    weights = tmp_path / "model.safetensors"
    save_file({"w": np.zeros((7, 3), dtype=np.float32)}, weights)
    hub.put("alice/small", {"model.safetensors": weights.read_bytes(), "config.json": b"{}"})
    assert parameter_count({"model": "alice/small"}) == 21

"""What a peer fetches beside the data: what is frozen comes by hash, in parts, once; nobody is believed."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from distrai.network.interface import Endpoint, Fetched, Transport
from distrai.network.store import BlobStore
from distrai.peer.bootstrap import Bootstrap, NoRoom
from distrai.peer.learner import FrozenModels
from distrai.peer.plan import Plan
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob
from distrai.protocol.recipe import ResolvedRecipe
from distrai.training.errors import MalformedManifest, ManifestTooLarge
from distrai.training.frozen import MODEL_MANIFEST_BYTES_MAX
from helpers.learning import PAIRS, mapping_on, resolved_on, save_model


@dataclass
class Holder:
    """A transport that brings what one other peer holds."""

    theirs: BlobStore
    own: BlobStore
    fetched: list[BlobRef] = field(default_factory=list)

    async def fetch(
        self, blob: BlobRef, holders: Sequence[Endpoint], deadline_s: float, purpose: str
    ) -> Fetched:
        assert purpose == "data" or purpose == "snapshots"
        self.fetched.append(blob)
        self.own.put(self.theirs.read(blob))
        return Fetched(blob)


@dataclass
class Newcomer:
    """A peer that has nothing yet."""

    plan: Plan
    holder: Holder
    home: Path
    told: list[dict[str, Any]] = field(default_factory=list)

    def get(self) -> FrozenModels:
        bootstrap = Bootstrap(self.holder.own, cast(Transport, self.holder), ())
        tell = lambda event, **facts: self.told.append({"event": event, **facts})  # noqa: E731
        return asyncio.run(bootstrap.frozen(self.plan, self.home, tell))


def newcomer(tmp_path: Path, resolved: ResolvedRecipe) -> Newcomer:
    theirs, own = BlobStore(tmp_path / "opener" / "blobs"), BlobStore(tmp_path / "new" / "blobs")
    return Newcomer(Plan.of(resolved), Holder(theirs, own), tmp_path / "new")


def resolve(tmp_path: Path, **tables: dict[str, Any]) -> ResolvedRecipe:
    texts = tmp_path / "texts"
    texts.mkdir()
    save_model(texts / "big", seed=2, hidden_size=128)
    mapping = mapping_on(texts, **tables)
    mapping["algorithm"] = {"preset": "demo"}
    return resolved_on(texts, tmp_path / "opener", mapping)


def test_base_and_teacher_come_by_hash_and_only_once(tmp_path: Path) -> None:
    resolved = resolve(
        tmp_path,
        model={"adapter": {"r": 2}},
        training={"objective": "distill"},
        teacher={"path": "big", "license": "MIT"},
    )
    peer = newcomer(tmp_path, resolved)
    found = peer.get()
    assert [event["what"] for event in peer.told] == ["base", "teacher"]
    assert all(event["bytes"] > 0 and event["parameters"] > 0 for event in peer.told)
    assert found.base is not None and found.teacher is not None
    for folder in (found.base, found.teacher):
        assert tmp_path / "new" / "frozen" == folder.parent
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        assert all(path.stat().st_nlink > 1 for path in folder.iterdir())  # no second copy on the disk
    fetched, told = len(peer.holder.fetched), len(peer.told)
    assert peer.get() == found
    assert (len(peer.holder.fetched), len(peer.told)) == (fetched, told)


def test_the_state_before_round_1_comes_where_preferences_are_learned_from_it(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, **PAIRS)
    peer = newcomer(tmp_path, resolved)
    peer.get()
    assert resolved.initial_state in peer.holder.fetched


def test_a_run_without_anything_frozen_fetches_nothing(tmp_path: Path) -> None:
    peer = newcomer(tmp_path, replace(resolve(tmp_path), base=None))
    assert peer.get() == FrozenModels()
    assert peer.holder.fetched == peer.told == []


def test_a_manifest_is_not_fetched_if_it_is_too_long_and_not_believed(tmp_path: Path) -> None:
    resolved = resolve(tmp_path)
    assert resolved.base is not None
    long = BlobRef(resolved.base.hash, MODEL_MANIFEST_BYTES_MAX + 1)
    peer = newcomer(tmp_path, replace(resolved, base=long))
    with pytest.raises(ManifestTooLarge):
        peer.get()
    assert peer.holder.fetched == []
    peer = newcomer(tmp_path, replace(resolved, base=resolved.corpus))
    with pytest.raises(MalformedManifest):
        peer.get()


def test_a_model_that_does_not_fit_on_the_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = newcomer(tmp_path, resolve(tmp_path, model={"adapter": {"r": 2}}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(NoRoom, match="where 1000 are free"):
        peer.get()
    assert len(peer.holder.fetched) == 1  # the manifest


def test_a_peer_on_its_own_says_what_is_missing(tmp_path: Path) -> None:
    peer = newcomer(tmp_path, resolve(tmp_path))
    bootstrap = Bootstrap(peer.holder.own, None, ())
    with pytest.raises(WrongBlob, match="is missing"):
        asyncio.run(bootstrap.frozen(peer.plan, peer.home, lambda *_, **__: None))

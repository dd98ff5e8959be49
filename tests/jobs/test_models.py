"""Finished models: sealed by a manifest, private, all or nothing, and compared byte by byte."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from distrai.jobs.models.manifest import MANIFEST, Manifest
from distrai.jobs.models.saving import ModelExists, NothingToSave, files_of, save_model
from distrai.jobs.models.store import (
    BadModelName,
    DamagedModel,
    ForeignManifest,
    ModelStore,
    NoModel,
    expect,
)
from helpers.made_models import ADDRESS, NAME, ORIGIN
from helpers.rclone import OWNER, SECRET, object_server


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of a real S3 server on loopback."""
    with object_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        (server.folder / "bucket").mkdir()
        for name, value in (
            ("ENDPOINT_URL", server.write),
            ("ACCESS_KEY_ID", OWNER),
            ("SECRET_ACCESS_KEY", SECRET),
            ("ALLOW_HTTP", "true"),
            ("REGION", "us-east-1"),
        ):
            patch.setenv(f"AWS_{name}", value)
        yield "s3://bucket"


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.processes)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """The same holds in a folder, in memory (the plainest of fsspec's places) and in a bucket."""
    if request.param == "s3":
        return ModelStore.at(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")
    return ModelStore.at(
        str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path.name}/models"
    )


@pytest.fixture
def local(tmp_path: Path) -> ModelStore:
    return ModelStore.at(str(tmp_path / "models"))


def test_a_saved_model_has_its_files_and_a_manifest_that_any_tool_can_check(
    store: ModelStore, made: Path
) -> None:
    saved = save_model(store, made, NAME, ORIGIN, {"README.md": b"# card\n"})
    assert list(saved.manifest.files) == ["config.json", "model.safetensors", "sub/more.json", "README.md"]
    root = store.place.path(NAME)
    content = store.place.fs.cat_file(f"{root}/{MANIFEST}")
    assert hashlib.sha256(content).hexdigest() == saved.manifest.hash
    for path, entry in json.loads(content)["files"].items():
        kept = store.place.fs.cat_file(f"{root}/{path}")
        assert entry == {"sha256": hashlib.sha256(kept).hexdigest(), "size": len(kept)}
    assert store.verify(saved).ok and store.find("first") == store.find(NAME) == saved
    assert store.all() == [saved]


def test_saving_again_changes_nothing_and_another_model_is_refused(store: ModelStore, made: Path) -> None:
    saved = save_model(store, made, NAME, ORIGIN)
    assert save_model(store, made, NAME, ORIGIN) == saved
    (made / "config.json").write_text('{"a": 2}')
    with pytest.raises(ModelExists, match="choose another name"):
        save_model(store, made, NAME, ORIGIN)
    assert store.verify(store.find(NAME)).ok and store.find(NAME) == saved


@pytest.mark.parametrize("damage", ["flip", "shorter", "gone"])
def test_damage_is_found_and_named(store: ModelStore, made: Path, damage: str) -> None:
    saved = save_model(store, made, NAME, ORIGIN)
    path = f"{store.place.path(NAME)}/model.safetensors"
    content = store.place.fs.cat_file(path)
    if damage == "gone":
        store.place.fs.rm(path)
    else:
        changed = bytes([content[0] ^ 1]) + content[1:] if damage == "flip" else content[:-1]
        store.place.fs.pipe_file(path, changed)
    verdict = store.verify(saved)
    assert not verdict.ok and "model.safetensors" in verdict.why
    with pytest.raises(DamagedModel, match=r"damaged: model\.safetensors (was|is) \w+"), store.opened(saved):
        pass


def test_a_file_beside_the_others_is_told_and_no_damage(store: ModelStore, made: Path) -> None:
    saved = save_model(store, made, NAME, ORIGIN)
    store.place.fs.pipe_file(f"{store.place.path(NAME)}/notes.txt", b"hello")
    verdict = store.verify(saved)
    assert verdict.ok and verdict.extra == ("notes.txt",)


def test_an_opened_model_is_a_folder_wherever_the_store_is(store: ModelStore, made: Path) -> None:
    saved = save_model(store, made, NAME, ORIGIN)
    with store.opened(saved) as folder:
        assert (folder / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
        assert Manifest.of_bytes((folder / MANIFEST).read_bytes()) == saved.manifest
    assert folder.exists() == store.place.is_local


def test_the_hash_of_the_ledger_decides(local: ModelStore, made: Path) -> None:
    saved = save_model(local, made, NAME, ORIGIN)
    expect(saved, "0x" + saved.manifest.hash.upper().lower())
    with pytest.raises(ForeignManifest, match="not the model that was recorded"):
        expect(saved, "00" * 32)
    with pytest.raises(ForeignManifest, match="64 hexadecimal digits"):
        expect(saved, "0x12")


def test_names_are_checked_and_told_apart(local: ModelStore, made: Path) -> None:
    for bad in (
        "first",
        "0xAB/first",
        f"{ADDRESS}/../x",
        f"{ADDRESS}/.x",
        f"{ADDRESS}/",
        "/etc/passwd",
        f"{NAME}/y",
    ):
        with pytest.raises(BadModelName):
            save_model(local, made, bad, ORIGIN)
    save_model(local, made, NAME, ORIGIN)
    save_model(local, made, "hub/first", ORIGIN)
    with pytest.raises(BadModelName, match="several models"):
        local.find("first")
    with pytest.raises(NoModel, match="distrai models list"):
        local.find("second")


def test_a_folder_without_weights_is_no_model(local: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(NothingToSave):
            save_model(local, folder, NAME, ORIGIN)


def test_links_that_lead_out_are_left(made: Path, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("secret")
    (made / "link.json").symlink_to(tmp_path / "key.json")
    (made / "inside.json").symlink_to(made / "config.json")
    assert "link.json" not in files_of(made) and "inside.json" in files_of(made)


def test_a_broken_manifest_hides_no_other_model(local: ModelStore, made: Path) -> None:
    save_model(local, made, NAME, ORIGIN)
    save_model(local, made, f"{ADDRESS}/second", ORIGIN)
    Path(local.place.path(NAME), MANIFEST).write_text("{}")
    assert [saved.name for saved in local.all()] == [f"{ADDRESS}/second"] and local.broken() == [NAME]

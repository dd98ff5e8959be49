"""Saving a model on a disk: private, all or nothing, also where the disk is full; and places that are none."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from distrai.jobs.models.places import Place, StoreUnusable
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.store import ModelStore, default_store
from helpers.made_models import ADDRESS, NAME, ORIGIN


@pytest.fixture
def local(tmp_path: Path) -> ModelStore:
    return ModelStore.at(str(tmp_path / "models"))


def test_only_the_owner_can_read_a_local_model(local: ModelStore, made: Path) -> None:
    before = os.umask(0o002)
    try:
        save_model(local, made, NAME, ORIGIN)
    finally:
        os.umask(before)
    root = Path(local.place.root)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_an_interrupted_save_leaves_nothing(
    local: ModelStore, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distrai.jobs.models.saving._only_mine", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model(local, made, NAME, ORIGIN)
    assert local.all() == [] and list(Path(local.place.root).rglob("*")) == []


FULL = """
import sys
from collections.abc import Iterator
from pathlib import Path
from distrai.jobs.models import saving
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.store import ModelStore
where, made, name, when = sys.argv[1:]
if when == "late":
    saving.shutil.disk_usage = lambda path: type("Room", (), {"free": 1 << 40})
else:
    saving._write = None
try:
    saving.save_model(ModelStore.at(where), Path(made), name, Origin())
except OSError as error:
    print(type(error).__name__, error)
print(sorted(path.name for path in Path(where).rglob("*")))
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(made: Path, tmp_path: Path, when: str) -> None:
    """On a real disk of 64 KiB: too little room is seen before a byte is written, and when it ends all the same."""
    small = tmp_path / "small"
    small.mkdir()
    (made / "model.safetensors").write_bytes(bytes(200_000))
    mount = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=64k none "{small}" && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a small disk")
    command = [*mount, sys.executable, "-c", FULL, str(small), str(made), NAME, when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()
    assert said and said[0].startswith("StoreFull no room is left in"), done.stderr
    assert "needs 0.2 MB" in said[0] and said[1] == "[]"
    assert (made / "model.safetensors").stat().st_size == 200_000


def test_a_store_that_cannot_be_used_is_one_sentence(tmp_path: Path, made: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="cannot be used"):
        save_model(ModelStore.at(str(tmp_path / "file")), made, NAME, ORIGIN)
    with pytest.raises(StoreUnusable, match="no place for models"):
        ModelStore.at("nosuch://bucket/models").all()
    with pytest.raises(StoreUnusable, match="password") as refused:
        ModelStore.at("s3://me:hidden@bucket/models")
    assert "hidden" not in str(refused.value)


def test_a_store_may_be_called_anything(made: Path, tmp_path: Path) -> None:
    store = ModelStore.at(str(tmp_path / "a [1]*%20::b"))
    assert store.all() == []
    save_model(store, made, NAME, ORIGIN)
    (tmp_path / "a [1]*%20::b" / ADDRESS / "notes").mkdir()
    (tmp_path / "a [1]*%20::b" / "file").write_text("x")
    assert [saved.name for saved in store.all()] == [NAME] and store.broken() == []


def test_the_default_store_follows_the_environment(tmp_path: Path) -> None:
    assert default_store({"DISTRAI_MODELS": "s3://b/m", "XDG_DATA_HOME": "/x"}) == "s3://b/m"
    assert default_store({"XDG_DATA_HOME": str(tmp_path)}) == f"{tmp_path}/distrai/models"
    assert isinstance(fsspec.get_filesystem_class("file"), type) and Place(str(tmp_path)).is_local

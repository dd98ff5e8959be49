"""What may be in a model and in a manifest, whoever wrote it."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from distrai.jobs.models.contents import PickleRefused, SecretRefused, check_contents, is_pickle
from distrai.jobs.models.manifest import (
    MANIFEST,
    BadManifest,
    BadModelPath,
    FileEntry,
    Manifest,
    Origin,
    check_path,
)

ORIGIN = Origin(kind="sft", record=7)


def test_pickles_are_known_by_name_and_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(pickle.dumps([1]))
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "a.json")
    (tmp_path / "c.pt").write_bytes(b"")
    (tmp_path / "data.pkl").write_bytes(b"x")
    shutil.make_archive(str(tmp_path / "d"), "zip", tmp_path, "data.pkl")
    (tmp_path / "d.zip").rename(tmp_path / "d.safetensors")
    assert {path.name for path in tmp_path.iterdir() if is_pickle(path)} == {
        "a.json", "c.pt", "data.pkl", "d.safetensors",
    }  # fmt: skip
    with pytest.raises(PickleRefused, match="safetensors"):
        check_contents(tmp_path, ["d.safetensors"])


@pytest.mark.parametrize("secret", ["hf_" + "a" * 34, "-----BEGIN EC PRIVATE KEY-----", "plain-token-in-use"])
def test_a_secret_in_a_file_is_not_published(tmp_path: Path, secret: str) -> None:
    (tmp_path / "README.md").write_text("x" * 100 + f" {secret} ")
    with pytest.raises(SecretRefused) as refused:
        check_contents(tmp_path, ["README.md"], "plain-token-in-use")
    assert secret not in str(refused.value)


BAD_PATHS = ["/a", "a/../b", "", "a//b", "a\\b", "C:x", "a\nb", MANIFEST, ".git/config", "x" * 600]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(BadModelPath):
        check_path(path)


def test_a_manifest_is_read_only_as_it_is_written() -> None:
    manifest = Manifest({"a.safetensors": FileEntry(3, "0" * 64)}, ORIGIN)
    content = manifest.to_bytes()
    assert Manifest.of_bytes(content) == manifest
    told = json.loads(content)
    bad = [
        b"", b"[]", b"{}", content + b" ", content.replace(b'"size": 3', b'"size": 3.0'),
        content.replace(b'"size": 3', b'"size": true'), content.replace(b"a.safe", b"../safe"),
        content.replace(b'"record": 7', b'"record": "7"'), content.replace(b'"kind"', b'"other"'),
        content.replace(b"0" * 64, b"g" * 64), json.dumps(told).encode(),
        (json.dumps({**told, "files": {}}, indent=2, sort_keys=True) + "\n").encode(),
        b"[" * 100_000,
    ]  # fmt: skip
    for wrong in bad:
        with pytest.raises(BadManifest):
            Manifest.of_bytes(wrong)

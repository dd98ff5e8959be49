"""Getting a model from the Hugging Face Hub into the store: no pickle, and only if it is what its manifest says.

Without a manifest only files that are plainly data come. A manifest may name others, such as Python: they are kept and
never run here, but whoever loads the folder with `trust_remote_code` runs them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai.jobs.hub.errors import hub_errors
from distrai.jobs.hub.push import check_repo, open_api, tree_of
from distrai.jobs.hub.token import HubToken, check_presence, read_scope
from distrai.jobs.models.contents import PickleRefused
from distrai.jobs.models.manifest import (
    MANIFEST,
    MANIFEST_BYTES_MAX,
    BadManifest,
    Manifest,
    Origin,
    check_path,
)
from distrai.jobs.models.saving import NothingToSave, files_of, save_model
from distrai.jobs.models.store import DamagedModel, ModelStore, Saved, expect, hash_file

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_WANTED = (".safetensors", ".gguf", ".json", ".txt", ".md", ".jinja", ".model", ".tiktoken")
_SIZE_MAX = 1 << 42


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that was pulled. ``sealed``: its publisher's manifest came with it, and every file agrees with it."""

    saved: Saved
    commit: str
    sealed: bool
    left: tuple[str, ...]


def pull_model(
    store: ModelStore,
    repo: str,
    token: HubToken | None = None,
    *,
    revision: str = "main",
    expected: str = "",
    rented: bool = False,
    quiet: bool = True,
) -> Pulled:
    """Pull a model; ``expected`` is the hash that its manifest must have, as the ledger's record says.

    Raises DamagedModel, ForeignManifest, PickleRefused, StoreFull, and what ``hub_errors`` raises. Nothing of a
    model that is refused stays.
    """
    check_repo(repo)
    api = open_api(token, quiet=quiet)
    folder = store.scratch()
    try:
        with hub_errors(api.endpoint, repo, token.source if token else ""):
            if token is not None and rented:
                check_presence(read_scope(api.whoami()), repo, rented=True)
            commit = str(api.model_info(repo, revision=revision).sha)
            name = f"hub/{repo.replace('/', '--')}--{commit[:8]}"
            tree = tree_of(api, repo, commit)
            manifest = _manifest(api, repo, commit, tree, folder)
            if expected:
                _expect(store, name, manifest, expected)
            wanted = _wanted(tree, manifest)
            _check_room(store, folder, tree, wanted)
            for path in wanted:
                _download(api, repo, commit, path, folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        if manifest is not None:
            _check(folder, manifest, repo)
        origin = manifest.origin if manifest else Origin(source=f"hub:{repo}@{commit}")
        saved = _saved(store, folder, name, origin, repo)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    left = sorted(tree.keys() - saved.manifest.files.keys() - {MANIFEST, ".gitattributes"})
    return Pulled(saved, commit, manifest is not None, tuple(left))


def _saved(store: ModelStore, folder: Path, name: str, origin: Origin, repo: str) -> Saved:
    try:
        return save_model(store, folder, name, origin)
    except NothingToSave:
        raise NothingToSave(
            f"{repo} has no weights as .safetensors; pickles run code when they are loaded, and are not pulled"
        ) from None


def _manifest(api: "HfApi", repo: str, commit: str, tree: Mapping[str, Any], folder: Path) -> Manifest | None:
    if MANIFEST not in tree:
        return None
    if tree[MANIFEST].size > MANIFEST_BYTES_MAX:
        raise BadManifest(f"{MANIFEST} of {repo} is longer than {MANIFEST_BYTES_MAX >> 20} MiB")
    _download(api, repo, commit, MANIFEST, folder)
    return Manifest.of_bytes((folder / MANIFEST).read_bytes())


def _expect(store: ModelStore, name: str, manifest: Manifest | None, expected: str) -> None:
    if manifest is None:
        raise DamagedModel(f"{name} has no {MANIFEST}, so it is not the model that was recorded")
    expect(store.saved(name, manifest), expected)


def _wanted(tree: Mapping[str, Any], manifest: Manifest | None) -> list[str]:
    """What to download: what the manifest names, else every file that is plainly data."""
    if manifest is None:
        named = [path for path in sorted(tree) if path.endswith(_WANTED) and not path.startswith(".")]
    else:
        named = list(manifest.files)
        for path, entry in manifest.files.items():
            if path not in tree or tree[path].size != entry.size:
                raise DamagedModel(
                    f"{path} is {'missing' if path not in tree else 'of another size'} on the hub"
                )
    for path in named:
        check_path(path)
    return named


def _check_room(store: ModelStore, folder: Path, tree: Mapping[str, Any], wanted: list[str]) -> None:
    """Twice the size: the download, and the copy that is saved from it."""
    size = sum(tree[path].size for path in wanted)
    if not 0 <= size < _SIZE_MAX or shutil.disk_usage(folder).free < 2 * size:
        raise store.place.full(2 * size)


def _download(api: "HfApi", repo: str, commit: str, path: str, folder: Path) -> None:
    api.hf_hub_download(repo, path, revision=commit, local_dir=folder)


def _check(folder: Path, manifest: Manifest, repo: str) -> None:
    """Compare every file with the manifest before any of it is kept."""
    kept = files_of(folder)
    for path, entry in manifest.files.items():
        if path not in kept:
            raise PickleRefused(f"{repo} has {path}, which may run code when it is loaded: it is not pulled")
        with kept[path].open("rb") as file:
            if hash_file(file) != entry:
                raise DamagedModel(
                    f"{path} of {repo} is not what its manifest says: it was changed or damaged"
                )

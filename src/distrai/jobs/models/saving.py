"""Saving a finished model into a store: all of it or nothing, and never over another one.

On this machine it is written beside its place, readable only by its owner, and renamed into it. Elsewhere its manifest
comes last, so whatever stops the save leaves nothing that looks like a model.
"""

import io
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from distrai.jobs.models.contents import belongs
from distrai.jobs.models.manifest import MANIFEST, FileEntry, Manifest, Origin, check_path
from distrai.jobs.models.store import ModelStore, Saved, check_name, hash_file

_WEIGHTS = (".safetensors", ".gguf", ".safetensors.sealed", ".gguf.sealed")
_Sources = Mapping[str, Path | bytes]


class ModelExists(ValueError):
    """Another model has this name already."""


class NothingToSave(ValueError):
    """A folder has no finished model in it."""


def save_model(
    store: ModelStore, folder: Path, name: str, origin: Origin, added: Mapping[str, bytes] | None = None
) -> Saved:
    """Copy the finished model in ``folder`` (no pickles, no checkpoints) and ``added`` files, and seal it.

    Saving the same model again changes nothing. Raises BadModelName, NothingToSave, ModelExists, StoreFull,
    StoreUnusable, and BadModelPath for a file that not every system can keep.
    """
    check_name(name)
    sources = chosen_files(folder, added)
    size = sum(
        len(source) if isinstance(source, bytes) else source.stat().st_size for source in sources.values()
    )
    with store.place.errors(size):
        if store.place.is_local:
            return _save_here(store, name, origin, sources, size)
        return _save_there(store, name, origin, sources)


def chosen_files(folder: Path, added: Mapping[str, bytes] | None = None) -> dict[str, Path | bytes]:
    """What is saved of a folder, with what is added to it. Raises NothingToSave."""
    sources: dict[str, Path | bytes] = {**files_of(folder), **(added or {})}
    if not any(path.endswith(_WEIGHTS) for path in sources):
        raise NothingToSave(f"{folder} has no {_WEIGHTS[0]} file: there is no finished model in it")
    return sources


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a finished model in a folder, by path; links that lead out are left. Raises NothingToSave."""
    if not folder.is_dir():
        raise NothingToSave(f"{folder} is no folder: name the one that the training wrote its model into")
    inside = folder.resolve()
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        ours = path.is_file() and name != MANIFEST and path.resolve().is_relative_to(inside)
        if ours and belongs(path, name):
            check_path(name)
            found[name] = path
    return found


def _save_here(store: ModelStore, name: str, origin: Origin, sources: _Sources, size: int) -> Saved:
    target = Path(store.place.path(name))
    Path(store.place.root).mkdir(parents=True, exist_ok=True, mode=0o700)
    if shutil.disk_usage(store.place.root).free < size:
        raise store.place.full(size)
    target.parent.mkdir(exist_ok=True, mode=0o700)
    partial = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    partial.mkdir(mode=0o700)
    try:
        manifest = Manifest(_write(store.place.fs, str(partial), sources), origin)
        if (known := _known(store, name, manifest)) is not None:
            return known
        (partial / MANIFEST).write_bytes(manifest.to_bytes())
        _only_mine(partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            target.parent.rmdir()  # if it is empty: nothing was saved
    return store.saved(name, manifest)


def _save_there(store: ModelStore, name: str, origin: Origin, sources: _Sources) -> Saved:
    if (
        known := _known(store, name, Manifest({path: entry_of(s) for path, s in sources.items()}, origin))
    ) is not None:
        return known
    root = store.place.path(name)
    manifest = Manifest(_write(store.place.fs, root, sources), origin)
    store.place.fs.pipe_file(f"{root}/{MANIFEST}", manifest.to_bytes())
    return store.saved(name, manifest)


def _known(store: ModelStore, name: str, manifest: Manifest) -> Saved | None:
    """The model of this name if it is the same. Raises ModelExists if it is another."""
    there = store.get(name)
    if there is not None and there.manifest != manifest:
        raise ModelExists(f"{name} is another model already, and is not replaced: choose another name")
    return there


def _write(fs: Any, root: str, sources: _Sources) -> dict[str, FileEntry]:
    entries = {}
    for path, source in sources.items():
        fs.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
        with reading(source) as file, fs.open(f"{root}/{path}", "wb") as writing:
            entries[path] = hash_file(file, writing)
    return entries


def reading(source: Path | bytes) -> BinaryIO:
    """What is to be saved, opened."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def entry_of(source: Path | bytes) -> FileEntry:
    """Its size and hash."""
    with reading(source) as file:
        return hash_file(file)


def _only_mine(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)

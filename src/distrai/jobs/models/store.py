"""Finished models: ``<store>/<address>/<job>/``, in a folder of this machine or in any place that fsspec reaches.

A model is there once its manifest is, which is written last (``saving.py``). A saved model is never changed.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.models.manifest import MANIFEST, MANIFEST_BYTES_MAX, BadManifest, FileEntry, Manifest
from distrai.jobs.models.places import Place

STORE_VARIABLE = "DISTRAI_MODELS"
BLOCK = 1 << 20
_NAME = re.compile(r"(?:0x[0-9a-f]{40}|hub)/[A-Za-z0-9][A-Za-z0-9._-]{0,189}")


class BadModelName(ValueError):
    """A name that no model can have, or that several have."""


class NoModel(ValueError):
    """There is no such model."""


class DamagedModel(ValueError):
    """A model's files are not those of its manifest."""


class ForeignManifest(ValueError):
    """A model is whole, but not the one that was expected."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A model in a store: its name (``address/job``, or ``hub/owner--name--commit`` if pulled) and its manifest."""

    name: str
    location: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing a model with its manifest showed; paths of files."""

    saved: Saved
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file of the manifest is there and unchanged. Files beside them are told, and no fault."""
        return not self.missing and not self.changed

    @property
    def why(self) -> str:
        """What is wrong, in a few words."""
        found = [f"{path} is missing" for path in self.missing] + [
            f"{path} was changed" for path in self.changed
        ]
        return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def default_store(environment: Mapping[str, str] | None = None) -> str:
    """Where models are if nobody says otherwise: $DISTRAI_MODELS, or the user's folder of data."""
    environment = os.environ if environment is None else environment
    if chosen := environment.get(STORE_VARIABLE, ""):
        return chosen
    base = environment.get("XDG_DATA_HOME", "")
    return str((Path(base) if base else Path.home() / ".local" / "share") / "distrai" / "models")


def check_name(name: str) -> None:
    """Raise BadModelName unless it is ``address/job``: 0x and 40 small hexadecimal digits, and a plain name."""
    if not _NAME.fullmatch(name):
        raise BadModelName(
            f"{name[:100]!r} is no name of a model: it is ADDRESS/JOB, as `distrai models list` shows"
        )


def hash_file(reading: Any, writing: Any = None) -> FileEntry:
    """Read all of a file, write it where there is somewhere to, and say what was read."""
    digest, size = hashlib.sha256(), 0
    while block := reading.read(BLOCK):
        digest.update(block)
        size += len(block)
        if writing is not None:
            writing.write(block)
    return FileEntry(size, digest.hexdigest())


@dataclass(frozen=True)
class ModelStore:
    """The models in a place."""

    place: Place

    @classmethod
    def at(cls, url: str = "") -> "ModelStore":
        """The store there, or the default one. Raises StoreUnusable."""
        return cls(Place(url or default_store()))

    def find(self, name: str) -> Saved:
        """A model by its name, or by the part after the slash if only one has it.

        Raises NoModel, BadModelName, BadManifest, StoreUnusable.
        """
        if "/" in name:
            check_name(name)
            if (there := self.get(name)) is None:
                raise self._missing(name)
            return there
        found = [saved for saved in self.all() if saved.name.split("/")[1] == name]
        if not found:
            raise self._missing(name)
        if len(found) > 1:
            raise BadModelName(
                f"several models are called {name}: say {' or '.join(saved.name for saved in found)}"
            )
        return found[0]

    def get(self, name: str) -> Saved | None:
        """The model with this full name, if there is one. Raises BadManifest, StoreUnusable."""
        path = f"{self.place.path(name)}/{MANIFEST}"
        with self.place.errors():
            if not self.place.fs.exists(path):
                return None
            with self.place.reading(path) as file:
                content = file.read(MANIFEST_BYTES_MAX + 1)
        return self.saved(name, Manifest.of_bytes(content))

    def all(self) -> list[Saved]:
        """Every model with a manifest that can be read, by name. Raises StoreUnusable."""
        return [saved for _, saved in self._listed() if saved is not None]

    def broken(self) -> list[str]:
        """Names of models whose manifest is none."""
        return [name for name, saved in self._listed() if saved is None]

    def saved(self, name: str, manifest: Manifest) -> Saved:
        """A model of this store."""
        return Saved(name, f"{self.place.url.rstrip('/')}/{name}", manifest)

    def verify(self, saved: Saved) -> Verdict:
        """Compare every file of a model with its manifest. Raises StoreUnusable."""
        expected, root = saved.manifest.files, self.place.path(saved.name)
        with self.place.errors():
            there = {str(path)[len(root) + 1 :] for path in self.place.fs.find(root)} - {MANIFEST}
            changed = [
                path for path in sorted(expected.keys() & there) if self._hash(root, path) != expected[path]
            ]
        missing, extra = sorted(expected.keys() - there), sorted(there - expected.keys())
        return Verdict(saved, tuple(missing), tuple(changed), tuple(extra))

    @contextmanager
    def opened(self, saved: Saved) -> Iterator[Path]:
        """A folder of this machine with a model that was verified; a copy if the store is elsewhere.

        Raises DamagedModel, StoreFull, StoreUnusable.
        """
        verdict = self.verify(saved)
        if not verdict.ok:
            raise DamagedModel(f"{saved.name} is damaged: {verdict.why}; pull it or save it again")
        if self.place.is_local:
            yield Path(self.place.path(saved.name))
            return
        with tempfile.TemporaryDirectory(prefix="distrai-model-") as copy:
            self._copy_out(saved, Path(copy))
            yield Path(copy)

    def scratch(self) -> Path:
        """A new private folder, on the disk of the store if that is this machine's. Raises StoreFull, StoreUnusable."""
        if not self.place.is_local:
            return Path(tempfile.mkdtemp(prefix="distrai-model-"))
        with self.place.errors():
            Path(self.place.root).mkdir(parents=True, exist_ok=True, mode=0o700)
            return Path(tempfile.mkdtemp(prefix=".pull-", dir=self.place.root))

    def _copy_out(self, saved: Saved, folder: Path) -> None:
        with self.place.errors(saved.manifest.size):
            for path in saved.manifest.files:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with (
                    self.place.reading(f"{self.place.path(saved.name)}/{path}") as source,
                    target.open("wb") as out,
                ):
                    shutil.copyfileobj(source, out, BLOCK)
            (folder / MANIFEST).write_bytes(saved.manifest.to_bytes())

    def _hash(self, root: str, path: str) -> FileEntry:
        with self.place.reading(f"{root}/{path}") as file:
            return hash_file(file)

    def _missing(self, name: str) -> NoModel:
        return NoModel(
            f"there is no model {name[:80]} in {self.place.url}: `distrai models list` shows what there is"
        )

    def _listed(self) -> Iterator[tuple[str, Saved | None]]:
        with self.place.errors():
            owners = self.place.folders("")
            names = [f"{owner}/{job}" for owner in owners for job in self.place.folders(owner)]
        for name in names:
            if _NAME.fullmatch(name):
                try:
                    saved = self.get(name)
                except BadManifest:
                    yield name, None
                    continue
                if saved is not None:
                    yield name, saved


def expect(saved: Saved, manifest_hash: str) -> None:
    """Raise ForeignManifest unless a model's manifest has this hash (with or without 0x): a ledger's, or a friend's."""
    expected = manifest_hash.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise ForeignManifest(
            f"{manifest_hash[:80]!r} is no hash of a manifest: it has 64 hexadecimal digits"
        )
    if expected not in (saved.manifest.hash, saved.manifest.inner_hash):
        raise ForeignManifest(
            f"{saved.name} is not the model that was recorded: its manifest is {saved.manifest.hash[:16]}..., "
            f"and {expected[:16]}... was expected"
        )

"""The manifest of a finished model: what it was made of, and the SHA-256 and size of every file.

It lies beside the files as ``distrai.json``, always as the same bytes for the same content. The SHA-256 of those bytes
closes the training record on the ledger, so anyone can check a published model with any tool that hashes files.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from distrai.protocol.plain_json import load_json

MANIFEST = "distrai.json"
FORMAT = 1
FILES_MAX = 10_000
MANIFEST_BYTES_MAX = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH_LENGTH_MAX = 512
_NOT_OURS = {MANIFEST, ".gitattributes"}
"""Files that a manifest cannot name: itself, and the one that a hub adds."""


class BadManifest(ValueError):
    """What should be a manifest is none."""


class BadModelPath(ValueError):
    """A file of a model has a path that leads out of its folder, or that not every system can keep."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a model was made from. Hashes are hexadecimal text; what is empty or 0 is not known.

    ``base_hash`` is that of the base model's folder where it was one, ``record`` the number of the training record on
    the ledger, ``source`` where it was pulled from, ``sealed`` the hash of the manifest within an encrypted model.
    """

    kind: str = ""
    base_model: str = ""
    base_hash: str = ""
    data: str = ""
    data_hash: str = ""
    script: str = ""
    script_hash: str = ""
    address: str = ""
    job: str = ""
    record: int = 0
    chain_id: int = 0
    source: str = ""
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model by path, and what it was made from."""

    files: Mapping[str, FileEntry]
    origin: Origin

    def to_bytes(self) -> bytes:
        """The one way to write it: sorted keys, two spaces, no time, a newline at the end."""
        told = {
            "files": {path: asdict(entry) for path, entry in self.files.items()},
            "format": FORMAT,
            "origin": {name: value for name, value in asdict(self.origin).items() if value},
        }
        return (json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @property
    def hash(self) -> str:
        """The SHA-256 of its bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def inner_hash(self) -> str:
        """What the training record has: of an encrypted model the hash of the manifest within."""
        return self.origin.sealed or self.hash

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @classmethod
    def of_bytes(cls, content: bytes) -> "Manifest":
        """Read one that anyone may have written. Raises BadManifest."""
        if len(content) > MANIFEST_BYTES_MAX:
            raise BadManifest(f"the manifest is longer than {MANIFEST_BYTES_MAX >> 20} MiB")
        try:
            told = load_json(content)
        except ValueError as error:
            raise BadManifest(f"{MANIFEST} is no JSON: {error}") from None
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise BadManifest(
                f"{MANIFEST} is no manifest of format {FORMAT}: get a newer DisTrAI, or the model anew"
            )
        manifest = cls(_files(told.get("files")), _origin(told.get("origin")))
        if manifest.to_bytes() != content:
            raise BadManifest(
                f"{MANIFEST} is not written as manifests are, so its hash says nothing: it was changed"
            )
        return manifest


def check_path(path: str) -> None:
    """Raise BadModelPath unless ``path`` is relative, stays inside, and can be a name of a file everywhere."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path and len(path) <= _PATH_LENGTH_MAX
    inside = not PurePosixPath(path).is_absolute() and all(part not in ("", ".", "..") for part in parts)
    if not (plain and inside):
        raise BadModelPath(f"{path[:80]!r} is no path of a file inside a model's folder")
    if path in _NOT_OURS or parts[0] == ".git":
        raise BadModelPath(f"{path!r} is a name that DisTrAI or git needs: rename the file")


def _files(told: Any) -> dict[str, FileEntry]:
    if not isinstance(told, dict) or not 0 < len(told) <= FILES_MAX:
        raise BadManifest(f"{MANIFEST} must name 1 to {FILES_MAX} files")
    files = {}
    for path, entry in told.items():
        try:
            check_path(path)
        except BadModelPath as error:
            raise BadManifest(f"{MANIFEST}: {error}") from None
        if not (isinstance(entry, dict) and entry.keys() == {"size", "sha256"}):
            raise BadManifest(f"{MANIFEST}: {path} must have size and sha256, and nothing else")
        size, digest = entry["size"], entry["sha256"]
        if type(size) is not int or size < 0 or not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise BadManifest(f"{MANIFEST}: size or sha256 of {path} is none")
        files[path] = FileEntry(size, digest)
    return files


def _origin(told: Any) -> Origin:
    types = {field.name: type(field.default) for field in fields(Origin)}
    if not isinstance(told, dict) or not told.keys() <= types.keys():
        raise BadManifest(f"{MANIFEST}: origin may have {', '.join(types)}, and nothing else")
    for name, value in told.items():
        if type(value) is not types[name]:
            raise BadManifest(f"{MANIFEST}: {name} of origin must be {types[name].__name__}")
    return Origin(**told)

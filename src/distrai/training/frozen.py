"""A model that stays as it is (a base that an adapter is trained on, a teacher) as blobs: a manifest, and its parts.

It may come from a stranger. ``parse_model_manifest`` believes nothing: size first, then types and bounds, names from a
short list (so that no path leads anywhere else), then that the bytes are the only spelling of what they say. The parts
are blobs, each proved by its hash; a folder is made of them under another name and renamed once it is whole.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from distrai.protocol.blobs import BlobRef
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash
from distrai.training.errors import (
    BadModelManifest,
    MalformedManifest,
    ManifestNotCanonical,
    ManifestTooLarge,
)

MODEL_MANIFEST_BYTES_MAX = 4 << 20
"""Longest manifest of a model that is read."""
PART_BYTES = 64 << 20
"""Where files are cut: small enough to arrive in one go, and files of one part need no second copy on the disk."""
_PARAMETER_BYTES_MAX, _ROOM_BYTES = 8, 64 << 20
"""Of a parameter with what buffers there may be; of configuration and headers."""
MODEL_BYTES_MAX = 1 << 42
CONFIG_BYTES_MAX = 1 << 20
CONFIG_FILE = "config.json"
_NAMES = re.compile(r"config\.json|model-\d{5}\.safetensors")

_Hex = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of a file: a blob."""

    hash: _Hex
    size: Annotated[int, msgspec.Meta(ge=1, le=PART_BYTES)]

    @property
    def blob(self) -> BlobRef:
        """The blob to fetch."""
        return BlobRef(Hash(bytes.fromhex(self.hash[2:])), self.size)


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the folder, in parts."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    parts: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1)]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.size for part in self.parts)


class ModelManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a frozen model's folder consists of."""

    format: Literal["distrai/model/1"]
    parameters: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]
    """Of the whole model, what is trained and is in no file included."""
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def copied_bytes(self) -> int:
        """Bytes that are twice on the disk once they are unpacked: of files with several parts."""
        return sum(file.size for file in self.files if len(file.parts) > 1)

    def blobs(self) -> Iterator[BlobRef]:
        """Every part, in order: what to fetch."""
        return (part.blob for file in self.files for part in file.parts)

    def to_bytes(self) -> bytes:
        """The canonical JSON bytes."""
        return canonical_json(msgspec.to_builtins(self))


def parse_model_manifest(data: bytes) -> ModelManifest:
    """Read and check the bytes of a manifest.

    Raises ManifestTooLarge, MalformedManifest, BadModelManifest or ManifestNotCanonical.
    """
    if len(data) > MODEL_MANIFEST_BYTES_MAX:
        raise ManifestTooLarge(
            f"a model manifest has at most {MODEL_MANIFEST_BYTES_MAX} bytes, this one {len(data)}"
        )
    try:
        manifest = msgspec.json.decode(data, type=ModelManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedManifest(f"these bytes are no model manifest: {error}") from None
    _check(manifest)
    if manifest.to_bytes() != data:
        raise ManifestNotCanonical("this model manifest is not in canonical JSON")
    return manifest


def _check(manifest: ModelManifest) -> None:
    names = [file.name for file in manifest.files]
    for name in names:
        if not _NAMES.fullmatch(name):
            raise BadModelManifest(f"a model's folder holds no file {name!r}")
    if names != sorted(set(names)) or CONFIG_FILE not in names:
        raise BadModelManifest(f"a model's files are sorted, each once, and {CONFIG_FILE} is one of them")
    for file in manifest.files:
        if any(part.size != PART_BYTES for part in file.parts[:-1]):
            raise BadModelManifest(
                f"only the last part of {file.name} may be shorter than {PART_BYTES} bytes"
            )
    if manifest.files[0].size > CONFIG_BYTES_MAX:
        raise BadModelManifest(f"{CONFIG_FILE} has at most {CONFIG_BYTES_MAX} bytes")
    if manifest.size > _PARAMETER_BYTES_MAX * manifest.parameters + _ROOM_BYTES:  # one part, named many times
        raise BadModelManifest(f"{manifest.parameters} parameters do not take {manifest.size} bytes")
    if manifest.size > MODEL_BYTES_MAX:
        raise BadModelManifest(f"a model has at most {MODEL_BYTES_MAX} bytes")


def pack(folder: Path, parameters: int, put: Callable[[bytes], BlobRef]) -> ModelManifest:
    """Cut the files of a folder into blobs, which ``put`` stores; their manifest, which it stores as well."""
    files = tuple(ModelFile(path.name, tuple(_parts(path, put))) for path in sorted(folder.iterdir()))
    manifest = ModelManifest("distrai/model/1", parameters, files)
    _check(manifest)
    put(manifest.to_bytes())
    return manifest


def _parts(path: Path, put: Callable[[bytes], BlobRef]) -> Iterator[Part]:
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            yield Part("0x" + put(data).hash.hex(), len(data))


@dataclass(frozen=True)
class Parts:
    """Where the parts of a model are at hand (a blob store)."""

    give: Callable[[BlobRef, Path], None]
    """Puts a blob at a path, without a second copy where that can be."""
    chunks: Callable[[BlobRef], Iterator[bytes]]
    """The bytes of a blob, each chunk checked."""


def unpack(manifest: ModelManifest, name: Hash, parts: Parts, home: Path) -> Path:
    """The folder of a model whose manifest has this name, below ``home``: made of its parts, unless it is there.

    Raises what ``parts`` raise where one is missing or damaged; nothing half made is left or taken for whole.
    """
    folder = home / name.hex()
    if _is_whole(folder, manifest):
        return folder
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = home / f"{name.hex()}.{os.getpid()}.tmp"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        for file in manifest.files:
            _write(file, parts, made / file.name)
        shutil.rmtree(folder, ignore_errors=True)  # another size than it should have
        with suppress(OSError):  # another process was faster: its folder is the same
            made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _write(file: ModelFile, parts: Parts, path: Path) -> None:
    if len(file.parts) == 1:
        parts.give(file.parts[0].blob, path)
        return
    with path.open("wb") as out:
        for part in file.parts:
            for chunk in parts.chunks(part.blob):
                out.write(chunk)
        out.flush()
        os.fsync(out.fileno())


def _is_whole(folder: Path, manifest: ModelManifest) -> bool:
    """The name is given to whole folders only; sizes are looked at for what was done to them since."""
    if not folder.is_dir():
        return False
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    return sizes == {file.name: file.size for file in manifest.files}

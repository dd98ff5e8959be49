"""Models whose files are encrypted to their owner: kept, published and verified like others, read by the owner alone.

Its manifest lists the encrypted files and names the hash of the manifest within (``origin.sealed``), which is the one
that the training record has; so the record stands for the model whether it is looked at sealed or opened.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from distrai.jobs.models.contents import PickleRefused
from distrai.jobs.models.manifest import MANIFEST, MANIFEST_BYTES_MAX, BadManifest, Manifest, Origin
from distrai.jobs.models.saving import ModelExists, chosen_files, entry_of, files_of, reading, save_model
from distrai.jobs.models.sealing import SEALED, WrongKey, seal, unseal
from distrai.jobs.models.store import DamagedModel, ModelStore, Saved, hash_file
from distrai.ledger.keys import NodeKey

OPENED = "-open"
"""How the name of a decrypted model ends, in the store."""
_CARD = """---
tags: ["distrai", "encrypted"]
---
# An encrypted model

Its files are encrypted to the key of `{address}`, and of use to nobody else. The owner opens it with
`distrai models decrypt`. `distrai.json` lists the SHA-256 of every file; `distrai models verify` compares them.
"""


class NotSealed(ValueError):
    """A model is not encrypted, so there is nothing to decrypt."""


class NotOpened(ValueError):
    """A model is encrypted, and cannot be used like this."""


def save_sealed(
    store: ModelStore,
    folder: Path,
    name: str,
    origin: Origin,
    owner: NodeKey,
    added: Mapping[str, bytes] | None = None,
) -> Saved:
    """As ``save_model``, but every file is encrypted to ``owner`` first. Saving the same again changes nothing."""
    sources = chosen_files(folder, added)
    with store.place.errors():
        plain = Manifest({path: entry_of(source) for path, source in sources.items()}, origin)
    if (there := store.get(name)) is not None:
        if there.manifest.origin.sealed == plain.hash:
            return there
        raise ModelExists(f"{name} is another model already, and is not replaced: choose another name")
    work = store.scratch()
    try:
        with store.place.errors(plain.size):
            for path, source in {**sources, MANIFEST: plain.to_bytes()}.items():
                target = work / (path + SEALED)
                target.parent.mkdir(parents=True, exist_ok=True)
                with reading(source) as file, target.open("wb") as writing:
                    seal(file, writing, owner.public_key, path)
        address = "0x" + owner.address.hex()
        told = Origin(
            kind=origin.kind,
            script_hash=origin.script_hash,
            address=origin.address or address,
            job=origin.job,
            record=origin.record,
            chain_id=origin.chain_id,
            sealed=plain.hash,
        )
        return save_model(store, work, name, told, {"README.md": _CARD.format(address=address).encode()})
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sealed_copy(store: ModelStore, saved: Saved, owner: NodeKey) -> Saved:
    """An encrypted copy beside a model that is not, to publish; the same one again if there is one."""
    if saved.manifest.origin.sealed:
        return saved
    with store.opened(saved) as folder:
        return save_sealed(store, folder, f"{saved.name}-sealed", saved.manifest.origin, owner)


def decrypt_model(store: ModelStore, saved: Saved, key: NodeKey, out: Path | None = None) -> Saved:
    """The model within, whole and as its manifest says: in the store (``NAME-open``), or in the new folder ``out``.

    Raises NotSealed, WrongKey, DamagedModel, PickleRefused, ModelExists, StoreFull, StoreUnusable. Nothing half stays.
    """
    origin = saved.manifest.origin
    if not origin.sealed:
        raise NotSealed(f"{saved.name} is not encrypted: it can be used as it is")
    if out is not None and out.exists():
        raise ModelExists(f"{out} exists: give --out a folder that is new")
    target = store if out is None else ModelStore.at(str(out.absolute().parent))
    work = target.scratch()
    try:
        with store.opened(saved) as folder, target.place.errors(saved.manifest.size):
            plain = _manifest(folder, work, saved, key)
            for path, entry in plain.files.items():
                _open_file(folder, work, path, key, entry.size)
        _check(work, plain, saved)
        if out is None:
            return save_model(store, work, f"{saved.name}{OPENED}", plain.origin)
        (work / MANIFEST).write_bytes(plain.to_bytes())
        work.rename(out.absolute())
        return Saved(out.name, str(out), plain)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _manifest(folder: Path, work: Path, saved: Saved, key: NodeKey) -> Manifest:
    """The manifest within."""
    origin = saved.manifest.origin
    try:
        _open_file(folder, work, MANIFEST, key, MANIFEST_BYTES_MAX)
    except WrongKey as error:
        raise WrongKey(
            f"{saved.name} cannot be opened with the key of 0x{key.address.hex()}: it is encrypted to "
            f"{origin.address or 'another one'}; name that wallet with --wallet"
        ) from error
    content = (work / MANIFEST).read_bytes()
    (work / MANIFEST).unlink()
    try:
        plain = Manifest.of_bytes(content)
    except BadManifest as error:
        raise DamagedModel(f"{saved.name}: within it, {error}") from None
    if plain.hash != origin.sealed:
        raise DamagedModel(
            f"{saved.name} has another model within than it says: it was put together by somebody else"
        )
    return plain


def _open_file(folder: Path, work: Path, path: str, key: NodeKey, size: int) -> None:
    source, target = folder / (path + SEALED), work / path
    if not source.is_file():
        raise DamagedModel(f"{path} is missing in the encrypted model")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, target.open("wb") as writing:
        unseal(file, writing, key, path, size)


def _check(work: Path, plain: Manifest, saved: Saved) -> None:
    kept = files_of(work)
    for path, entry in plain.files.items():
        if path not in kept:
            raise PickleRefused(
                f"{saved.name} has {path} within, which may run code when it is loaded: it is not kept"
            )
        with kept[path].open("rb") as file:
            if hash_file(file) != entry:
                raise DamagedModel(f"{path} within {saved.name} is not what its manifest says")


def told_within(origin: Origin) -> str:
    """What is told of an encrypted model; empty for another one."""
    return f"encrypted to {origin.address}: `distrai models decrypt` opens it" if origin.sealed else ""


def check_opened(saved: Saved) -> None:
    """Raise NotOpened unless a model can be used as it is."""
    if saved.manifest.origin.sealed:
        raise NotOpened(
            f"{saved.name} is encrypted: `distrai models decrypt {saved.name}` opens it for its owner"
        )

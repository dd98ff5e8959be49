"""What may lie in a published model: data, never code that runs when it is loaded, and no secret."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

_PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".pt2"}
_SIDE = {"training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"}
_PICKLE_HEAD = re.compile(rb"\x80[\x02-\x05]")
_TEXTS = {
    "",
    ".cfg",
    ".ini",
    ".jinja",
    ".json",
    ".jsonl",
    ".log",
    ".md",
    ".py",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
_BLOCK = 4 << 20
_SECRETS = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bsk-[A-Za-z0-9_-]{32,}|\bAKIA[0-9A-Z]{16}\b"
)
"""Tokens of hubs and clouds, and private keys, as their makers write them."""


class PickleRefused(ValueError):
    """A file would run code when it is loaded."""


class SecretRefused(ValueError):
    """A file has something in it that looks like a token or a private key."""


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or a container that may hold one: by its name or by how it begins."""
    if path.suffix.lower() in _PICKLES:
        return True
    with path.open("rb") as file:
        head = file.read(4)
    if _PICKLE_HEAD.match(head):
        return True
    return head == b"PK\x03\x04" and _holds_pickle(path)


def belongs(path: Path, name: str) -> bool:
    """Whether a file of a training's folder belongs to its finished model: no pickle, no checkpoint, nothing hidden."""
    parts = PurePosixPath(name).parts
    if any(part.startswith(("checkpoint-", ".")) or part == "__pycache__" for part in parts):
        return False
    return parts[-1] not in _SIDE and not parts[-1].startswith("rng_state") and not is_pickle(path)


def check_contents(folder: Path, names: Iterable[str], token: str = "") -> None:
    """Raise PickleRefused or SecretRefused if one of these files must not be published.

    ``token`` is the one in use: it must be in no file, whatever it looks like.
    """
    for name in names:
        path = folder / name
        if is_pickle(path):
            raise PickleRefused(
                f"{name} is a pickle, which runs code when it is loaded, and is not published: "
                "save the model as safetensors"
            )
        if path.suffix.lower() in _TEXTS and _has_secret(path, token.encode()):
            raise SecretRefused(
                f"{name} has a token or a private key in it, and is not published: "
                "take it out, and replace the token, since it may be known"
            )


def _has_secret(path: Path, token: bytes) -> bool:
    overlap = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text = overlap + block
            if _SECRETS.search(text) or (token and token in text):
                return True
            overlap = text[-256:]
    return False


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).suffix.lower() in _PICKLES for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False

"""What a job made: files that lie inside its OUT, each with its SHA-256."""

import hashlib
from pathlib import Path

FILES_MAX = 10_000


class ArtifactRefused(ValueError):
    """A result that a script named is not inside its OUT, or is no file."""


def artifact_files(out: Path, name: str) -> list[Path]:
    """The files of an artifact, in order, as seen from ``out``. Raises ArtifactRefused."""
    path = _inside(out, out / name, name)
    if path.is_file():
        return [path.relative_to(out.resolve())]
    if not path.is_dir():
        raise ArtifactRefused(f"the artifact {name!r} is not there, or is no file")
    found = []
    for item in sorted(path.rglob("*")):
        if item.is_symlink() or not item.is_dir():
            target = _inside(out, item, f"{name}/{item.relative_to(path)}")
            if not target.is_file():
                raise ArtifactRefused(f"the artifact {name!r} has something that is no file: {item.name!r}")
            found.append(item.relative_to(out.resolve()))
        if len(found) > FILES_MAX:
            raise ArtifactRefused(f"the artifact {name!r} has more than {FILES_MAX} files")
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(out: Path, path: Path, name: str) -> Path:
    """Where a path really leads, if that is inside of OUT."""
    try:
        target, root = path.resolve(), out.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactRefused(f"the artifact {name!r} cannot be found: {error}") from None
    if not target.is_relative_to(root) or target == root:
        raise ArtifactRefused(f"the artifact {name!r} lies outside of OUT: only what is inside is taken")
    return target

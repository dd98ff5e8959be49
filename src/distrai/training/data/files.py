"""A corpus of one's own: text files that match globs, split file by file.

A file's split follows from the contents of the files alone: ordered by their hash, the first ones are held
out until the held-out share of bytes is reached, the next ones are for tuning, the rest is trained on. So
names, places and the machine do not matter, and equal files count once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from distrai.training.data.documents import Document
from distrai.training.data.splitting import splits_of
from distrai.training.errors import NothingMatches, NotText


@dataclass(frozen=True, slots=True)
class _File:
    digest: bytes
    size: int
    path: Path


def files_documents(
    globs: Sequence[str], base: Path, held_out_fraction: float, tuning_fraction: float
) -> Iterator[Document]:
    """The documents of the files that match ``globs`` (relative to ``base``), one at a time.

    Fractions are shares of the bytes; a part with a fraction above 0 gets at least one file.
    Raises NothingMatches, CorpusTooSmall (too few different files), NotText.
    """
    files = sorted(_distinct(matching_files(globs, base)), key=lambda file: file.digest)
    what = "the globs of [data] match {} different, non-empty files"
    splits = splits_of([file.size for file in files], held_out_fraction, tuning_fraction, what)
    for file, split in zip(files, splits, strict=True):
        yield Document(file.path.name, split, _read(file.path))


def matching_files(globs: Sequence[str], base: Path) -> list[Path]:
    """The files that match ``globs`` (relative to ``base``), by name. Raises NothingMatches."""
    found: set[Path] = set()
    for pattern in globs:
        files = {path for path in _glob(pattern, base) if path.is_file()}
        if not files:
            raise NothingMatches(
                f'[data] globs: "{pattern}" matches no file; "**/*.txt" looks in folders too'
            )
        found |= files
    if not found:
        raise NothingMatches('[data] globs is empty; name the files, such as globs = ["texts/**/*.txt"]')
    return sorted(found)


def _glob(pattern: str, base: Path) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return base.glob(pattern)


def _distinct(paths: Sequence[Path]) -> list[_File]:
    files: dict[bytes, _File] = {}
    for path in paths:
        data = path.read_bytes()
        digest = blake3(data).digest()
        if data and digest not in files:
            files[digest] = _File(digest, len(data), path)
    return list(files.values())


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise NotText(
            f"{path.name} is no UTF-8 text (byte {error.start}); convert it, or narrow [data] globs"
        ) from None

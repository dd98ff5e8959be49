"""A corpus of one's own: text files that match globs, split file by file.

A file's split follows from the contents of the files alone: ordered by their hash, the first ones are held
out until the held-out share of bytes is reached, the next ones are for tuning, the rest is trained on. So
names, places and the machine do not matter, and equal files count once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from distrai.training.data.documents import Document, Split
from distrai.training.errors import CorpusTooSmall, NothingMatches, NotText


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
    files = sorted(_distinct(_matches(globs, base)), key=lambda file: file.digest)
    for file, split in zip(files, _splits(files, held_out_fraction, tuning_fraction), strict=True):
        yield Document(file.path.name, split, _read(file.path))


def _matches(globs: Sequence[str], base: Path) -> list[Path]:
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


def _splits(files: Sequence[_File], held_out_fraction: float, tuning_fraction: float) -> list[Split]:
    needed = 1 + (held_out_fraction > 0) + (tuning_fraction > 0)
    if len(files) < needed:
        raise CorpusTooSmall(
            f"the globs of [data] match {len(files)} different, non-empty files, but {needed} are needed to "
            f"train, tune and measure on different ones; add files, or cut yours up"
        )
    total = sum(file.size for file in files)
    shares: list[tuple[Split, float]] = [("held_out", held_out_fraction), ("tuning", tuning_fraction)]
    splits: list[Split] = []
    for at, (split, share) in enumerate(shares):
        wanted, left_for_others = share * total, 1 + (at == 0 and tuning_fraction > 0)
        while wanted > 0 and len(splits) < len(files) - left_for_others:
            wanted -= files[len(splits)].size
            splits.append(split)
    return splits + ["train"] * (len(files) - len(splits))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise NotText(
            f"{path.name} is no UTF-8 text (byte {error.start}); convert it, or narrow [data] globs"
        ) from None

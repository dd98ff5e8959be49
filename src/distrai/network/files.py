"""The files behind a blob store: whole or not there at all, and read chunk by chunk."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distrai.protocol.blobs import CHUNK_SIZE, chunk_hash
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import Hash

_TEMPORARY = ".tmp"
_serial = itertools.count()


@contextmanager
def written_aside(path: Path, parts: Iterable[bytes | memoryview]) -> Iterator[Path]:
    """A durable file with a name of its own, in the folder of ``path``; gone at the end unless it got another name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{next(_serial)}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file durably, so that it is whole or not there whatever happens, and whoever else writes the same."""
    with written_aside(path, parts) as temporary:
        temporary.replace(path)
    sync_folder(path.parent)


def link_whole(source: Path, path: Path) -> bool:
    """Give a whole file a second name; False where the file system has no such thing, or not between these folders."""
    try:
        os.link(source, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    sync_folder(path.parent)
    return True


def clear_left_overs(folder: Path) -> None:
    """Remove what processes that are gone were writing to a folder when they ended."""
    for path in folder.glob(f"*{_TEMPORARY}"):
        number = path.suffixes[-2].lstrip(".").split("-")[0]
        if not (number.isdecimal() and _is_alive(int(number))):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def sync_file(path: Path) -> None:
    """Make what was written to a file durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The chunks of a file, one at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk


def same_chunks(found: Iterable[bytes], hashes: Sequence[Hash]) -> Iterator[bytes]:
    """Pass chunks on while they are what was hashed before. Raises WrongBlob."""
    count = 0
    for chunk in found:
        if count >= len(hashes) or chunk_hash(chunk) != hashes[count]:
            raise WrongBlob("the file changed while it was copied: publish files that nobody writes to")
        count += 1
        yield chunk
    if count != len(hashes):
        raise WrongBlob("the file became shorter while it was copied: publish files that nobody writes to")

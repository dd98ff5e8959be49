"""Small files that are whole or not there, and the folder where DisTrAI keeps what belongs to a user."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distrai.network.files import write_whole

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OSError):
    """There is no room for what a job has to keep; the message says what to do."""


def user_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where jobs and templates of this user are: ``distrai`` in $XDG_DATA_HOME (~/.local/share)."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "share") / "distrai"


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where environments are, which can be made anew: ``distrai`` in $XDG_CACHE_HOME (~/.cache)."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "distrai"


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file that people may read."""
    write_whole(path, [(json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()])


def make_mark(path: Path) -> None:
    """An empty file where somebody else may have put something: a link there is taken away, and never followed."""
    if path.is_symlink():
        path.unlink()
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))


@contextmanager
def needs_room(folder: Path, then: str) -> Iterator[None]:
    """Raise DiskFull, with what to do ``then``, where what is done inside finds no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DiskFull(f"the disk of {folder} is full; nothing is lost: make room, then {then}") from error

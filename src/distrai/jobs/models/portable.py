"""What a job made says nothing of where it was made: no path of the sender's machine stays in its adapter and model.

peft writes where the base model lay into ``adapter_config.json`` and the card. A hub's name stays as it is; of a folder
stays its name with the hash of its files, which is no name on any hub, so nobody is given another model by mistake.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from distrai.jobs.models.contents import belongs
from distrai.jobs.records.claims import base_of
from distrai.jobs.running.artifacts import file_sha256
from distrai.jobs.running.store import JobFolder
from distrai.network.files import write_whole

_TEXTS = {".json", ".md", ".yaml", ".yml", ".txt", ".jinja"}
_BYTES_MAX = 4 << 20
"""Longer texts are vocabularies, which name no folders."""
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)

Shown = Mapping[str, Callable[[], str]]
"""Paths, and what to write instead; asked for only where a path is found, since a hash may take minutes."""


def make_portable(folder: Path, shown: Shown) -> list[str]:
    """Replace paths in the small texts of a folder (or in one file); the names of those that were changed."""
    changed = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.suffix.lower() not in _TEXTS:
            continue
        if path.stat().st_size > _BYTES_MAX:
            continue
        before = path.read_bytes()
        after = without_paths(path.name, before, shown)
        if after != before:
            write_whole(path, [after])
            changed.append(path.name)
    return changed


def without_paths(name: str, content: bytes, shown: Shown) -> bytes:
    """A text without these paths; of a card's front matter their whole lines go, since a hub would refuse them."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    for path in sorted(shown, key=len, reverse=True):
        written = {path, json.dumps(path)[1:-1]}  # as it is, and as JSON may write it
        if not any(form in text for form in written):
            continue
        if name.lower().endswith(".md") and (front := _FRONT_MATTER.match(text)):
            kept = [line for line in front[0].splitlines(keepends=True) if path not in line]
            text = "".join(kept) + text[front.end() :]
        for form in written:
            found = re.compile(r"(?<![\w.-])" + re.escape(form) + r"(?![\w.-])")
            if found.search(text):
                text = found.sub(shown[path]().replace("\\", r"\\"), text)
    return text.encode()


def paths_of(job: JobFolder) -> dict[str, Callable[[], str]]:
    """The paths that the script of a job was given, and what is told of each."""
    values = job.values()
    base = base_of(values)
    given = [str(value) for value in values.values() if isinstance(value, str) and len(value) > 1]
    found: dict[str, Callable[[], str]] = {}
    for value in given:
        if not value.startswith("/"):
            continue
        tell = _hashed(Path(value)) if value == base else _named(Path(value))
        found |= dict.fromkeys(_forms(Path(value)), tell)
    for own in (job.out, job.path):
        found |= {path: lambda: "." for path in _forms(own)}
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises where there is none
    return found | ({home: lambda: "~"} if len(home) > 1 else {})


def folder_hash(folder: Path) -> str:
    """One hash for a model's folder: SHA-256 of ``sha256sum``'s lines of its files, by path; of a file its own."""
    if folder.is_file():
        return file_sha256(folder)
    if not folder.is_dir():
        return ""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return hash_of((name, path) for name, path in sorted(names.items()) if belongs(path, name))


def hash_of(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of the lines that ``sha256sum`` would print for these files."""
    lines = [f"{file_sha256(path)}  {name}\n" for name, path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hashed(path: Path) -> Callable[[], str]:
    known: list[str] = []

    def tell() -> str:
        if not known:
            found = folder_hash(path)
            known.append(f"{path.name}@sha256:{found}" if found else path.name)
        return known[0]

    return tell


def _named(path: Path) -> Callable[[], str]:
    return lambda: path.name


def _forms(path: Path) -> set[str]:
    """A path as it was given, and as links resolve to it."""
    return {form for form in (str(path), os.path.realpath(path)) if len(form) > 1}


def base_hash(values: dict[str, Any]) -> str:
    """The hash of the folder that training started from; empty for a name on a hub."""
    base = base_of(values)
    return folder_hash(Path(base)) if base.startswith("/") else ""

"""Looks for private keys and passwords in files, in what is said, and in the arguments of processes."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from distrai.ledger.keys import load_key


def spellings(secret: bytes) -> set[bytes]:
    """What one might find instead of 32 bytes."""
    text = secret.hex()
    spelled = {text, text.upper(), str(int.from_bytes(secret, "big")), str(int.from_bytes(secret, "little"))}
    for encoded in (base64.b64encode(secret), base64.urlsafe_b64encode(secret), base64.b32encode(secret)):
        spelled.add(encoded.decode().rstrip("=")[:-1])  # the last digit depends on what follows
    spelled.add(str(list(secret)))
    spelled.add(repr(secret)[2:-1])
    return {each.encode() for each in spelled} | {secret, secret[::-1]}


def words(password: str) -> set[bytes]:
    raw = password.encode()
    return {raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]}


class Arguments:
    """The command lines of all processes of this machine, seen again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self.thread.join()

    @property
    def all(self) -> bytes:
        """All of them."""
        return b"\n".join(self.seen)

    def _look(self) -> None:
        while not self.over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue  # it has ended
            self.over.wait(0.02)


def keystores(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and "crypto" in content:
            yield path


def found(needles: dict[str, set[bytes]], places: dict[str, bytes]) -> list[str]:
    """Which secret is where."""
    return [
        f"{secret} in {place}"
        for place, content in places.items()
        for secret, ways in needles.items()
        if any(way in content for way in ways)
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys_of(folder: Path) -> dict[str, set[bytes]]:
    """The secrets of all keystores below a folder that have no password, by file."""
    needles = {}
    for path in keystores(folder):
        key, name = load_key(path), str(path.relative_to(folder))
        needles[name] = spellings(key._key.secret)
        needles[f"the sealing secret of {name}"] = spellings(key.secret("sealing"))
    return needles

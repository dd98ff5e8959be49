"""What a script says while it runs: lines of JSON, checked before anything else reads them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

LINE_BYTES_MAX = 64 << 10
STDOUT_MARK = "::distrai "
"""What a line of standard output begins with that is an event."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Text = Annotated[str, msgspec.Meta(max_length=8000)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class BadEvent(ValueError):
    """A line that is no event; the message says why."""


class Metric(msgspec.Struct, frozen=True, tag_field="type", tag="metric", omit_defaults=True):
    """Numbers of a step; None stands for one that is not finite. ``total``: how many steps there will be."""

    values: Annotated[dict[_Name, float | None], msgspec.Meta(max_length=200)]
    step: _Count | None = None
    total: _Count | None = None


class Status(msgspec.Struct, frozen=True, tag_field="type", tag="status"):
    """What the job is doing."""

    text: _Text


class Log(msgspec.Struct, frozen=True, tag_field="type", tag="log"):
    """Something worth keeping."""

    text: _Text
    level: str = "info"


class Artifact(msgspec.Struct, frozen=True, tag_field="type", tag="artifact"):
    """A result: a file or folder, its path as seen from OUT."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    kind: _Name = "file"


Event = Metric | Status | Log | Artifact
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def read_event(line: bytes) -> Event:
    """The event of a line. Raises BadEvent."""
    if len(line) > LINE_BYTES_MAX:
        raise BadEvent(f"a line of {len(line)} bytes is longer than {LINE_BYTES_MAX}")
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent(f"{error}: {line[:80].decode(errors='replace')!r}") from None


def plain(event: Event) -> dict[str, Any]:
    """The event as it is kept and shown."""
    return dict(msgspec.to_builtins(event))


def end_last_line(path: Path) -> None:
    """End a line that a crash cut off, so that the next one is not a part of it."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")


@dataclass
class RawLines:
    """The lines that a script appends to a file, each once. A line without an end waits for it, within bounds."""

    path: Path
    offset: int = 0

    def new(self) -> Iterator[bytes]:
        """Lines that came since; ``offset`` is behind the one that was given last."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while line := file.readline(LINE_BYTES_MAX + 1):
                if not line.endswith(b"\n") and len(line) <= LINE_BYTES_MAX:
                    return
                self.offset += len(line)
                if line.strip():
                    yield line.rstrip(b"\n")

"""Lines of files: read with a bound, counted from 1, each a value or what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.training.data.formats import BadLine, parse_line
from distrai.training.errors import BadSource

LINE_BYTES_MAX = 16 << 20
PIECE_BYTES_MIN, PIECE_BYTES_MAX, PIECES = 512, 64 << 10, 64
"""A plain text to pre-train on is cut into at least so many pieces of such sizes (at most twice that without a gap)."""

Convert = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes one of our formats of a row. Raises BadLine."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as it comes: its number from 1, and its value, or what is wrong with it."""

    line: int
    value: Mapping[str, Any]
    why: str = ""


def read_lines(path: Path, convert: Convert, *, pieces: bool = False) -> Iterator[Raw]:
    """The lines of a .jsonl file, or the parts of a .txt file between empty lines. Raises BadSource.

    ``pieces``: a plain text is cut into a good many pieces of about one size, not at every empty line.
    """
    if path.suffix == ".json":
        raise BadSource(f"{path} must have one JSON object per line: write it as .jsonl")
    try:
        with path.open("rb") as file:
            if path.suffix == ".txt":
                whole = path.stat().st_size // (2 * PIECES)
                yield from _parts(file, max(PIECE_BYTES_MIN, min(whole, PIECE_BYTES_MAX)) if pieces else 0)
                return
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise BadSource(
                        f"{path} line {number} is longer than {LINE_BYTES_MAX >> 20} MiB: split it"
                    )
                if line.strip():
                    yield _parsed(number, line, convert)
    except FileNotFoundError:
        raise BadSource(f"there is no {path}; a data set of the hub is written hf:OWNER/NAME") from None
    except OSError as error:
        raise BadSource(f"{path} cannot be read: {error.strerror}") from None


def _parsed(number: int, line: bytes, convert: Convert) -> Raw:
    try:
        return Raw(number, convert(parse_line(line)))
    except BadLine as error:
        return Raw(number, {}, str(error))


def _parts(file: Any, piece: int = 0) -> Iterator[Raw]:
    """The parts of a plain text between empty lines, each with the number of its first line.

    With ``piece`` a part goes on over empty lines until it has so many bytes, and ends at any line with twice as many.
    """
    part: list[bytes] = []
    first = number = size = 0
    most = min(2 * piece, LINE_BYTES_MAX) if piece else LINE_BYTES_MAX
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise BadSource(f"{file.name} line {number} is longer than {LINE_BYTES_MAX >> 20} MiB: divide it")
        blank = not line.strip()
        if part and (size + len(line) > most or (blank and size >= piece)):
            yield _text(first, part)
            part, size = [], 0
        if blank and not part:
            continue
        first = first if part else number
        part.append(line)
        size += len(line)
    if part:
        yield _text(first, part)


def _text(first: int, part: list[bytes]) -> Raw:
    for at, line in enumerate(part):
        try:
            line.decode("utf-8-sig" if first + at == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return Raw(first + at, {}, f"no UTF-8 at byte {error.start + 1}: save the file as UTF-8")
    return Raw(first, {"text": b"".join(part).decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")})

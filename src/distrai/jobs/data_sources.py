"""Where training data comes from: a file of this machine, or a data set of the Hugging Face Hub by its name.

``hf:owner/name?split=train&config=en&column=text&revision=main`` streams a data set, without keeping all of it; a
folder of this machine is a data set too (``hf:./folder``). Rows in the shapes that data sets commonly have become
those of ``data_formats``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from distrai.jobs.data_formats import BadLine, parse_line

LINE_BYTES_MAX = 16 << 20
HF = "hf:"
_OPTIONS = ("split", "config", "column", "revision")
_ASKED = ("prompt", "instruction", "question")
_ANSWERED = ("completion", "output", "response", "answer")


class BadSource(ValueError):
    """Data cannot be read at all; the message says what to do."""


Convert = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes one of our formats of a row. Raises BadLine."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as it comes: its number from 1, and its value, or what is wrong with it."""

    line: int
    value: Mapping[str, Any]
    why: str = ""


def read_source(source: str, convert: Convert | None = None) -> Iterator[Raw]:
    """The lines of a file or the rows of a data set, one by one; ``adapt`` converts them if nothing else is given.

    Raises BadSource.
    """
    convert = convert or adapt
    return _rows(source[len(HF) :], convert) if source.startswith(HF) else _lines(Path(source), convert)


def _lines(path: Path, convert: Convert) -> Iterator[Raw]:
    if path.suffix == ".json":
        raise BadSource(f"{path} must have one JSON object per line: write it as .jsonl")
    try:
        with path.open("rb") as file:
            if path.suffix == ".txt":
                yield from _parts(file)
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
        raise BadSource(f"there is no {path}; a data set of the hub is written {HF}OWNER/NAME") from None
    except OSError as error:
        raise BadSource(f"{path} cannot be read: {error.strerror}") from None


def _parsed(number: int, line: bytes, convert: Convert) -> Raw:
    try:
        return Raw(number, convert(parse_line(line)))
    except BadLine as error:
        return Raw(number, {}, str(error))


def _parts(file: Any) -> Iterator[Raw]:
    """The parts of a plain text between empty lines, each with the number of its first line."""
    part: list[bytes] = []
    first = number = size = 0
    for line in file:
        number += 1
        if line.strip() and size + len(line) <= LINE_BYTES_MAX:
            first = first or number
            part.append(line)
            size += len(line)
            continue
        if part:
            yield _text(first, part)
        part, first, size = ([line], number, len(line)) if line.strip() else ([], 0, 0)
    if part:
        yield _text(first, part)


def _text(first: int, part: list[bytes]) -> Raw:
    for at, line in enumerate(part):
        try:
            line.decode("utf-8-sig" if first + at == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return Raw(first + at, {}, f"no UTF-8 at byte {error.start + 1}: save the file as UTF-8")
    return Raw(first, {"text": b"".join(part).decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")})


def _rows(named: str, convert: Convert) -> Iterator[Raw]:
    name, _, query = named.partition("?")
    options = dict(parse_qsl(query))
    if unknown := options.keys() - set(_OPTIONS):
        raise BadSource(f"{HF}{name}: {min(unknown)!r} is none of {', '.join(_OPTIONS)}")
    column = options.get("column", "")
    number = 0
    for number, row in enumerate(_stream(name, options), 1):
        try:
            yield Raw(number, convert(_column(row, column) if column else row))
        except BadLine as error:
            yield Raw(number, {}, str(error))
    if not number:
        raise BadSource(f"{HF}{name} has no rows")


def _stream(name: str, options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise BadSource(f"{HF}{name} needs the package `datasets`: pip install 'distrai[jobs]'") from None
    try:
        rows = datasets.load_dataset(
            name,
            options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
        yield from rows
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0][:200]
        raise BadSource(f"{HF}{name} cannot be read: {why}") from None


def _column(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The column that holds plain text."""
    if column not in row:
        raise BadLine(f"there is no column {column!r}; there are {', '.join(map(str, row))}")
    return {"text": row[column]}


def adapt(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in a shape that is common elsewhere as one of our formats; any other row as it is."""
    if "messages" in row or "preferred_output" in row or "text" in row:
        return {name: value for name, value in row.items() if value is not None}
    if "chosen" in row and "rejected" in row:
        return as_preference(row)
    asked = next((name for name in _ASKED if name in row), "")
    answered = next((name for name in _ANSWERED if name in row), "")
    if asked and answered:
        more = row.get("input")
        question = f"{row[asked]}\n\n{more}" if isinstance(more, str) and more.strip() else row[asked]
        return {"messages": as_messages(question, "user") + as_messages(row[answered], "assistant")}
    if asked:
        return {**row, "messages": as_messages(row[asked], "user")}
    return dict(row)


def as_preference(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with ``chosen``, ``rejected`` and perhaps ``prompt``, each text or messages, in our format."""
    chosen, rejected = (as_messages(row[side], "assistant") for side in ("chosen", "rejected"))
    if "prompt" in row:
        asked = as_messages(row["prompt"], "user")
    else:
        pairs = zip(chosen, rejected, strict=False)
        same = next(
            (at for at, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected))
        )
        asked, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    if chosen[: len(asked)] == asked and rejected[: len(asked)] == asked:
        chosen, rejected = chosen[len(asked) :], rejected[len(asked) :]
    return {"input": {"messages": asked}, "preferred_output": chosen, "non_preferred_output": rejected}


def as_messages(value: Any, role: str) -> list[Any]:
    """Messages as they are; anything else as one by ``role``."""
    return list(value) if isinstance(value, list) else [{"role": role, "content": value}]

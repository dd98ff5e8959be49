"""Where training data comes from: a file of this machine, or a data set of the Hugging Face Hub by its name.

``hf:owner/name?split=train&subset=en&column=text&revision=main`` streams a data set, without keeping all of it; a
folder of this machine is a data set too (``hf:./folder``). Rows in the shapes that data sets commonly have become
those of ``training.data.formats``.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from distrai.jobs.hub.reach import hub_answers
from distrai.training.data.formats import BadLine
from distrai.training.data.hub import stream_rows
from distrai.training.data.lines import LINE_BYTES_MAX, Convert, Raw, read_lines
from distrai.training.data.shapes import adapt, as_messages, as_preference, plain_row, text_column
from distrai.training.errors import BadSource

__all__ = [
    "HF",
    "LINE_BYTES_MAX",
    "BadSource",
    "Convert",
    "Raw",
    "adapt",
    "as_messages",
    "as_preference",
    "read_source",
]
HF = "hf:"
_OPTIONS = ("split", "subset", "column", "revision", "config")
"""What may follow a name; ``config`` is another word for ``subset``."""


def read_source(source: str, convert: Convert | None = None, *, pieces: bool = False) -> Iterator[Raw]:
    """The lines of a file or the rows of a data set, one by one; ``adapt`` converts them if nothing else is given.

    ``pieces``: a plain text is cut into a good many pieces of about one size, not at every empty line.
    Raises BadSource.
    """
    convert = convert or adapt
    if source.startswith(HF):
        return _rows(source[len(HF) :], convert)
    return read_lines(Path(source), convert, pieces=pieces)


def _rows(named: str, convert: Convert) -> Iterator[Raw]:
    name, _, query = named.partition("?")
    options = dict(parse_qsl(query))
    if unknown := options.keys() - set(_OPTIONS):
        raise BadSource(f"{HF}{name}: {min(unknown)!r} is none of {', '.join(_OPTIONS)}")
    if not name:
        raise BadSource(f"{HF} needs the name of a data set: {HF}OWNER/NAME")
    if not Path(name).exists() and not _is_offline() and not hub_answers():
        raise BadSource(
            f"{HF}{name} cannot be read: the hub cannot be reached from here; try again, or use a file"
        )
    column = options.get("column", "")
    number = 0
    for number, row in enumerate(_stream(name, options), 1):
        try:
            yield Raw(number, convert(plain_row(text_column(row, column) if column else row)))
        except BadLine as error:
            yield Raw(number, {}, str(error))
    if not number:
        raise BadSource(f"{HF}{name} has no rows")


def _is_offline() -> bool:
    """Whether the user says so: then only what is in the cache is read."""
    return any(os.environ.get(f"HF_{what}_OFFLINE", "") not in ("", "0") for what in ("HUB", "DATASETS"))


def _stream(name: str, options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    return stream_rows(
        name,
        options.get("subset", "") or options.get("config", ""),
        options.get("split", "train"),
        options.get("revision", ""),
        called=f"{HF}{name}",
    )

"""The examples, and the texts, that a recipe names: of files or of a data set of the hub."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from distrai.protocol.recipe import DataSection
from distrai.training.data.documents import Document
from distrai.training.data.files import matching_files
from distrai.training.data.formats import BadLine, Example, Format, read_value
from distrai.training.data.hub import stream_rows
from distrai.training.data.lines import Raw, read_lines
from distrai.training.data.shapes import adapt, plain_row, text_column
from distrai.training.data.spool import Spool
from distrai.training.errors import BadExamples

PROBLEMS_SHOWN = 3
_FORMATS = {"chat": Format.CHAT, "preferences": Format.PREFERENCE}


class Problems:
    """Lines that cannot be used. Some are collected, so that not every one costs another try."""

    def __init__(self) -> None:
        self._told: list[str] = []

    def add(self, where: str, why: str) -> None:
        """One more. Raises BadExamples if these are enough."""
        if len(self._told) == PROBLEMS_SHOWN:
            self._told.append("and more")
            self.check()
        self._told.append(f"{where}: {why}")

    def check(self) -> None:
        """Raise BadExamples if there are any."""
        if self._told:
            raise BadExamples("; ".join(self._told))


def section_examples(section: DataSection, base: Path, problems: Problems) -> Iterator[tuple[str, Example]]:
    """The examples of a recipe, each with where it stands; bad lines go to ``problems``.

    Raises NothingMatches, BadSource, BadExamples.
    """
    wanted = _FORMATS[section.format]
    for where, raw in _rows(section, base):
        try:
            if raw.why:
                raise BadLine(raw.why)
            example = read_value(raw.value, wanted, raw.line)
        except BadLine as error:
            problems.add(where, str(error))
        else:
            yield where, example


def hub_documents(section: DataSection, base: Path) -> Iterator[Document]:
    """The texts of a data set of the hub: each row one, empty ones none, equal ones once; ordered by their hashes.

    Fractions are shares of the bytes. Raises BadSource, BadExamples, CorpusTooSmall.
    """
    problems = Problems()
    with Spool() as spool:
        for where, row in _hub_rows(section, base):
            try:
                text = text_column(row, section.column)["text"]
                if text is not None and not isinstance(text, str):
                    raise BadLine(f"column {section.column!r} is no text")
                data = (text or "").encode()
            except (BadLine, UnicodeEncodeError) as error:
                problems.add(where, str(error))
                continue
            if data.strip():
                spool.add(data, data)
        problems.check()
        what = f"{section.dataset} has {{}} different texts"
        fractions = section.held_out_fraction, section.tuning_fraction
        for split, data in spool.read(*fractions, what, by_size=True):
            yield Document(section.dataset, split, data.decode())


def _rows(section: DataSection, base: Path) -> Iterator[tuple[str, Raw]]:
    if section.source == "hub":
        for where, row in _hub_rows(section, base):
            try:
                yield where, Raw(0, adapt(plain_row(row)))
            except BadLine as error:
                yield where, Raw(0, {}, str(error))
        return
    for path in matching_files(section.globs, base):
        name = path.relative_to(base) if path.is_relative_to(base) else path
        for raw in read_lines(path, adapt):
            yield f"{name} line {raw.line}", raw


def _hub_rows(section: DataSection, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A folder beside the recipe is a data set, too."""
    folder = base / section.dataset
    name = str(folder) if folder.is_dir() else section.dataset
    rows = stream_rows(name, section.subset, section.split, section.revision, called=section.dataset)
    limit = section.max_documents or None
    return ((f"{section.dataset} row {at}", row) for at, row in enumerate(islice(rows, limit), 1))

"""Training data before anything is spent: every line checked, tokens counted, and a held-out part set aside.

``prepare`` writes what templates read: ``train.jsonl`` and ``heldout.jsonl`` in one of the formats of
``training.data.formats``, and ``data.json`` with the counts and the hash of the data. Which examples are held out
follows from their prompts and a seed alone, never from their order, and equal prompts are never on both sides.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from distrai.jobs.data_sources import BadSource, Convert, Raw, read_source
from distrai.jobs.tokens import TokenCounter, TokenCounts, TokenSum
from distrai.training.data.formats import BadLine, Example, Format, format_of, read_value

PROBLEMS_SHOWN = 20
_DUPLICATES_KEPT_MAX = 5_000_000
TRAIN, HELD_OUT, SUMMARY = "train.jsonl", "heldout.jsonl", "data.json"


class BadData(ValueError):
    """Data has lines that cannot be used, or too few that can."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that cannot be used, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """What data is. ``hash`` is the SHA-256 of all examples, each in the one way to write it."""

    source: str
    format: Format | None
    examples: int
    duplicates: int
    problems: tuple[Problem, ...]
    problem_count: int
    hash: str
    tokens: TokenCounts | None

    @property
    def ok(self) -> bool:
        """Whether it can be trained on."""
        return self.examples > 0 and not self.problem_count

    def check(self) -> None:
        """Raise BadData if it cannot."""
        if self.problem_count:
            shown = "; ".join(f"line {problem.line}: {problem.why}" for problem in self.problems[:3])
            more = f"; and {self.problem_count - 3} more" if self.problem_count > 3 else ""
            raise BadData(f"{self.source} {shown}{more}")
        if not self.examples:
            raise BadData(f"{self.source} has no examples in it")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data that is ready: its folder, the examples on each side, and the hash of all."""

    folder: Path
    format: Format
    train: int
    held_out: int
    hash: str


@dataclass(frozen=True, slots=True)
class Use:
    """What data is for: the formats that will do (empty: any), and how its rows become those.

    ``pieces``: a plain text is wanted in pieces of about one size, not as its paragraphs.
    """

    name: str = ""
    formats: tuple[Format, ...] = ()
    convert: Convert | None = None
    pieces: bool = False

    def check(self, source: str, found: Format, line: int) -> None:
        """Raise BadData for a format that will not do."""
        if self.formats and found not in self.formats:
            names = " or ".join(choice.value for choice in self.formats)
            raise BadData(
                f"{source} is {found.value} data (line {line}), and {self.name or 'this'} needs {names}"
            )


ANY = Use()


class Reading:
    """Goes through a source once and keeps what a report says of it."""

    def __init__(
        self, source: str, wanted: Format | None = None, tokens: TokenSum | None = None, use: Use = ANY
    ) -> None:
        self.source, self.format, self._tokens, self._use = source, wanted, tokens, use
        self._seen: set[int] = set()
        self._digest = hashlib.sha256()
        self._problems: list[Problem] = []
        self._bad = self._good = self._duplicates = 0

    def examples(self, limit: int = 0) -> Iterator[Example]:
        """The lines that can be used, at most ``limit`` if it is not 0; the others are noted.

        Raises BadSource, and BadData if they are of another format than is of use.
        """
        for raw in read_source(self.source, self._use.convert, pieces=self._use.pieces):
            if (example := self._read(raw)) is not None:
                self._count(example)
                yield example
                if self._good == limit:
                    return

    def report(self) -> DataReport:
        """What was seen so far."""
        return DataReport(
            self.source,
            self.format,
            self._good,
            self._duplicates,
            tuple(self._problems),
            self._bad,
            self._digest.hexdigest(),
            self._tokens.counts() if self._tokens else None,
        )

    def _read(self, raw: Raw) -> Example | None:
        try:
            if raw.why:
                raise BadLine(raw.why)
            found = format_of(raw.value)
            if self.format is None:
                self._use.check(self.source, found, raw.line)
                self.format = found
            elif not _fits(found, self.format):
                raise BadLine(f"it is {found.value}, where {self.format.value} is needed")
            return read_value(raw.value, self.format, raw.line)
        except BadLine as error:
            self._bad += 1
            if len(self._problems) < PROBLEMS_SHOWN:
                self._problems.append(Problem(raw.line, str(error)))
            return None

    def _count(self, example: Example) -> None:
        line = example.to_line()
        self._digest.update(line)
        self._good += 1
        key = _key(line)
        self._duplicates += key in self._seen
        if len(self._seen) < _DUPLICATES_KEPT_MAX:
            self._seen.add(key)
        if self._tokens is not None:
            self._tokens.add(example, len(line))


def check_data(
    source: str,
    wanted: Format | None = None,
    *,
    counter: TokenCounter | None = None,
    limit: int = 0,
    longest_allowed: int = 0,
    use: Use = ANY,
) -> DataReport:
    """Read all of a source, or ``limit`` examples, and say what it is. Raises BadSource, BadData."""
    reading = Reading(source, wanted, TokenSum(counter, longest_allowed) if counter else None, use)
    for _ in reading.examples(limit):
        pass
    return reading.report()


def prepare(
    source: str,
    folder: Path,
    *,
    wanted: Format | None = None,
    held_out: float = 0.05,
    held_out_max: int = 0,
    seed: int = 0,
    limit: int = 0,
    use: Use = ANY,
) -> Prepared:
    """Check a source and write it into ``folder``, with about this part held out; all or nothing.

    At most ``held_out_max`` examples are held out, if it is not 0. Raises BadData, BadSource.
    """
    if not 0 <= held_out < 1:
        raise BadData(f"a held-out part of {held_out:g} is not within 0..1: 0.05 is one in twenty")
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    division = Division(held_out, held_out_max, seed)
    try:
        partial.mkdir(parents=True)
        prepared = _prepare(Reading(source, wanted, use=use), partial, folder, division, limit)
        if folder.exists():
            _replace(folder, prepared)
        partial.rename(folder)
    except OSError as error:
        raise BadSource(
            f"{folder} cannot be written: {error.strerror or error}; nothing was changed"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return prepared


@dataclass(frozen=True, slots=True)
class Division:
    """Which part of data is only for judging; ``most`` 0: however many examples that is."""

    part: float
    most: int = 0
    seed: int = 0

    def key(self, example: Example) -> int:
        """What an example is drawn by: equal prompts have equal keys."""
        return _key(f"{self.seed}:{example.prompt}".encode())


def _prepare(reading: Reading, partial: Path, folder: Path, division: Division, limit: int) -> Prepared:
    everything, keys = partial / "all.jsonl", []
    with everything.open("wb") as out:
        for example in reading.examples(limit):
            out.write(example.to_line())
            keys.append(division.key(example))
    report = reading.report()
    report.check()
    aside = choose_held_out(keys, division.part, division.most)
    if division.part and not aside:
        raise BadData(
            f"{reading.source} asks only one thing, and judging needs another: give at least two different examples"
        )
    with (
        everything.open("rb") as lines,
        (partial / TRAIN).open("wb") as train,
        (partial / HELD_OUT).open("wb") as held,
    ):
        for key, line in zip(keys, lines, strict=True):
            (held if key in aside else train).write(line)
    everything.unlink()
    assert report.format is not None
    count = sum(key in aside for key in keys)
    prepared = Prepared(folder, report.format, len(keys) - count, count, report.hash)
    told = {**asdict(prepared), "folder": folder.name, "source": reading.source, "seed": division.seed}
    (partial / SUMMARY).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return prepared


def choose_held_out(keys: list[int], part: float, most: int = 0) -> set[int]:
    """The smallest keys that together are at least this part of the examples, or ``most`` of them if it is not 0.

    One key at least is left to train on.
    """
    if not part:
        return set()
    counts: dict[int, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    chosen: set[int] = set()
    total, wanted = 0, min(part * len(keys), most or len(keys))
    for key in sorted(counts)[:-1]:
        if total >= wanted:
            break
        chosen.add(key)
        total += counts[key]
    return chosen


def _replace(folder: Path, prepared: Prepared) -> None:
    """Remove what an earlier ``prepare`` wrote, and nothing else. Raises BadData."""
    if {path.name for path in folder.iterdir()} - {TRAIN, HELD_OUT, SUMMARY}:
        raise BadData(f"{folder} has other files in it: choose another folder for {prepared.train} examples")
    shutil.rmtree(folder)


def _fits(found: Format, wanted: Format) -> bool:
    """Whether a line may be read as a format; which of chat and prompts is said better when it is read."""
    conversations = {Format.CHAT, Format.PROMPTS}
    return found is wanted or {found, wanted} <= conversations


def _key(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")

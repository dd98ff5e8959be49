"""Training data before anything is spent: every line checked, tokens counted, and a held-out part set aside.

``prepare`` writes what templates read: ``train.jsonl`` and ``heldout.jsonl`` in one of the formats of
``data_formats``, and ``data.json`` with the counts and the hash of the data. Which examples are held out follows from
their prompts and a seed alone, never from their order, and equal prompts are never on both sides.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from distrai.jobs.data_formats import BadLine, Example, Format, format_of, read_value
from distrai.jobs.data_sources import BadSource, Convert, Raw, read_source
from distrai.jobs.tokens import TokenCounter, TokenCounts, TokenSum

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


class Reading:
    """Goes through a source once and keeps what a report says of it."""

    def __init__(
        self,
        source: str,
        wanted: Format | None = None,
        tokens: TokenSum | None = None,
        convert: Convert | None = None,
    ) -> None:
        self.source, self.format, self._tokens, self._convert = source, wanted, tokens, convert
        self._seen: set[int] = set()
        self._digest = hashlib.sha256()
        self._problems: list[Problem] = []
        self._bad = self._good = self._duplicates = 0

    def examples(self, limit: int = 0) -> Iterator[Example]:
        """The lines that can be used, at most ``limit`` if it is not 0; the others are noted. Raises BadSource."""
        for raw in read_source(self.source, self._convert):
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
    convert: Convert | None = None,
) -> DataReport:
    """Read all of a source, or ``limit`` examples, and say what it is. Raises BadSource."""
    reading = Reading(source, wanted, TokenSum(counter, longest_allowed) if counter else None, convert)
    for _ in reading.examples(limit):
        pass
    return reading.report()


def prepare(
    source: str,
    folder: Path,
    *,
    wanted: Format | None = None,
    held_out: float = 0.05,
    seed: int = 0,
    limit: int = 0,
) -> Prepared:
    """Check a source and write it into ``folder``, with about this part held out; all or nothing.

    Raises BadData, BadSource.
    """
    if not 0 <= held_out < 1:
        raise BadData(f"a held-out part of {held_out:g} is not within 0..1: 0.05 is one in twenty")
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    partial.mkdir(parents=True)
    try:
        prepared = _prepare(source, partial, folder, wanted, held_out, seed, limit)
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


def _prepare(
    source: str, partial: Path, folder: Path, wanted: Format | None, held_out: float, seed: int, limit: int
) -> Prepared:
    reading, everything, keys = Reading(source, wanted), partial / "all.jsonl", []
    with everything.open("wb") as out:
        for example in reading.examples(limit):
            out.write(example.to_line())
            keys.append(_key(f"{seed}:{example.prompt}".encode()))
    report = reading.report()
    report.check()
    aside = choose_held_out(keys, held_out)
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
    told = {**asdict(prepared), "folder": folder.name, "source": source, "seed": seed}
    (partial / SUMMARY).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return prepared


def choose_held_out(keys: list[int], part: float) -> set[int]:
    """The smallest keys that together are at least this part of the examples; one key at least is left to train on."""
    if not part:
        return set()
    counts: dict[int, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    chosen: set[int] = set()
    total = 0
    for key in sorted(counts)[:-1]:
        if total >= part * len(keys):
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

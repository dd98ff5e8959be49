"""Training data before anything is spent: every line checked, tokens counted, and a hash over all examples."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from distrai.jobs.data.sources import Convert, Raw, read_source
from distrai.jobs.data.tokens import TokenCounter, TokenCounts, TokenSum
from distrai.training.data.formats import BadLine, Example, Format, format_of, read_value

PROBLEMS_SHOWN = 20
_DUPLICATES_KEPT_MAX = 5_000_000


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
            more += f" (`distrai jobs data {self.source}` shows what is wrong)"
            raise BadData(f"{self.source} {shown}{more}")
        if not self.examples:
            raise BadData(f"{self.source} has no examples in it")


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
        key = hashed(line)
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


def _fits(found: Format, wanted: Format) -> bool:
    """Whether a line may be read as a format; which of chat and prompts is said better when it is read."""
    conversations = {Format.CHAT, Format.PROMPTS}
    return found is wanted or {found, wanted} <= conversations


def hashed(content: bytes) -> int:
    """Eight bytes of SHA-256, as a number."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")

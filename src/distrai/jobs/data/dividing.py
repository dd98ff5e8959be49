"""Data in two parts, of which one is only for judging.

``prepare`` writes what templates read: ``train.jsonl`` and ``heldout.jsonl`` in one of the formats of
``training.data.formats``, and ``data.json`` with the counts and the hash of the data. Which examples are held out
follows from their prompts and a seed alone, never from their order, and equal prompts are never on both sides.
"""

import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from distrai.jobs.data.examples import ANY, BadData, Reading, Use, hashed
from distrai.jobs.data.sources import BadSource
from distrai.training.data.formats import Example, Format

TRAIN, HELD_OUT, SUMMARY = "train.jsonl", "heldout.jsonl", "data.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data that is ready: its folder, the examples on each side, and the hash of all."""

    folder: Path
    format: Format
    train: int
    held_out: int
    hash: str


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
        return hashed(f"{self.seed}:{example.prompt}".encode())


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

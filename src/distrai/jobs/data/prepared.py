"""The data of a job as its script gets it: checked, in one of our formats, with a part that is only for judging."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.data.dividing import HELD_OUT, SUMMARY, TRAIN, Prepared, prepare
from distrai.jobs.data.examples import BadData
from distrai.jobs.data.sources import HF, BadSource
from distrai.jobs.data.uses import use_of
from distrai.jobs.running.store import JobFolder
from distrai.training.data.formats import Format

FOLDER = "data"
_HELD_OUT = 0.05
_FILES = (".jsonl", ".txt", ".json")
PLACES = ("/", "./", "../", "~")
"""What no name on a hub begins with."""


@dataclass(frozen=True, slots=True)
class DataOf:
    """What a job was trained on: its name without the folders before it, and the SHA-256 over all examples."""

    name: str
    hash: str
    format: str
    train: int
    held_out: int


def prepare_job_data(
    kind: str, values: Mapping[str, Any], folder: Path, tell: Callable[[str], None]
) -> Path | None:
    """Write what a job of this kind trains on into ``folder``; None where that is the script's own business.

    What is there already stays, so that a job that goes on has the same data. Raises BadData, BadSource.
    """
    use, data = use_of(kind), str(values.get("data") or "")
    if use is None or not data:
        return None
    if read_prepared(folder) is not None:
        return folder
    tell("checking and dividing the data")
    there = Path(data)
    if (there / HELD_OUT).is_file():
        _copy(there, folder, use.formats)
    else:
        prepare(
            source_of(data),
            folder,
            held_out=float(values.get("held_out") or _HELD_OUT),
            held_out_max=int(values.get("held_out_max") or 0),
            seed=int(values.get("seed") or 0),
            limit=int(values.get("examples_max") or 0),
            use=use,
        )
    ready = read_prepared(folder)
    assert ready is not None, "it was written"
    tell(f"{ready.train:,} examples to train on, {ready.held_out:,} only for judging")
    return folder


def source_of(name: str) -> str:
    """What ``read_source`` takes: a file, or a data set of the hub, whose name may come without ``hf:``.

    Raises BadSource for a folder.
    """
    path = Path(name)
    if name.startswith(HF):
        return name
    if path.is_dir():
        raise BadSource(
            f"{name} is a folder: give a file in it; or {HF}{name} if it is laid out as a data set"
        )
    return name if path.suffix in _FILES or path.exists() or name.startswith(PLACES) else HF + name


def read_prepared(folder: Path) -> Prepared | None:
    """What ``prepare`` wrote into a folder; None if that is not all there."""
    try:
        told = json.loads((folder / SUMMARY).read_bytes())
        if not (folder / TRAIN).is_file() or not (folder / HELD_OUT).is_file():
            return None
        return Prepared(
            folder, Format(told["format"]), int(told["train"]), int(told["held_out"]), str(told["hash"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def data_of(job: JobFolder) -> DataOf | None:
    """What a job was trained on; None where its script read something by itself."""
    ready = read_prepared(job.path / FOLDER)
    if ready is None:
        return None
    source = str(json.loads((ready.folder / SUMMARY).read_bytes()).get("source", ""))
    name = (
        source if source.startswith(HF) and not Path(source[len(HF) :]).is_absolute() else Path(source).name
    )
    return DataOf(name, ready.hash, ready.format.value, ready.train, ready.held_out)


def _copy(there: Path, folder: Path, formats: tuple[Format, ...]) -> None:
    """Take data that somebody prepared before, as it is divided."""
    ready = read_prepared(there)
    if ready is None:
        raise BadData(
            f"{there} has no whole {SUMMARY} beside {HELD_OUT}: make it again with `distrai jobs data SOURCE --out`"
        )
    if formats and ready.format not in formats:
        raise BadData(f"{there} is {ready.format.value} data, and this training needs another format")
    if not ready.held_out or not ready.train:
        raise BadData(f"{there} has an empty part: prepare it again with a part held out")
    try:
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in (TRAIN, HELD_OUT, SUMMARY):
            shutil.copyfile(there / name, partial / name)
        partial.rename(folder)
    except OSError as error:
        raise BadSource(f"{folder} cannot be written: {error.strerror or error}") from None

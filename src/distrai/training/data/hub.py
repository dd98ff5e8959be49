"""Data sets of the Hugging Face Hub by their names, and folders of this machine that are laid out as such."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distrai.training.errors import BadSource


def stream_rows(
    name: str, subset: str = "", split: str = "train", revision: str = "", called: str = ""
) -> Iterator[dict[str, Any]]:
    """The rows of a data set, one by one as they come over the network; no code of it is ever run.

    ``called`` is its name in errors. Raises BadSource.
    """
    called = called or name
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise BadSource(f"{called} needs the package `datasets`: pip install 'distrai[jobs]'") from None
    try:
        datasets.disable_progress_bars()
        builder = datasets.load_dataset_builder(name, subset or None, revision=revision or None)
        _check_inside(builder.config.data_files or {}, name, called)
        yield from builder.as_streaming_dataset(split=split)
    except BadSource:
        raise
    except Exception as error:  # of readers of many formats, and of three libraries for the network
        raise BadSource(f"{called} cannot be read: {_why(error)}") from error


def _check_inside(files: Mapping[str, Iterable[object]], name: str, called: str) -> None:
    """Raise BadSource if a data set names files outside of itself: its author would get this machine's."""
    local = Path(name)
    for path in (str(path) for paths in files.values() for path in paths):
        if local.is_dir():
            inside = "::" not in path and Path(os.path.realpath(path)).is_relative_to(local.resolve())
        else:
            inside = (
                "::" not in path and ".." not in path.split("/") and path.startswith(f"hf://datasets/{name}@")
            )
        if not inside:
            raise BadSource(
                f"{called} names a file outside of itself ({path[:200]}); do not use this data set"
            )


def _why(error: Exception) -> str:
    """What is wrong with a data set, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ == "DatasetNotFoundError":
        return "there is no such data set, or it is private (then set HF_TOKEN)"
    if "offline" in type(error).__name__.lower() or "offline mode" in text.lower():
        return "the hub is switched off here (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE)"
    if "Bad split" in text or "Unknown split" in text:
        return f"{text[:200]}; name another split"
    if "Config name is missing" in text or "BuilderConfig" in text:
        return f"{text[:300]}; name a subset"
    return text[:200]

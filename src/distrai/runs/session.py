"""One ``distrai run``: which folder, the rounds, what comes after them, and what a signal does to all of it."""

import asyncio
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distrai.ledger.locks import FileLock
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import Recipe
from distrai.runs.archive import Archive
from distrai.runs.chain import Chain
from distrai.runs.display import Display
from distrai.runs.folder import RunFolder, free_folder
from distrai.runs.listening import Listening
from distrai.runs.local import LocalRun
from distrai.runs.payday import INTERRUPTED
from distrai.runs.recipes import load_recipe, resolve_algorithm
from distrai.runs.results import finish, partial
from distrai.runs.summary import Summary

LOCK = "run.lock"
"""There from the first attempt to run something in a folder."""
RUNS = Path("runs")
"""Where runs are that were not told where to be."""


class CannotRunHere(ValueError):
    """The folder holds something else than what is asked for; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """What to run, and where. ``recipe`` None: what is in the folder; ``base``: where the recipe's paths start."""

    folder: RunFolder
    recipe: Recipe | None
    base: Path


@dataclass(frozen=True)
class Outcome:
    """How a session ended. ``summary`` None: it was stopped before the first round began."""

    folder: RunFolder
    finished: bool
    summary: Summary | None


def choose(
    what: Path, out: Path | None, peers: int | None, rounds: int | None, changes: Sequence[str] = ()
) -> Target:
    """Where to run what: a recipe, with ``changes`` (``key=value``), or the folder of a run.

    Raises RecipeError, NoRun or CannotRunHere.
    """
    if what.is_dir():
        return _resumed(what, out, peers, rounds, changes)
    recipe = load_recipe(what, peers=peers, rounds=rounds, changes=changes)
    if out is None:
        return Target(_default_folder(recipe), recipe, what.parent)
    folder = RunFolder(out)
    _check_usable(folder, recipe)
    return Target(folder, recipe, what.parent)


def _resumed(
    what: Path, out: Path | None, peers: int | None, rounds: int | None, changes: Sequence[str]
) -> Target:
    folder = RunFolder(what)
    folder.read()
    if (out, peers, rounds) != (None, None, None) or changes:
        raise CannotRunHere(
            f"{what} is a run that exists: its peers, rounds and settings are fixed. Resume it without --out, --peers, "
            "--rounds and --set, or give a recipe"
        )
    _check_unfinished(folder)
    return Target(folder, None, what)


def _default_folder(recipe: Recipe) -> RunFolder:
    """The unfinished run of this very recipe, or the next free folder."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", recipe.name).strip("-") or "run"
    number = 1
    while True:
        folder = free_folder(RUNS, name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _same_recipe(folder, recipe):
            return folder
        number += 1


def _check_usable(folder: RunFolder, recipe: Recipe) -> None:
    if folder.exists():
        _check_unfinished(folder)
        if not _same_recipe(folder, recipe):
            raise CannotRunHere(
                f"{folder.path} holds an unfinished run of another recipe (or with other --peers or --rounds): go on "
                f"with it by `distrai run {folder.path}`, or choose another --out"
            )
    elif folder.path.is_file() or (
        folder.path.is_dir() and any(folder.path.iterdir()) and not (folder.path / LOCK).exists()
    ):
        raise CannotRunHere(f"{folder.path} is there and is no run: choose a new or empty folder with --out")


def _check_unfinished(folder: RunFolder) -> None:
    if folder.is_settled():
        raise CannotRunHere(
            f"the run in {folder.path} is finished: look at it with `distrai status {folder.path}`, or choose another "
            "folder with --out to train again"
        )


def _same_recipe(folder: RunFolder, recipe: Recipe) -> bool:
    name = Hash(bytes.fromhex(folder.read().recipe_hash.removeprefix("0x")))
    wanted = replace(recipe, algorithm=resolve_algorithm(recipe.algorithm))
    return Archive(folder.archive).recipe(name).recipe == wanted


def run_session(
    target: Target,
    device: str,
    display: Display,
    listening: Listening | None = None,
    chain: Chain | None = None,
) -> Outcome:
    """Train until the last round or a signal, then measure, export, pay and summarise. Raises what makes that
    impossible. ``chain``: one that is there already, to be on.
    """
    folder = target.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.path / LOCK, f"the run in {folder.path}"), display:
        local = LocalRun(folder, display.report, device, listening=listening or Listening(), chain=chain)
        try:
            finished = asyncio.run(_train(local, target))
        except (asyncio.CancelledError, KeyboardInterrupt):
            finished = False
        if not finished:
            return Outcome(folder, False, partial(folder, local.owner) if folder.exists() else None)
        summary = finish(folder, device, display.report, local.owner)
        return Outcome(folder, INTERRUPTED not in (summary.money or {}).get("waits", ()), summary)


async def _train(local: LocalRun, target: Target) -> bool:
    started = False
    report = local.report

    def watch(event: dict[str, Any]) -> None:
        nonlocal started
        started = started or event["event"] == "started"
        report(event)

    local.report = watch
    task = asyncio.ensure_future(local.run(target.recipe, target.base))
    asked = 0

    def stop() -> None:
        """The first signal ends the run in order; before the peers are at work, or the second time, at once."""
        nonlocal asked
        asked += 1
        report({"event": "stopping", "what": "stopping the peers"})
        if started and asked == 1:
            local.stop()
        else:
            task.cancel()

    with _signals(stop):
        return await task


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

"""One run whose peers are in network namespaces: ``utilisation_network.py JOB``, in the namespace of the ledger.

The run is what ``distrai run`` starts on one machine (``LocalRun``), but each peer is put into a namespace, has its
address, and is pinned to a core. Events are printed as JSON lines; what a peer said of its single steps is left out.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from distrai.protocol.recipe import parse_recipe
from distrai.runs.children import Child, OnEvent
from distrai.runs.folder import RunFolder
from distrai.runs.listening import Listening
from distrai.runs.local import LocalRun

QUIET = ("step",)
"""Events that nobody needs to read while time is measured."""


@dataclass(frozen=True)
class Place:
    """Where a process of the run is to be."""

    enter: tuple[str, ...]
    """What to write before a command so that it runs there."""
    address: str
    core: int


@dataclass(frozen=True)
class Job:
    """What to run, and where. ``recipe`` is plain data, ``places`` are by process (``peer-0``)."""

    recipe: Mapping[str, Any]
    folder: str
    address: str
    places: Mapping[str, Place]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        places = {
            name: Place(tuple(place["enter"]), place["address"], place["core"])
            for name, place in data["places"].items()
        }
        return cls(data["recipe"], data["folder"], data["address"], places)


def placed(arguments: list[str], place: Place) -> list[str]:
    """What to give to ``python -m`` for a peer that listens at its place instead of where the run listens."""
    host = arguments.index("--host") + 1
    arguments = [*arguments[:host], place.address, *arguments[host + 1 :]]
    return ["utilisation_place", str(place.core), *place.enter, sys.executable, "-m", *arguments]


async def start(
    places: Mapping[str, Place],
    name: str,
    arguments: list[str],
    log: Path,
    on_event: OnEvent,
    user: int | None = None,
) -> Child:
    """As ``Child.start``, in a place if there is one for this process."""
    if name in places:
        arguments = placed(arguments, places[name])
    return await Child.start(name, arguments, log, on_event, user)


def teller(quiet: tuple[str, ...] = QUIET) -> Callable[[dict[str, Any]], None]:
    """Prints events as JSON lines."""

    def tell(event: dict[str, Any]) -> None:
        if event["event"] not in quiet:
            print(json.dumps(event), flush=True)

    return tell


def main() -> None:
    """Do all rounds of the job; the exit code is 0 if they were done."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)  # for utilisation_place
    job = Job.from_json(json.loads(Path(sys.argv[1]).read_text()))
    run = LocalRun(
        RunFolder(Path(job.folder)),
        teller(),
        device="cpu",
        start=partial(start, job.places),
        listening=Listening(job.address),
    )
    done = asyncio.run(run.run(parse_recipe(job.recipe), Path(job.folder)))
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()

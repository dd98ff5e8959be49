"""``distrai status`` and ``distrai replay``: what happened in a run, and whether it is true."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

Json = Annotated[bool, Parameter(negative=())]


def status(folder: Path, /, *, json: Json = False) -> int:
    """Tell what happened in a run until now: rounds, losses, who was in, what was refused.

    Parameters
    ----------
    folder
        The folder of a run.
    json
        Print one JSON object.
    """
    from distrai.runs.folder import RunFolder
    from distrai.runs.status import status as status_of
    from distrai.runs.status import status_text

    told = status_of(RunFolder(folder))
    tell(told, status_text(told), as_json=json)
    return 0


def replay(folder: Path, /, *, head: str | None = None, json: Json = False) -> int:
    """Recompute a run from its published bytes alone, and compare every root. Exits with 1 and names what is wrong.

    Parameters
    ----------
    folder
        The folder of a run, here or copied from elsewhere.
    head
        The head to trust (0x...), instead of the one on the folder's ledger.
    json
        Print one JSON object.
    """
    from distrai.runs.folder import RunFolder
    from distrai.runs.telling import verdict_text
    from distrai.runs.verify import verify

    def on_round(number: int, updates: int) -> None:
        if not json and sys.stderr.isatty():
            print(f"\rround {number}: {updates} updates", end="", file=sys.stderr, flush=True)

    verdict = verify(RunFolder(folder), head, on_round)
    if not json and sys.stderr.isatty():
        print(file=sys.stderr)
    told = verdict.to_json()
    tell(told, verdict_text(told), as_json=json)
    return 0 if verdict.ok else 1

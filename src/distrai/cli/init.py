"""``distrai init``: a recipe from a few answers, and what it will need."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from distrai.cli.output import tell

Flag = Annotated[bool, Parameter(negative=())]


def init(
    out: Path | None = None,
    /,
    *,
    name: str | None = None,
    data: list[str] | None = None,
    data_license: str | None = None,
    size: Literal["tiny", "small", "medium", "large"] | None = None,
    preset: Literal["prime", "diloco", "sparseloco"] | None = None,
    peers: int | None = None,
    rounds: int | None = None,
    where: Literal["local", "internet"] | None = None,
    admission: Literal["invitation", "open"] | None = None,
    yes: Flag = False,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Write a recipe and say what it will need: disk, memory, bytes up and down, time. Asks what no flag says.

    Parameters
    ----------
    out
        The file to write; NAME.toml if not given.
    name
        What the run is called.
    data
        Globs of text files to train on, relative to the recipe; Python's standard library if not given.
    data_license
        The licence of these files; it stands in the model card.
    size
        How large the model is.
    preset
        The algorithm.
    peers
        How many peers there are when the run begins.
    rounds
        How many rounds to train.
    where
        Peers on one machine or network, or over the internet: the deadlines follow from it.
    admission
        Whether others join by invitation, or whoever wants to.
    yes
        Ask nothing: what no flag says is as usual.
    force
        Overwrite the file.
    json
        Ask nothing, and print one JSON object.
    """
    from distrai.runs.drafting import Choices
    from distrai.runs.initiating import ask_for, initiate

    given = {
        "name": name,
        "globs": None if data is None else tuple(data),
        "data_license": data_license,
        "size": size,
        "preset": preset,
        "peers": peers,
        "rounds": rounds,
        "where": where,
        "admission": admission,
    }
    known = {key: value for key, value in given.items() if value is not None}
    if not (yes or json) and sys.stdin.isatty():
        known = ask_for(known, input)
    choices = Choices(**known)  # type: ignore[arg-type]
    done = initiate(choices, out or Path(f"{choices.name}.toml"), force=force)
    tell(done.to_json(), done.text(), as_json=json)
    return 0

"""``distrai compare``: several algorithms on equal tokens and equal data."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

INTERRUPTED = 130


def compare(
    recipe: Path,
    /,
    *,
    out: Path | None = None,
    only: str = "",
    seeds: str = "",
    jobs: int = 1,
    device: str = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,  # noqa: A002  # what users type
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train several algorithms on equal tokens, data and seeds in this process, and put them side by side.

    Learning rates are chosen for every arm on a tuning split first. A finished run is a file: the same command goes
    on where it was stopped.

    Parameters
    ----------
    recipe
        What to compare (TOML); recipes/compare.toml explains the keys.
    out
        Folder of the figures; build/compare/NAME if not given.
    only
        Train these arms only: their names, with commas.
    seeds
        Seeds instead of the file's: numbers, with commas.
    jobs
        How many runs at once, each in a process of its own.
    device
        auto, cpu or cuda.
    set
        Another value for a key of the file, like tokens=614400; may be given several times.
    json
        Print the report as JSON on one line at the end; progress goes to the standard error output.
    """
    from rich.console import Console

    from distrai.comparison.pictures import draw, write_png
    from distrai.comparison.table import tables
    from distrai.protocol.recipe import RecipeError
    from distrai.runs.comparing import begin, load_comparison, parse_seeds, run_comparison, save

    if jobs < 1:
        raise RecipeError("--jobs", f"{jobs} processes", "give at least 1")
    comparison = load_comparison(recipe, set or ())
    names = [name.strip() for name in only.split(",") if name.strip()]
    folder = out or Path("build") / "compare" / comparison.name
    lab, campaign = begin(comparison, folder, names, parse_seeds(seeds) if seeds else (), device)
    err, code = Console(stderr=True), 0
    try:
        told = run_comparison(lab, campaign, jobs, lambda cell, found: err.print(said(cell.name, found)))
    except KeyboardInterrupt:
        told, code = save(lab, campaign), INTERRUPTED
        err.print("stopped; the same command goes on from here")
    picture = write_png(told, folder / "result.png")
    if not json:
        console = Console()
        console.print(tables(told))
        console.print(draw(told, console.width), highlight=False)
    tell(told, f"report: {folder / 'result.json'}, plot: {picture}", as_json=json)
    sys.stdout.flush()
    return code


def said(name: str, found: dict[str, object]) -> str:
    """One line for a run that is done."""
    bits, wall = found["bits_per_byte"], found["wall_s"]
    result = f"{bits:.4f} bits/byte" if isinstance(bits, float) else f"diverged: {found['why']}"
    return f"{name}: {result}, {wall} s"

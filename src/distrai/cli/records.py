"""``distrai records``: the training records of a ledger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from distrai.cli.output import tell

Flag = Annotated[bool, Parameter(negative=())]

records = App(
    name="records", help="Training records: who asked for which training, on what, and what came of it."
)


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """A chain that is there."""

    rpc: str = ""
    "The address of a node; your own chain of jobs, if neither this nor a run is given."
    deployment: Path | None = None
    "With --rpc: the file with the addresses of that chain's contracts, as `distrai ledger deploy` wrote it."


@records.default
def list_(
    run: str = "",
    /,
    *,
    where: Where | None = None,
    theme: str = "",
    model: str = "",
    sender: str = "",
    since: str = "",
    number: Annotated[int, Parameter(name="--run")] = 0,
    export: Path | None = None,
    json: Flag = False,
) -> int:
    """The training records on a ledger: who asked for which training, on what, at which price, and what came of it.

    What its sender says of hardware, price, model and time is a claim and marked as one.

    Parameters
    ----------
    run
        The folder of a run on this machine, or its link; or the folder of a chain of jobs. Your own, if not given.
    theme
        Only records whose theme contains this.
    model
        Only records whose model contains this.
    sender
        Only records of this address.
    since
        Only records since this day (2026-11-21) or time (2026-11-21T18:00, UTC).
    number
        Only the records of the run with this number.
    export
        Write them to a file: .json or .csv.
    json
        Print one JSON object.
    """
    from distrai.runs.records import Wanted, records_of
    from distrai.runs.records_text import export_records, records_text

    at = where or Where()
    told = records_of(run, at.rpc, at.deployment, Wanted.read(theme, model, sender, since, number))
    if export is not None:
        export_records(told, export)
    tell(told, records_text(told, export), as_json=json)
    return 0


records.command(list_, name="list")


@records.command
def show(record: str, run: str = "", /, *, where: Where | None = None, json: Flag = False) -> int:
    """One training record: all that it says, what of that is a claim, and each stage with its hash and block.

    Parameters
    ----------
    record
        Its number, as `distrai records list` shows it; or the job that it is of (its id or folder).
    run
        The folder of a run on this machine, or its link; or the folder of a chain of jobs. Your own, if not given.
    json
        Print one JSON object.
    """
    from distrai.jobs.records.told import record_text
    from distrai.runs.records import record_of
    from distrai.runs.telling import printable

    at = where or Where()
    told = record_of(record, run, at.rpc, at.deployment)
    tell(told, printable(record_text(told)), as_json=json)
    return 0

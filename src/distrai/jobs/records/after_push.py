"""What a training record is told when its model was pushed on its own, with `distrai models push`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai.jobs.models.store import Saved
from distrai.jobs.records.ledgers import OtherLedger, OwnLedger
from distrai.jobs.records.recording import Recording
from distrai.jobs.running.store import JobFolder, NoJob, find_job
from distrai.ledger.errors import LedgerError
from distrai.ledger.locks import InUse

if TYPE_CHECKING:
    from distrai.jobs.hub.push import Pushed

_CLOSED = (
    "its training record was closed before, so the record does not say that it is published: with --publish or "
    "--keep-open at `distrai jobs run` it would"
)


def tell_record(
    saved: Saved, done: "Pushed", ledger: OwnLedger | OtherLedger, tell: Callable[[dict[str, Any]], None]
) -> str:
    """Let the record of a model that was pushed reach PUBLISHED and close, if it is open; what to note otherwise.

    The push is done whatever happens here: a ledger that cannot be told now is a note, and can be told later.
    """
    origin = saved.manifest.origin
    job = _job(origin.job) if origin.record else None
    state = None if job is None else job.read()
    if job is None or state is None or state.record is None:
        return ""
    if state.record.get("closed"):
        return _CLOSED
    if isinstance(ledger, OwnLedger) and (folder := Path(str(state.record["ledger"]))).is_absolute():
        ledger = OwnLedger(folder, ledger.key)
    try:
        with job.lock():
            job.write(Recording(ledger).published(job.read(), done, tell))
    except (LedgerError, InUse, OSError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError | InUse) else type(error).__name__
        return f"its training record is still open ({why}): `distrai jobs close {origin.job}` closes it"
    return ""


def _job(name: str) -> JobFolder | None:
    """The job of this very name; what a manifest says may be anybody's, and is no path."""
    try:
        found = find_job(name) if name and "/" not in name else None
        return found if found is not None and found.read().job_id == name else None
    except NoJob:
        return None

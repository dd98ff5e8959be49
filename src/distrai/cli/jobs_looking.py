"""``distrai jobs list|show|logs|stop``: what jobs there are, what they do, and asking them to stop."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

if TYPE_CHECKING:
    from distrai.jobs.running.store import JobFolder

Flag = Annotated[bool, Parameter(negative=())]


def list_(*, templates: Flag = False, json: Flag = False) -> int:
    """The jobs of this machine, or the templates that there are.

    Parameters
    ----------
    templates
        Show templates instead of jobs.
    json
        Print one JSON object.
    """
    from distrai.jobs.forms.library import Library, title_of
    from distrai.jobs.running.session import described
    from distrai.jobs.running.store import all_jobs
    from distrai.jobs.text import jobs_text, templates_text

    if templates:
        found = [
            {"template": item.name, "title": title_of(item), "shipped": item.is_shipped, "hash": item.hash}
            for item in Library().all()
        ]
        tell({"ok": True, "templates": found}, templates_text(found), as_json=json)
        return 0
    told = [described(state, job) for job, state in all_jobs()]
    tell({"ok": True, "jobs": told}, jobs_text(told), as_json=json)
    return 0


def show(what: str, /, *, ledger: Flag = False, json: Flag = False) -> int:
    """The form of a template, or a job and what came of it.

    Parameters
    ----------
    what
        A template, a script with a header, or a job (its id or folder).
    ledger
        Of a job: its training record, read from the ledger.
    json
        Print one JSON object.
    """
    from distrai.jobs.running.session import show
    from distrai.jobs.running.store import find_job
    from distrai.jobs.text import form_text, job_text, printable

    if ledger:
        from distrai.jobs.records.shown import record_on_ledger
        from distrai.jobs.records.told import record_text

        record = record_on_ledger(find_job(what).read())
        tell({"ok": True, **record}, printable(record_text(record)), as_json=json)
        return 0
    told = show(what)
    text = form_text(told, told.get("versions", ())) if "template" in told else job_text(told)
    tell({"ok": True, **told}, text, as_json=json)
    return 0


def logs(job: str, /, *, output: Flag = False, follow: Flag = False, json: Flag = False) -> int:
    """What a job told, or all that its script printed.

    Parameters
    ----------
    job
        The job: its id, how that begins, or its folder.
    output
        Show what the script printed instead of events.
    follow
        Go on until the job has ended.
    json
        Print JSON lines.
    """
    from distrai.jobs.running.reading import events_of, printed_by
    from distrai.jobs.running.store import find_job
    from distrai.jobs.text import event_text, printable

    folder = find_job(job)
    _say_who_follows(folder, follow=follow)
    if output:
        for text in printed_by(folder, follow=follow):
            tell({"text": text}, printable(text), as_json=json)
        return 0
    for event in events_of(folder, follow=follow):
        tell(event, event_text(event), as_json=json)
    return 0


def _say_who_follows(folder: "JobFolder", *, follow: bool) -> None:
    """What is told comes from who runs the job: say so where that process is gone."""
    from distrai.jobs.running.session import described

    status = described(folder.read(), folder)["status"]
    if follow and status not in ("done", "failed", "stopped", "running", "preparing", "new"):
        print(
            f"distrai: {status.partition(':')[0]}; go on with it: distrai jobs run {folder.path}",
            file=sys.stderr,
        )


def stop(job: str, /, *, now: Flag = False, json: Flag = False) -> int:
    """Ask a job to save and stop.

    Parameters
    ----------
    job
        The job: its id, how that begins, or its folder.
    now
        End it at once, without saving.
    json
        Print one JSON object.
    """
    from distrai.jobs.running.reading import stop
    from distrai.jobs.running.store import find_job

    folder = find_job(job)
    was_running = stop(folder, at_once=now)
    told = {"ok": True, "job_id": folder.read().job_id, "was_running": was_running}
    text = f"{told['job_id']} was asked to stop" if was_running else f"{told['job_id']} is not running"
    tell(told, text, as_json=json)
    return 0

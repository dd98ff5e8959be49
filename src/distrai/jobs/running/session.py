"""Which job a user means: one to go on with, a template with values, or a command. A stranger's is asked about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrai.jobs.data.prechecks import check_job_data, check_paths
from distrai.jobs.estimates.estimate import Hardware, priced
from distrai.jobs.forms.header import Header
from distrai.jobs.forms.library import Library, NotAccepted, NoTemplate, Template
from distrai.jobs.forms.parameters import locate, parse_settings, validate
from distrai.jobs.hub.token import refuse_token
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.store import JobFolder, JobState, Limits, NoJob, check_ours, find_job

Confirm = Callable[[str], bool]
"""Shows a text and asks; True for yes."""


_S_MAX, _BYTES_MAX, _PRICE_MAX, _SPEED_MAX, _GPUS_MAX = 366 * 86400.0, 1 << 50, 1e5, 1e9, 1024


class Unclear(ValueError):
    """What is to be run cannot be told from what was given; the message says what to do."""


@dataclass(frozen=True)
class Asked:
    """What a user typed. ``what``: a template, a script, a job or its folder; or a ``command`` instead."""

    what: str = ""
    command: str = ""
    preset: str = ""
    settings: Sequence[str] = ()
    out: Path | None = None
    limits: Limits = field(default_factory=Limits)
    passed: Sequence[str] = ()
    accept: str = ""


def choose_job(asked: Asked, library: Library, confirm: Confirm | None, base: Path) -> JobFolder:
    """The job to run. ``confirm`` None: nobody is there to ask.

    Raises Unclear, NoTemplate, NotAccepted, OtherJob, BadHeader, BadParameter, BadData, BadSource, BadVariable,
    TokenInArguments.
    """
    refuse_token(asked.command, *asked.settings)
    if bool(asked.what) == bool(asked.command):
        raise Unclear("give a template, a script or a job to go on with; or --command and no template")
    if asked.command:
        if asked.preset or asked.settings:
            raise Unclear(
                "--preset and --set are for templates: a command gets what it needs as its own arguments"
            )
        return create(Wanted.of_command(asked.command, base, asked.limits, asked.passed), asked.out)
    known = _known_job(asked.what)
    if known is not None:
        return _go_on(known, asked)
    template = library.find(asked.what)
    header = template.header()
    values, lacking = complete(header, asked.preset, given(template, asked), base)
    if lacking:
        needed = ", ".join(f"--set {name}=..." for name in lacking)
        raise Unclear(
            f"{template.name} still needs {needed}: `distrai jobs show {asked.what}` shows the form"
        )
    check_paths(header.kind, header.parameters, values)
    wanted = Wanted.of_template(
        template, asked.preset, given(template, asked), base, asked.limits, asked.passed
    )
    check_job_data(wanted.kind, wanted.values)
    _accepted(library, template, asked.accept, confirm)
    return create(wanted, asked.out)


def _known_job(what: str) -> JobFolder | None:
    """A job's folder or its whole id; a template of that name comes first otherwise."""
    folder = JobFolder(Path(what))
    if folder.exists():
        return JobFolder(folder.path.absolute())
    try:
        found = find_job(what)
    except NoJob:
        return None
    return found if found.read().job_id == what else None


def _go_on(job: JobFolder, asked: Asked) -> JobFolder:
    if asked.preset or asked.settings or asked.out is not None:
        raise Unclear(
            f"{job.path} is a job that goes on with the values it has: leave out --preset, --set and --out"
        )
    check_ours(job, job.read())
    if asked.limits != Limits():
        with job.lock():
            state = job.read()
            if state.has_ended:
                job.write(state.with_(limits=asked.limits))
    return job


def given(template: Template, asked: Asked) -> dict[str, Any]:
    """The values that were typed. Raises BadParameter."""
    return parse_settings(template.header().parameters, list(asked.settings))


def _accepted(library: Library, template: Template, accept: str, confirm: Confirm | None) -> None:
    """Ask for a text that was not accepted; what was changed and its hash are shown. Raises NotAccepted."""
    if confirm is None or accept or library.is_accepted(template):
        library.check_accepted(template, accept)
        return
    shown = library.diff(template) or template.data.decode(errors="replace")
    if not confirm(f"{shown}\nThe script {template.path} has SHA-256 {template.hash}. It runs as you."):
        raise NotAccepted(f"{template.name} was not accepted, and was not run")
    library.accept(template)


def complete(
    header: Header, preset: str, given: dict[str, Any], base: Path
) -> tuple[dict[str, Any], list[str]]:
    """The values that there are, and the names of those that are needed and were not given. Raises BadParameter."""
    if preset and preset not in header.presets:
        header.values(preset, given)  # says what is wrong with it
    chosen = {**header.presets.get(preset, {}), **given}
    lacking = [name for name, item in header.parameters.items() if item.is_required and name not in chosen]
    there = {name: item for name, item in header.parameters.items() if name not in lacking}
    return locate(there, validate(there, chosen), base), lacking


def described(state: JobState, job: JobFolder) -> dict[str, Any]:
    """A job as it is told, with what its script is now doing."""
    from distrai.jobs.running.attempt import Attempt

    status = state.status
    if status == "running" and not Attempt(job, state.attempt).is_alive():
        status = "ended, to be gone on with"
    elif status in ("running", "preparing") and not _is_watched(job):
        status = f"{status}, and nobody follows: `distrai jobs run {job.path}` does"
    return {
        "job_id": state.job_id,
        "status": status,
        "why": state.why,
        "name": state.name,
        "kind": state.kind,
        "created_at": state.created_at,
        "attempt": state.attempt,
        "step": state.step,
        "seconds": state.seconds,
        "metrics": state.metrics,
        "artifacts": state.artifacts,
        "script_hash": state.script_hash,
        "record": state.record,
        "folder": str(job.path),
    }


def _is_watched(job: JobFolder) -> bool:
    """Whether the process that took the job's lock last is there. Nothing is locked to see that."""
    try:
        return Path(f"/proc/{int((job.path / 'job.lock').read_text())}").exists()
    except (OSError, ValueError):
        return False


def form(template: Template) -> dict[str, Any]:
    """The form of a template, as data. Raises BadHeader."""
    header = template.header()
    fields = {}
    for name, item in header.parameters.items():
        about = {
            "type": item.type,
            "min": item.min,
            "max": item.max,
            "choices": list(item.choices),
            "help": item.help,
        }
        default = {} if item.is_required else {"default": item.default}
        fields[name] = default | {key: value for key, value in about.items() if value not in (None, [], "")}
    return {
        "template": template.name,
        "path": "" if template.path is None or template.origin else str(template.path),
        "title": header.title,
        "kind": header.kind,
        "hash": template.hash,
        "origin": template.origin,
        "requires_python": header.requires_python,
        "dependencies": list(header.dependencies),
        "parameters": fields,
        "presets": header.presets,
    }


def show(what: str) -> dict[str, Any]:
    """A job by its id or folder, else the form of a template. Raises NoTemplate, BadHeader or NoJob."""
    known = _known_job(what)
    if known is not None:
        return described(known.read(), known)
    library = Library()
    try:
        template = library.find(what)
    except NoTemplate:
        try:
            found = find_job(what)
        except NoJob:
            found = None
        if found is None:
            raise
        return described(found.read(), found)
    return form(template) | {"versions": library.versions(template.name)}


def hardware(gpu: str, gpus: int, price: float, speed: float = 0.0) -> Hardware | None:
    """What a job would run on, as a user says it: ``price`` of a GPU and hour in dollars. Raises Unclear."""
    if not 1 <= gpus <= _GPUS_MAX or not 0 <= price < _PRICE_MAX or not 0 <= speed < _SPEED_MAX:
        raise Unclear("--gpus is at least 1, --price dollars for a GPU and hour, --speed tokens per second")
    if not gpu and not speed:
        if price:
            raise Unclear("--price needs --gpu (like H100_80GB), or --speed as a smoke run measured it")
        return None
    return priced(Hardware(gpu, gpus, None, speed), price)


def limits(
    timeout_s: float, grace_s: float, memory_bytes: float, *, sandbox: bool = True, network: bool = True
) -> Limits:
    """Limits as a user gives them. Raises Unclear."""
    if not (0 <= timeout_s < _S_MAX and 0 <= grace_s < _S_MAX and 0 <= memory_bytes < _BYTES_MAX):
        raise Unclear("--timeout, --grace and --memory are not negative, and at most a year or a petabyte")
    return Limits(
        timeout_s=timeout_s,
        grace_s=grace_s,
        memory_bytes=round(memory_bytes),
        sandbox=sandbox,
        network=network,
    )

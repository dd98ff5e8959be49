"""A new job: its folder with script, helper and values, before anything runs."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrai.jobs.files import needs_room, write_json
from distrai.jobs.forms.library import Template
from distrai.jobs.forms.parameters import locate
from distrai.jobs.running import helper, supervisor
from distrai.jobs.running.attempt import SUPERVISOR
from distrai.jobs.running.confinement import check_passed
from distrai.jobs.running.store import (
    JobFolder,
    JobState,
    Limits,
    OtherJob,
    check_ours,
    is_free,
    jobs_folder,
    new_id,
    now,
    remember,
)
from distrai.network.files import write_whole

HELPER = "distrai_job.py"
_SHELLS = ("sh", "bash", "zsh", "dash", "ksh", "fish", "env")
TRAINING = "distrai_training.py"
_VARIABLE = re.compile(r"^\$(\w+|\{\w+\})(/.*)?$|[=:/,]\$([A-Za-z_]\w*|\{\w+\})$")
_SAME = ("name", "kind", "script", "script_hash", "command")


@dataclass(frozen=True)
class Wanted:
    """What is to be run: a template with values, or a command. ``base``: the folder that the user stands in."""

    name: str
    kind: str
    base: Path
    template: Template | None = None
    command: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    passed: Sequence[str] = ()

    @classmethod
    def of_template(
        cls,
        template: Template,
        preset: str,
        given: Mapping[str, Any],
        base: Path,
        limits: Limits,
        passed: Sequence[str],
    ) -> "Wanted":
        """A template with its values checked. Raises BadHeader, BadParameter, BadVariable."""
        header = template.header()
        values = locate(header.parameters, header.values(preset, given), base)
        kind = header.kind or "custom"
        return cls(template.name, kind, base, template, (), values, limits, check_passed(passed))

    @classmethod
    def of_command(cls, command: str, base: Path, limits: Limits, passed: Sequence[str]) -> "Wanted":
        """A command as it is typed. Raises OtherJob for none."""
        parts = _words(command)
        if not parts:
            raise OtherJob("--command is empty: give what you would type, like --command 'python train.py'")
        name = Path(parts[1] if len(parts) > 1 and not parts[1].startswith("-") else parts[0]).stem
        return cls(name, "command", base, None, parts, {}, limits, check_passed(passed))

    def state(self, job_id: str) -> JobState:
        """The state of such a job before it runs."""
        template = self.template
        return JobState(
            job_id=job_id,
            name=self.name,
            kind=self.kind,
            created_at=now(),
            script=_script_name(template) if template else "",
            script_hash=template.hash if template else "",
            command=list(self.command),
            base=str(self.base.absolute()),
            limits=self.limits,
            passed=list(self.passed),
        )


def _words(command: str) -> tuple[str, ...]:
    """The words of a command, which no shell reads. Raises OtherJob for what only a shell understands."""
    signs = shlex.shlex(command, posix=True, punctuation_chars=True)
    signs.whitespace_split = True
    try:
        parts, signs_too = tuple(shlex.split(command)), list(signs)
    except ValueError as error:
        raise OtherJob(f"--command cannot be read: {str(error).lower()}") from None
    special = [sign for sign in signs_too if sign and set(sign) <= set("();<>|&")]
    if special or (parts and Path(parts[0]).name not in _SHELLS and any(map(_has_variable, parts))):
        sign = special[0] if special else "$"
        raise OtherJob(
            f"--command is read by no shell, and {sign} means nothing then: write it as sh -c '...'"
        )
    return parts


def _has_variable(word: str) -> bool:
    """Whether a shell was to put in a variable: a whole word, the begin of a path, or after a sign at the end."""
    return "$DISTRAI_" in word or _VARIABLE.search(word) is not None


def create(wanted: Wanted, folder: Path | None) -> JobFolder:
    """The folder of a new job; of the same one if it is there already, which goes on. Raises OtherJob, DiskFull."""
    job_id = new_id(wanted.name)
    job = JobFolder((folder or jobs_folder() / job_id).absolute())
    if job.exists():
        return _same(job, wanted)
    if not is_free(job.path) and not (job.path / ".distrai-new").exists():
        raise OtherJob(f"{job.path} holds something else: give --out a folder that is new or empty")
    with needs_room(job.path, "start the job again"):
        job.path.mkdir(parents=True, exist_ok=True)
        mark = job.path / ".distrai-new"
        mark.touch()
        job.path.chmod(0o700)
        for part in (job.out, job.script):
            part.mkdir(exist_ok=True)
        if wanted.template is not None:
            write_whole(job.script / _script_name(wanted.template), [wanted.template.data])
        for path, name in _beside():
            write_whole(job.script / name, [path.read_bytes()])
        write_json(job.params, dict(wanted.values))
        job.write(wanted.state(job_id))
        mark.unlink()
        remember(job_id, job.path)
    return job


def _same(job: JobFolder, wanted: Wanted) -> JobFolder:
    """The job that is there, with the limits that are asked for now. Raises OtherJob if it is another."""
    check_ours(job, job.read())
    with job.lock():  # whoever follows it has the last word on its state
        return _with_limits(job, wanted)


def _with_limits(job: JobFolder, wanted: Wanted) -> JobFolder:
    there, new = job.read(), wanted.state("")
    if any(getattr(there, name) != getattr(new, name) for name in _SAME):
        raise OtherJob(
            f"{job.path} holds the job {there.job_id} of another script: give --out another folder"
        )
    if job.values() != json.loads(json.dumps(dict(wanted.values))):
        raise OtherJob(
            f"{job.path} holds the job {there.job_id} with other values: give --out another folder, or go on with it: "
            f"distrai jobs run {job.path}"
        )
    job.write(there.with_(limits=wanted.limits, passed=list(wanted.passed)))
    return job


def _beside() -> list[tuple[Path, str]]:
    """What is copied beside every script, and its name there."""
    support = Path(__file__).parent.parent / "support"
    return [
        (Path(helper.__file__), HELPER),
        (Path(supervisor.__file__), SUPERVISOR),
        (support / TRAINING, TRAINING),
    ]


def _script_name(template: Template) -> str:
    """The name of the script's file: never that of the helper, which would be shadowed."""
    name = f"{template.name}.py"
    return (
        f"script_{name}" if name in {HELPER, SUPERVISOR, TRAINING} or template.name.isidentifier() else name
    )

"""A job on disk: its folder, its state, and the events of all its attempts.

``job.json`` what is known of it, ``params.json`` the values, ``script/`` the script with its helper, ``out/`` what the
script makes (DISTRAI_OUT), ``events.jsonl`` checked events, ``raw.jsonl`` the script's, ``log.txt`` what it printed,
``attempts/N/`` how each attempt was started and ended, ``home/`` the script's home.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distrai.jobs.files import make_mark, user_folder, write_json
from distrai.jobs.running.state import ENDED, FORMAT, JobState, Limits
from distrai.ledger.locks import FileLock

__all__ = [
    "ENDED",
    "FORMAT",
    "JobFolder",
    "JobState",
    "Limits",
    "NoJob",
    "OtherJob",
    "all_jobs",
    "check_ours",
    "find_job",
    "is_free",
    "jobs_folder",
    "new_id",
    "now",
    "remember",
]
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHORT = re.compile(r"[^a-z0-9]+")


class NoJob(ValueError):
    """There is no job of this name, or none that this version can read."""


class OtherJob(ValueError):
    """A folder holds something else than what is to be put there."""


@dataclass(frozen=True)
class JobFolder:
    """The folder of a job."""

    path: Path

    @property
    def out(self) -> Path:
        """What the script makes."""
        return self.path / "out"

    @property
    def stop_file(self) -> Path:
        """Asks the script to stop."""
        return self.out / "STOP"

    @property
    def script(self) -> Path:
        """The script and its helper."""
        return self.path / "script"

    @property
    def params(self) -> Path:
        """The values."""
        return self.path / "params.json"

    @property
    def log(self) -> Path:
        """What the script printed."""
        return self.path / "log.txt"

    @property
    def raw(self) -> Path:
        """Events as the script wrote them."""
        return self.path / "raw.jsonl"

    @property
    def events(self) -> Path:
        """Events that were checked, of all attempts."""
        return self.path / "events.jsonl"

    def attempt(self, number: int) -> Path:
        """How an attempt was started and ended."""
        return self.path / "attempts" / str(number)

    def ask_to_stop(self) -> None:
        """Make the file that asks the script to stop; whatever the script put in its place is not followed."""
        make_mark(self.stop_file)

    def lock(self) -> FileLock:
        """Held by whoever starts and follows the job."""
        return FileLock(self.path / "job.lock", f"the job in {self.path}")

    def exists(self) -> bool:
        """Whether there is a job here."""
        return (self.path / "job.json").exists()

    def read(self) -> JobState:
        """What is known of the job. Raises NoJob."""
        try:
            content = json.loads((self.path / "job.json").read_bytes())
        except FileNotFoundError:
            raise NoJob(f"{self.path} holds no job: `distrai jobs list` shows those that there are") from None
        except ValueError:
            raise NoJob(f"{self.path / 'job.json'} is damaged: it is no JSON") from None
        try:
            if content["format"] != FORMAT:
                raise NoJob(f"the job in {self.path} was made by another version of distrai")
            known = {item.name for item in fields(JobState)}
            limits = Limits(**content.pop("limits"))
            return JobState(limits=limits, **{key: value for key, value in content.items() if key in known})
        except (KeyError, TypeError, AttributeError) as error:
            raise NoJob(f"{self.path / 'job.json'} is damaged: {error}") from None

    def write(self, state: JobState) -> JobState:
        """Keep what is known of the job."""
        write_json(self.path / "job.json", asdict(state))
        return state

    def values(self) -> dict[str, Any]:
        """The values of the form."""
        return dict(json.loads(self.params.read_bytes()))

    def keep_event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Append an event, with the time of this machine."""
        told = {"at": now(), **event}
        with self.events.open("ab", buffering=0) as file:
            file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
        return told

    def read_events(self) -> Iterator[dict[str, Any]]:
        """All events so far. A line that a crash cut off is left out."""
        if not self.events.exists():
            return
        with self.events.open("rb") as file:
            for line in file:
                try:
                    yield dict(json.loads(line))
                except ValueError:
                    continue


def now() -> str:
    """The time of this machine, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def new_id(name: str) -> str:
    """A new name for a job: what it is, when, and a few random digits."""
    short = _SHORT.sub("-", name.lower()).strip("-")[:40] or "job"
    return f"{short}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def jobs_folder() -> Path:
    """Where jobs are that nobody named a folder for, and where all others are written down."""
    return user_folder() / "jobs"


def remember(job_id: str, folder: Path) -> None:
    """Write down where a job is, so that its id is enough to find it."""
    jobs = jobs_folder()
    if folder.absolute() != jobs / job_id:
        jobs.mkdir(parents=True, exist_ok=True)
        write_json(jobs / f"{job_id}.json", {"folder": str(folder.absolute())})


def check_ours(job: JobFolder, state: JobState) -> None:
    """Raise OtherJob unless this user made the job: its folder says what is run, with which variables, how confined.

    A folder that was moved is known by its id, as long as no job is where it was.
    """
    jobs, path = jobs_folder(), job.path.absolute()
    if not _PLAIN_ID.fullmatch(state.job_id):
        raise OtherJob(f"{path / 'job.json'} is damaged: it names no job")
    noted = jobs / f"{state.job_id}.json"
    known = jobs / state.job_id
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = Path(json.loads(noted.read_bytes())["folder"])
        if not JobFolder(known).exists():
            remember(state.job_id, path)
            return
    if os.path.realpath(known) != os.path.realpath(path):
        script = f": to run its script, which you will be asked about: distrai jobs run {job.script / state.script}"
        raise OtherJob(
            f"the job in {path} was not made by you on this machine, and could run anything as you"
            f"{script if state.script else ''}"
        )


def all_jobs() -> list[tuple[JobFolder, JobState]]:
    """Every job of this user whose folder is still there and can be read, the oldest first."""
    found: dict[str, tuple[JobFolder, JobState]] = {}
    for path in jobs_folder().glob("*"):
        with suppress(NoJob, OSError, ValueError, KeyError, TypeError):
            folder = JobFolder(path if path.is_dir() else Path(json.loads(path.read_bytes())["folder"]))
            state = folder.read()
            found[state.job_id] = folder, state
    return sorted(found.values(), key=lambda job: (job[1].created_at, job[1].job_id))


def find_job(what: str) -> JobFolder:
    """The job with this id, an id that begins like this, or in this folder. Raises NoJob."""
    if (given := JobFolder(Path(what))).exists():
        return JobFolder(given.path.absolute())
    near = [(job, state) for job, state in all_jobs() if what and state.job_id.startswith(what)]
    exact = [job for job, state in near if state.job_id == what] or [job for job, _ in near]
    if len(exact) == 1:
        return exact[0]
    if near:
        raise NoJob(f"{what!r} begins {len(near)} jobs: {', '.join(state.job_id for _, state in near[:5])}")
    raise NoJob(
        f"there is no job {what!r}: `distrai jobs list` shows those that there are, or give its folder"
    )


def is_free(path: Path) -> bool:
    """Whether a new job may be put into a folder."""
    return not path.exists() or (path.is_dir() and next(path.iterdir(), None) is None)

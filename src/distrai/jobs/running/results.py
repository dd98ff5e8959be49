"""What came of a job: the files that its script named, each with its hash, and what is told at the end."""

from dataclasses import dataclass
from typing import Any

from distrai.jobs.models.portable import make_portable, paths_of
from distrai.jobs.running.artifacts import ArtifactRefused, artifact_files, file_sha256
from distrai.jobs.running.store import JobFolder, JobState

_PORTABLE = ("adapter", "model")
"""Kinds of artifacts that others get: no path of this machine stays in them."""


@dataclass(frozen=True)
class JobResult:
    """What came of a job. ``model_path``: the folder of its model, empty if it made none."""

    job_id: str
    status: str
    metrics: dict[str, float | None]
    artifacts: list[dict[str, str]]
    record: dict[str, Any] | None
    model_path: str
    why: str
    folder: str

    @classmethod
    def of(cls, job: JobFolder, state: JobState) -> "JobResult":
        """What a job has come to."""
        model = state.saved or (str(job.out / state.model) if state.model else "")
        return cls(
            state.job_id,
            state.status,
            state.metrics,
            state.artifacts,
            state.record,
            model,
            state.why,
            str(job.path),
        )

    def to_json(self) -> dict[str, Any]:
        """As one object; without ``why`` where all is well."""
        return {name: value for name, value in vars(self).items() if name != "why" or value}


@dataclass(frozen=True)
class Collected:
    """Every file that a script named, the folder of its model, and why something it named was refused."""

    artifacts: list[dict[str, str]]
    model: str
    refused: list[str]


def collect(job: JobFolder, attempt: int) -> Collected:
    """The results of all attempts. What an earlier attempt named may be gone; what this one names may not."""
    named: dict[str, tuple[str, bool]] = {}
    for event in job.read_events():
        if event.get("event") == "artifact":
            named[str(event["path"])] = str(event["kind"]), event.get("attempt") == attempt
    found: dict[str, str] = {}
    shown = paths_of(job)
    model, refused = "", []
    for name, (kind, is_new) in named.items():
        try:
            files = artifact_files(job.out, name)
        except ArtifactRefused as error:
            refused += [str(error)] if is_new else []
            continue
        if kind in _PORTABLE:
            make_portable(job.out / name, shown)
        found |= {path.as_posix(): file_sha256(job.out / path) for path in files}
        model = name if kind == "model" else model
    return Collected([{"path": path, "sha256": found[path]} for path in sorted(found)], model, refused)

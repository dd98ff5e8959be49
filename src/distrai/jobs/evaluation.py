"""What a model can do: the template ``evaluate`` run as a job of its own, alone or before and after a training.

lm-evaluation-harness and what it needs stay in an environment of their own, which is made once. What it measures before
and after a training becomes metrics of that job (``hellaswag_acc_before``, ``hellaswag_acc_after``) and two artifacts.
It is kept outside of OUT, where the script that trains cannot write; when that has ended it is copied there.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from distrai.jobs.files import write_json
from distrai.jobs.forms.library import Template, shipped
from distrai.jobs.records.claims import base_of
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.environments import Environments
from distrai.jobs.running.results import JobResult
from distrai.jobs.running.runner import JobRun, Report, Witness
from distrai.jobs.running.store import JobFolder, JobState, Limits
from distrai.network.files import write_whole

BEFORE, AFTER = "before", "after"
RESULTS = "results.json"
_KEPT, _SHOWN, _ASKED = "evaluations", "distrai-evaluation", "asked.json"
_RUNS_CODE = ("humaneval", "mbpp", "cruxeval", "longproc_pseudo_to_code")
"""Tasks that run what a model writes begin like this; the template finds those that are in groups too."""
_TASKS_MAX, _RESULTS_BYTES_MAX = 100, 4 << 20


class CannotEvaluate(ValueError):
    """A model was not judged; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """What to judge by: names of tasks with commas between, a folder with tasks of one's own, how many questions.

    ``limit`` 0: all; ``few_shot`` -1: as the task says.
    """

    names: str
    folder: str = ""
    limit: int = 0
    few_shot: int = -1
    batch: int = 8
    chat: bool = False

    def check(self) -> "Tasks":
        """The same, with the names in one way to write them. Raises CannotEvaluate."""
        names = list(dict.fromkeys(name.strip() for name in self.names.split(",") if name.strip()))
        if not 1 <= len(names) <= _TASKS_MAX:
            raise CannotEvaluate(f"name 1 to {_TASKS_MAX} tasks, with commas between: hellaswag,arc_easy")
        if codes := [name for name in names if name.startswith(_RUNS_CODE)]:
            raise CannotEvaluate(
                f"{codes[0]} runs code that the model writes, which is not done here: leave it out"
            )
        if self.folder and not Path(self.folder).is_dir():
            raise CannotEvaluate(f"there is no folder {self.folder} with tasks")
        return replace(self, names=",".join(names), folder=self.folder and str(Path(self.folder).resolve()))

    def values(self, model: str) -> dict[str, Any]:
        """What the template takes."""
        told = asdict(self)
        return {"model": model, "tasks": told.pop("names"), "task_folder": told.pop("folder"), **told}


def evaluate_template() -> Template:
    """The shipped script that does it."""
    return next(template for template in shipped() if template.name == "evaluate")


@dataclass(frozen=True)
class Evaluation:
    """Judges models by tasks. ``template``: what does it, with the parameters of the shipped one."""

    tasks: Tasks
    template: Template = field(default_factory=evaluate_template)
    environments: Environments = field(default_factory=Environments)
    limits: Limits = field(default_factory=Limits)

    def prepare(self, say: Callable[[str], None]) -> None:
        """Make the environment, if there is none, so that what is wrong with it is known early."""
        self.environments.prepare(self.template.header(), say)

    def of(self, model: str, folder: Path | None, report: Report) -> JobResult:
        """Judge a model in a job of its own, or go on with that. Raises CannotEvaluate, CannotPrepare, OtherJob."""
        values, base = self.tasks.values(model), Path(model).parent if Path(model).is_dir() else Path()
        wanted = Wanted.of_template(self.template, "", values, base.absolute(), self.limits, [])
        result = JobRun(create(wanted, folder), report, self.environments).run()
        if result.status == "stopped":
            raise KeyboardInterrupt
        if result.status != "done":
            raise CannotEvaluate(f"the model was not judged: {result.why}")
        return result


@dataclass(frozen=True)
class Evaluating:
    """Judges the base of a job before its script starts, and its model when it is done (see ``runner.Witness``).

    ``inner``: who else writes down how the job was made; told after us, so that the model's card has the figures.
    """

    evaluation: Evaluation
    inner: Witness | None = None

    def opened(self, job: JobFolder, state: JobState, tell: Report) -> dict[str, Any] | None:
        """Judge the model that training starts from: what is wrong with the tasks is known before anything is spent."""
        self.evaluation.prepare(lambda text: tell({"event": "status", "text": text}))
        base = base_of(job.values())
        if base and not self._file(job, BEFORE).exists():
            self._judge(job, state, BEFORE, base, tell)
        return state.record if self.inner is None else self.inner.opened(job, state, tell)

    def started(self, job: JobFolder, state: JobState, tell: Report) -> None:
        """Nothing of ours."""
        if self.inner is not None:
            self.inner.started(job, state, tell)

    def finished(self, job: JobFolder, state: JobState, tell: Report) -> JobState:
        """Judge the model that was made. What goes wrong with that does not undo the training."""
        if state.status == "done" and state.model:
            if not self._file(job, AFTER).exists():
                try:
                    self._judge(job, state, AFTER, str(job.out / state.model), tell)
                except (ValueError, OSError) as error:
                    tell({"event": "log", "level": "warning", "text": str(error)})
            state = _with_figures(job, state)
            job.write(state)
        return state if self.inner is None else self.inner.finished(job, state, tell)

    def _judge(self, job: JobFolder, state: JobState, when: str, model: str, tell: Report) -> None:
        def report(event: dict[str, Any]) -> None:
            if event["event"] == "status":
                tell({"event": "status", "text": f"judging {when} training: {event['text']}"})

        tell(
            {"event": "status", "text": f"judging the model {when} training by {self.evaluation.tasks.names}"}
        )
        result = self.evaluation.of(model, job.path / _KEPT / when, report)
        write_whole(self._file(job, when), [_read_results(result)])
        tell({"event": "evaluation", "when": when, "values": figures(self._file(job, when))})

    def _file(self, job: JobFolder, when: str) -> Path:
        return job.path / _KEPT / f"{when}.json"


def judged_by(job: JobFolder, tasks: Tasks | None, inner: Witness | None) -> Witness | None:
    """Who judges a job by what is asked for now, or was when it began, and tells ``inner``; that alone if nobody."""
    asked = keep_asked(job, tasks)
    return inner if asked is None else Evaluating(Evaluation(asked), inner)


def keep_asked(job: JobFolder, tasks: Tasks | None) -> Tasks | None:
    """What to judge a job by: what is asked for now, else what was asked for when it began. Raises CannotEvaluate."""
    path = job.path / _KEPT / _ASKED
    if tasks is not None:
        path.parent.mkdir(exist_ok=True)
        write_json(path, asdict(tasks))
        return tasks
    try:
        return Tasks(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise CannotEvaluate(f"{path} is damaged: say again what to judge by, with --eval") from None


def figures(file: Path) -> dict[str, float]:
    """Every figure of a file of results, by task and measure. Raises CannotEvaluate."""
    try:
        told = json.loads(file.read_bytes())
        return {
            f"{task}_{measure}": float(value)
            for task in told["asked"]
            for measure, value in told["tasks"].get(task, {}).items()
            if "stderr" not in measure
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CannotEvaluate(f"{file} is no file of results") from None


def report_of(job: JobFolder) -> bytes:
    """All that was measured before and after, as one file for the finished model; empty if nothing was."""
    told = {when: json.loads(content) for when, content in _kept(job).items()}
    return (json.dumps(told, indent=2, sort_keys=True) + "\n").encode() if told else b""


def _read_results(result: JobResult) -> bytes:
    """The results of a job that judges, as they were hashed: a file inside of its OUT. Raises CannotEvaluate."""
    known = {item["path"]: item["sha256"] for item in result.artifacts}
    with (Path(result.folder) / "out" / RESULTS).open("rb") as file:
        content = file.read(_RESULTS_BYTES_MAX + 1)
    if hashlib.sha256(content).hexdigest() != known.get(RESULTS):
        raise CannotEvaluate(f"the job {result.job_id} gave no {RESULTS}, or changed it, or it is too large")
    return content


def _kept(job: JobFolder) -> dict[str, bytes]:
    """What was measured before and after, as far as it was."""
    files = {when: job.path / _KEPT / f"{when}.json" for when in (BEFORE, AFTER)}
    return {when: file.read_bytes() for when, file in files.items() if file.is_file()}


def _with_figures(job: JobFolder, state: JobState) -> JobState:
    """The state with what was measured, and the files that say so. The script has ended, and changes nothing more."""
    metrics, artifacts = dict(state.metrics), {item["path"]: item["sha256"] for item in state.artifacts}
    folder, kept = job.out / _SHOWN, _kept(job)
    if kept:
        _cleared(folder).mkdir()
    for when, content in kept.items():
        found = figures(job.path / _KEPT / f"{when}.json")
        metrics |= {f"{name}_{when}": value for name, value in found.items()}
        write_whole(folder / f"{when}.json", [content])
        artifacts[f"{_SHOWN}/{when}.json"] = hashlib.sha256(content).hexdigest()
    listed = [{"path": path, "sha256": artifacts[path]} for path in sorted(artifacts)]
    return state.with_(metrics=metrics, artifacts=listed)


def _cleared(folder: Path) -> Path:
    """The same path with nothing there: a link that a script left is removed, not followed."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    return folder

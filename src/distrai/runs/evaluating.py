"""``distrai eval``: how good a run, a job's model or any other is, on data or by tasks of lm-evaluation-harness."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distrai.jobs.data.dividing import HELD_OUT
from distrai.jobs.data.prepared import FOLDER
from distrai.jobs.evaluation import Evaluation, Tasks, figures
from distrai.jobs.models.scoring import CONTEXT, EXAMPLES_MAX, score_model
from distrai.jobs.models.sealed import check_opened
from distrai.jobs.models.store import ModelStore, NoModel
from distrai.jobs.records.claims import base_of
from distrai.jobs.running.store import JobFolder, Limits, NoJob, find_job
from distrai.runs.exporting import export_run
from distrai.runs.folder import RunFolder
from distrai.runs.opened import OpenedRun

Report = Callable[[dict[str, Any]], None]
_LIMIT_MAX = 1 << 31


class NothingToEvaluate(ValueError):
    """What is to be judged cannot be told, or there is nothing to judge it by; the message says what to do."""


@dataclass(frozen=True)
class Asked:
    """What a user typed. ``what``: a run, a job, a model of the store, a folder, or a name on the hub."""

    what: str
    tasks: Tasks | None = None
    data: str = ""
    limit: int = 0
    context: int = 0
    device: str = "cpu"
    store: str = ""
    out: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Subject:
    """What is judged. ``kind``: run, job, model, folder or hub."""

    kind: str
    name: str
    run: RunFolder | None = None
    job: JobFolder | None = None


def evaluate(asked: Asked, report: Report) -> dict[str, Any]:
    """Judge something, as one object.

    Raises NothingToEvaluate, CannotEvaluate, CannotPrepare, CannotLoad, BadData, BadSource, and what opening a run or
    a model raises.
    """
    if not 0 <= asked.limit < _LIMIT_MAX or not 0 <= asked.context < _LIMIT_MAX:
        raise NothingToEvaluate("--limit and --context are not negative")
    if asked.tasks is not None and asked.data:
        raise NothingToEvaluate("--tasks have their own data: leave out --data, or ask twice")
    if asked.tasks is not None:
        asked.tasks.check()
    subject = find_subject(asked.what, asked.store)
    told: dict[str, Any] = {"ok": True, "what": subject.kind, "name": subject.name}
    if asked.tasks is not None:
        return told | _by_tasks(asked, asked.tasks, subject, report)
    if subject.run is not None and not asked.data:
        return told | _of_run(subject.run, asked, report)
    return told | _on_data(asked, subject, report)


def find_subject(what: str, store: str = "") -> Subject:
    """What a user means: a folder of a run or model, a job, a saved model, else a name on the hub."""
    path = Path(what)
    if what and (run := RunFolder(path)).exists():
        return Subject("run", path.resolve().name, run=run)
    try:
        job = find_job(what) if what else None
    except NoJob:
        job = None
    if job is not None:
        return Subject("job", job.read().job_id, job=job)
    if (path / "config.json").is_file():
        return Subject("folder", str(path.resolve()))
    try:
        return Subject("model", ModelStore.at(store).find(what).name)
    except (NoModel, ValueError):
        pass
    if what.count("/") == 1 and not path.exists() and not what.startswith((".", "/", "~")):
        return Subject("hub", what)
    raise NothingToEvaluate(
        f"{what or 'an empty name'} is no run, no job, no saved model, no folder with a model (config.json) and no "
        "name on the hub (OWNER/NAME): `distrai jobs list` and `distrai models list` show what there is"
    )


@contextmanager
def model_of(asked: Asked, subject: Subject, report: Report) -> Iterator[str]:
    """The folder of the model, or its name on the hub; of a run, its newest model is written somewhere first."""
    if subject.run is not None:
        with TemporaryDirectory(prefix="distrai-eval-") as scratch:
            report({"event": "status", "text": "writing the newest model of the run"})
            yield str(export_run(subject.run, Path(scratch) / "model").folder)
        return
    if subject.kind == "model":
        store = ModelStore.at(asked.store)
        saved = store.find(subject.name)
        check_opened(saved)
        with store.opened(saved) as folder:
            yield str(folder)
        return
    if subject.job is not None:
        state = subject.job.read()
        if not state.model or not (subject.job.out / state.model).is_dir():
            raise NothingToEvaluate(f"the job {state.job_id} ({state.status}) has made no model yet")
        yield str(subject.job.out / state.model)
        return
    yield subject.name


def _of_run(run: RunFolder, asked: Asked, report: Report) -> dict[str, Any]:
    """Of the first and the newest state, on what nobody trained on, by the objective of the run."""
    opened = OpenedRun.open(run, asked.device)
    samples = asked.limit or opened.resolved.recipe.evaluation.samples_final
    report({"event": "status", "text": "judging the model that the run began with"})
    opened.load(opened.archive.initial_state(opened.resolved))
    before = asdict(opened.measure(samples))
    number = opened.load_newest()
    report({"event": "status", "text": f"judging the model after round {number}"})
    after = asdict(opened.measure(samples))
    objective = opened.resolved.recipe.training.objective
    return {"data": "held out", "objective": objective, "round": number, "before": before, "after": after}


def _on_data(asked: Asked, subject: Subject, report: Report) -> dict[str, Any]:
    """Of a model on data; of a job without more on its own held-out part, with the model that it began with."""
    data, base = asked.data, ""
    if subject.job is not None and not data:
        own = subject.job.path / FOLDER
        data = str(own) if (own / HELD_OUT).is_file() else ""
        base = base_of(subject.job.values())
    if not data:
        raise NothingToEvaluate(
            "there is nothing to judge it on: give --data FILE (as for `distrai jobs data`), or --tasks hellaswag"
        )
    trained = {} if subject.job is None else subject.job.values()
    limit, context = asked.limit or EXAMPLES_MAX, asked.context or int(trained.get("context") or CONTEXT)
    score = partial(score_model, data=data, limit=limit, context=context, device=asked.device)
    before = None
    with model_of(asked, subject, report) as model:
        if base:
            report({"event": "status", "text": "judging the model that training began with"})
            before = asdict(score(base, tokenizer_of=model))
        report({"event": "status", "text": "judging the model"})
        after = asdict(score(model))
    shown = "held out" if subject.job is not None and not asked.data else Path(data).name
    return {"data": shown, "before": before, "after": after}


def _by_tasks(asked: Asked, tasks: Tasks, subject: Subject, report: Report) -> dict[str, Any]:
    with model_of(asked, subject, report) as model:
        result = Evaluation(tasks.check(), limits=asked.limits).of(model, asked.out, report)
    results = Path(result.folder) / "out" / "results.json"
    return {
        "job_id": result.job_id,
        "folder": result.folder,
        "tasks": figures(results),
        "artifacts": result.artifacts,
        "limit": tasks.limit,
    }


def evaluation_text(told: dict[str, Any]) -> str:
    """The same for people."""
    head = f"{told['name']} ({told['what']})"
    if "tasks" in told:
        of = f", at most {told['limit']} questions of each" if told["limit"] else ""
        lines = [f"  {name} {value:.4f}" for name, value in told["tasks"].items()]
        return "\n".join(
            [
                f"{head}, by lm-evaluation-harness{of}",
                *lines,
                f"  all of it: {told['folder']}/out/results.json",
            ]
        )
    after, before = told["after"], told["before"]
    count = after.get("samples") or after.get("examples")
    lines = [f"{head}, on {told['data']}: {count} examples, {after['tokens']:,} tokens"]
    if "round" in told:
        lines[0] += f", after round {told['round']} by {told['objective']}"
    for name, label in _MEASURES.items():
        if after.get(name) is not None:
            was = f"{before[name]:.4f} -> " if before is not None and before.get(name) is not None else ""
            lines.append(f"  {label} {was}{after[name]:.4f}")
    return "\n".join(lines)


_MEASURES = {
    "loss": "loss (nats)", "bits_per_byte": "bits per byte", "accuracy": "accuracy",
    "token_accuracy": "next token right",
    "preferred": "better answer preferred", "margin": "margin",
}  # fmt: skip

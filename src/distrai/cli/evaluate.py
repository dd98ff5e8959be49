"""``distrai eval``: how good a model is."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

Flag = Annotated[bool, Parameter(negative=())]


def evaluate(
    what: str,
    /,
    *,
    tasks: str = "",
    task_folder: str = "",
    few_shot: int = -1,
    chat: Flag = False,
    data: str = "",
    limit: int = 0,
    context: int = 0,
    batch: int = 8,
    device: str = "cpu",
    store: str = "",
    out: Path | None = None,
    json: Flag = False,
) -> int:
    """Judge a model: its loss on data that it was not trained on, or what it can do in tasks that others use too.

    Without --tasks and --data a run is judged on its held-out part, before and after, and so is a job. Tasks are those
    of lm-evaluation-harness, which gets an environment of its own the first time (some minutes), and needs their data
    from the hub once.

    Parameters
    ----------
    what
        A run (its folder), a job (id or folder), a model of `distrai models list`, a model's folder, or OWNER/NAME.
    tasks
        Judge by these, like hellaswag,arc_easy,mmlu.
    task_folder
        A folder with tasks of your own in YAML; what code they name is run.
    few_shot
        Solved examples before each question; as the task says, if not given.
    chat
        Put questions into the model's chat template.
    data
        Judge on this instead: a .jsonl or .txt file, a folder that `distrai jobs data --out` made, or hf:OWNER/NAME.
    limit
        At most so many questions of each task, or examples of the data.
    context
        Longest example of --data in tokens; 1024 if not given.
    batch
        Questions at once.
    device
        Of loss on data: cpu, cuda or auto. Tasks use a GPU where there is one.
    store
        Where the model is, if it is not where models are.
    out
        The folder of the job that judges by tasks; one in the user's folder of data if not given.
    json
        Print events as JSON lines, and one object at the end.
    """
    from distrai.jobs.evaluation import Tasks
    from distrai.jobs.text import event_text, printable
    from distrai.runs.display import JsonLines
    from distrai.runs.evaluating import Asked, evaluate, evaluation_text

    named = Tasks(tasks, task_folder, limit, few_shot, batch, chat) if tasks or task_folder else None
    lines = JsonLines(sys.stdout)
    report = lines.report if json else lambda event: print(event_text(event).strip(), file=sys.stderr)
    told = evaluate(Asked(what, named, data, limit, context, device, store, out), report)
    tell(told, printable(evaluation_text(told)), as_json=json)
    return 0

"""``distrai jobs``: fine-tuning scripts with a form in front of them, run and kept."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from distrai.cli.jobs_checking import check, data
from distrai.cli.jobs_looking import list_, logs, show, stop
from distrai.cli.jobs_record import RecordOptions, close
from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

if TYPE_CHECKING:
    from distrai.jobs.evaluation import Tasks
    from distrai.jobs.running.store import Limits

Flag = Annotated[bool, Parameter(negative=())]
Many = Annotated[list[str] | None, Parameter(negative=())]
GRACE_S = 60.0
INTERRUPTED = 130
_GIB = 1 << 30

jobs = App(
    name="jobs", help="Fine-tune and train with scripts: choose a template, change what you like, run it."
)
jobs.command(list_, name="list")
for verb in (check, data, show, logs, stop, close):
    jobs.command(verb)


@Parameter(name="*")
@dataclass(frozen=True)
class LimitOptions:
    """What a job may take."""

    timeout: float = 0.0
    "Seconds after which it is asked to save and stop; 0 for any."
    grace: float = GRACE_S
    "Seconds that it may take to save when it is asked to stop."
    memory: float = 0.0
    "GiB of address space that it may take; 0 for any (scripts that use a GPU reserve a lot)."
    no_sandbox: Flag = False
    "Let the script read all that you can read, where it could be kept from that."
    no_network: Flag = False
    "Keep the script from the network, where that can be done."

    def chosen(self) -> "Limits":
        """As the runner takes them."""
        from distrai.jobs.running.session import limits

        return limits(
            self.timeout,
            self.grace,
            self.memory * _GIB,
            sandbox=not self.no_sandbox,
            network=not self.no_network,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class EvalOptions:
    """What models are judged by before and after a training, beside the held-out part of its data."""

    eval: str = ""
    "Judge before and after by these tasks of lm-evaluation-harness, like hellaswag,mmlu."
    eval_limit: int = 0
    "At most so many questions of each task; 0 for all."
    eval_folder: str = ""
    "A folder with tasks of your own in YAML; what code they name is run."

    def tasks(self) -> "Tasks | None":
        """What was named; None if nothing was. Raises CannotEvaluate."""
        from distrai.jobs.evaluation import CannotEvaluate, Tasks

        if self.eval:
            return Tasks(self.eval, self.eval_folder, self.eval_limit).check()
        if self.eval_limit or self.eval_folder:
            raise CannotEvaluate("--eval-limit and --eval-folder need --eval with names of tasks")
        return None


@jobs.command
def new(source: str, name: str = "", /, *, json: Flag = False) -> int:
    """Make a template of your own from another one, to change with `distrai jobs edit`.

    Parameters
    ----------
    source
        A template (`distrai jobs list --templates`), or a script with a header.
    name
        What to call it; my-SOURCE if not given.
    json
        Print one JSON object.
    """
    from distrai.jobs.forms.library import Library

    template = Library().new(name or f"my-{Path(source).stem}", source)
    told = {"ok": True, "template": template.name, "path": str(template.path), "hash": template.hash}
    tell(
        told,
        f"{template.name} is in {template.path}: change it with `distrai jobs edit {template.name}`",
        as_json=json,
    )
    return 0


@jobs.command
def edit(template: str, /, *, save: Flag = False, json: Flag = False) -> int:
    """Change a template of your own in $EDITOR; every version is kept and known by its hash.

    Parameters
    ----------
    template
        The template.
    save
        Start no editor: take the file as it is now as a new version.
    json
        Print one JSON object.
    """
    from distrai.jobs.forms.editing import edit_template, save_template
    from distrai.jobs.forms.library import Library

    told = save_template(Library(), template) if save else edit_template(Library(), template)
    is_new = "is now" if told["changed"] else "is unchanged, or as it was once:"
    tell(told, f"{told['diff']}{template} {is_new} version {told['hash']}", as_json=json)
    return 0


@jobs.command
def run(
    template: str = "",
    /,
    *,
    preset: str = "",
    set: Many = None,  # noqa: A002  # what users type
    out: Path | None = None,
    command: str = "",
    env: Many = None,
    accept: str = "",
    judged: EvalOptions | None = None,
    limits: LimitOptions | None = None,
    record: RecordOptions | None = None,
    wallet: AnyWallet | None = None,
    json: Flag = False,
) -> int:
    """Run a template, a script or a command as a job; on a job that is there it goes on with that.

    Ctrl-C asks the script to save and stop; a second Ctrl-C ends it at once. If this command is killed the script goes
    on, and the same command finds it again.

    Parameters
    ----------
    template
        A template, a script with a header, or a job (its id or folder) to go on with.
    preset
        The values of a preset of the template, like smoke.
    set
        A value, like learning_rate=2e-4; may be given several times.
    out
        The job's folder; one in the user's folder of data if not given.
    command
        Instead of a template: what to run, like 'python train.py'; no shell reads it. It writes into $DISTRAI_OUT.
    env
        The name of a variable to hand to the script, which gets few of them otherwise; never its value.
    accept
        The SHA-256 of a script that you have looked at and want to run.
    json
        Print events as JSON lines and the result as one object at the end, as is done anyway without a terminal.
    """
    from rich.console import Console

    from distrai.jobs.display import JobDisplay
    from distrai.jobs.evaluation import judged_by
    from distrai.jobs.forms.library import Library
    from distrai.jobs.running.runner import JobRun
    from distrai.jobs.running.session import Asked, choose_job
    from distrai.jobs.text import result_text
    from distrai.runs.display import JsonLines

    asked = Asked(
        template, command, preset, set or (), out, (limits or LimitOptions()).chosen(), env or (), accept
    )
    tasks = (judged or EvalOptions()).tasks()
    confirm = _confirm if sys.stdin.isatty() and not json else None
    recorded = (record or RecordOptions()).recording(wallet)  # a wrong token is found before anything is made
    job = choose_job(asked, Library(), confirm, Path.cwd())
    console = Console()
    lines = json or not console.is_terminal
    with JsonLines(sys.stdout) if lines else JobDisplay(console) as display:
        try:
            result = JobRun(job, display.report, witness=judged_by(job, tasks, recorded)).run()
        except (ValueError, OSError) as error:
            if lines and not json:  # with --json the end of the program tells it
                tell({"ok": False, "error": type(error).__name__, "why": str(error)}, "", as_json=True)
            raise
        told = {"ok": result.status == "done", **result.to_json()}
    tell(told, result_text(told), as_json=lines)
    return {"done": 0, "stopped": INTERRUPTED}.get(told["status"], 1)


def _confirm(text: str) -> bool:
    from distrai.jobs.text import printable

    print(printable(text))
    return input("Run it? (yes or no) ").strip().lower() in {"y", "yes"}

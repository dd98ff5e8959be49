# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "datasets>=4.8,<6", "accelerate>=1.13", "lm_eval>=0.4.13,<0.5",
# ]
# [tool.distrai]
# title = "Evaluation: what a model can do, by tasks of lm-evaluation-harness (hellaswag, mmlu, arc_easy, ...)"
# kind = "evaluate"
# [tool.distrai.parameters]
# model = {type = "path", help = "the model to judge: a folder, or a name on the hub"}
# tasks = {type = "str", help = "names of tasks or groups of them, with commas between"}
# task_folder = {type = "path", default = "", help = "a folder with tasks of your own (YAML); their code is run"}
# limit = {type = "int", default = 0, min = 0, help = "at most so many questions of each task; 0: all"}
# few_shot = {type = "int", default = -1, min = -1, max = 64, help = "solved examples first; -1: as the task says"}
# batch = {type = "int", default = 8, min = 1, help = "questions at once"}
# chat = {type = "bool", default = false, help = "put questions into the chat template of the model"}
# seed = {type = "int", default = 1234, min = 0, max = 4294967295, help = "of the choice of solved examples"}
# [tool.distrai.presets]
# smoke = {limit = 15}
# ///
"""Evaluation: a model answers the questions of tasks, one task after the other; ``results.json`` has all of it."""

import difflib
import json
import math
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

DATA_PACKAGES = ("datasets", "huggingface_hub", "httpx", "httpx2", "fsspec")
RUNS_CODE = ("humaneval", "mbpp", "cruxeval", "longproc_pseudo_to_code")
"""Families of tasks that run what a model writes; not all of them say so."""


def main() -> None:
    """Judge by every task that an earlier attempt did not come to."""
    p, file = job.params(), job.out() / "results.json"
    job.status("looking for the tasks")
    tasks = TaskManager(include_path=p["task_folder"] or None)
    names = find_tasks(p["tasks"], tasks)
    refuse_code(names, tasks)
    done = read_results(file)
    todo = [name for name in names if name not in done["asked"]]
    model = load_model(p) if todo else None
    for number, name in enumerate(todo, len(names) - len(todo)):
        if job.should_stop():
            return
        job.status(f"judging by {name}")
        add(done, name, evaluated(model, name, tasks, p))
        part = file.with_suffix(".part")
        part.write_text(json.dumps(done, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(file)
        job.metric(figures(done), step=number + 1, total=len(names))
    job.metric(figures(done))
    job.artifact("results.json", kind="report")


def find_tasks(asked: str, tasks: TaskManager) -> list[str]:
    """The names that were asked for, each once; ends where one means nothing."""
    names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    if not names:
        raise SystemExit("no task is named: give for instance tasks=hellaswag,arc_easy")
    known = set(tasks.all_tasks)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = (
                f"did you mean {', '.join(near)}?"
                if near
                else "lm-evaluation-harness lists all that there are"
            )
            raise SystemExit(f"there is no task {name!r} among {len(known)}: {hint}")
    return names


def refuse_code(names: list[str], tasks: TaskManager) -> None:
    """End if a task would run what the model writes. Nothing of the task is imported to see that."""
    for name in names:
        for part in parts_of(name, tasks):
            config = getattr(tasks.task_index.get(part), "cfg", None) or {}
            if part.startswith(RUNS_CODE) or config.get("unsafe_code"):
                of = "" if part == name else f" of {name}"
                raise SystemExit(
                    f"the task {part}{of} runs code that the model writes, which is not done here: leave it out"
                )


def parts_of(name: str, tasks: TaskManager, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """A task itself and, of a group or tag, everything in it."""
    yield name
    entry = tasks.task_index.get(name)
    inner = (getattr(entry, "cfg", None) or {}).get("task")
    children = [
        str(item.get("task") or item.get("group")) if isinstance(item, dict) else str(item)
        for item in (inner if isinstance(inner, list) else [])
    ]
    children += [other for other, it in tasks.task_index.items() if name in it.tags]
    for child in children:
        if child not in seen and child != name:
            yield from parts_of(child, tasks, (*seen, name))


def load_model(p: dict[str, Any]) -> HFLM:
    """The model, from safetensors only, and never with code of its own."""
    job.status("loading the model")
    on_gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(p["model"], trust_remote_code=False)
    more = {}
    if (
        tokenizer.bos_token_id is None and tokenizer.eos_token_id is None
    ):  # a text begins after an empty line then
        more["prefix_token_id"] = tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    return HFLM(
        pretrained=p["model"],
        device="cuda" if on_gpu else "cpu",
        dtype="auto" if on_gpu else "float32",
        batch_size=p["batch"],
        trust_remote_code=False,
        use_safetensors=True,
        **more,
    )


def evaluated(model: Any, name: str, tasks: TaskManager, p: dict[str, Any]) -> dict[str, Any]:
    """What the harness says of a task; ends in one sentence where its data cannot be had."""
    try:
        found = simple_evaluate(
            model=model,
            tasks=[name],
            task_manager=tasks,
            limit=p["limit"] or None,
            num_fewshot=None if p["few_shot"] < 0 else p["few_shot"],
            apply_chat_template=p["chat"],
            fewshot_random_seed=p["seed"],
            bootstrap_iters=1000,
            log_samples=False,
            confirm_run_unsafe_code=False,
        )
    except Exception as error:
        if not is_of_data(error):
            raise
        why = " ".join((str(error) or type(error).__name__).split())[:200]
        hint = (
            "the hub is switched off here (HF_HUB_OFFLINE)"
            if os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True")
            else "it needs the network once, then it is in the cache"
        )
        raise SystemExit(f"the data of the task {name} cannot be reached: {hint}: {why}") from None
    return dict(found or {})


def is_of_data(error: BaseException) -> bool:
    """Whether an error comes from fetching or reading a data set, and not from the model or the task."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in DATA_PACKAGES:
            return True
        trace = trace.tb_next
    return error.__cause__ is not None and is_of_data(error.__cause__)


def read_results(file: Path) -> dict[str, Any]:
    """What an earlier attempt came to."""
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    p = job.params()
    settings = {key: p[key] for key in ("limit", "few_shot", "chat", "seed")}
    return {
        "harness": version("lm_eval"),
        "asked": [],
        "tasks": {},
        "versions": {},
        "samples": {},
        **settings,
    }


def add(done: dict[str, Any], name: str, found: dict[str, Any]) -> None:
    """Take the figures of a task, or of a group and everything in it."""
    for task, told in found.get("results", {}).items():
        numbers = {key: value for key, value in told.items() if isinstance(value, int | float)}
        done["tasks"][task] = {
            key.removesuffix(",none").replace(",", "_"): float(value)
            for key, value in numbers.items()
            if "," in key and math.isfinite(value)
        }
    done["versions"] |= {task: str(value) for task, value in found.get("versions", {}).items()}
    done["samples"] |= {task: told["effective"] for task, told in found.get("n-samples", {}).items()}
    done["asked"].append(name)


def figures(done: dict[str, Any]) -> dict[str, float]:
    """The figures of what was asked for, by task and measure; of a group not those of its parts."""
    return {
        f"{task}_{key}": value
        for task in done["asked"]
        for key, value in done["tasks"].get(task, {}).items()
        if "stderr" not in key
    }


if __name__ == "__main__":
    main()

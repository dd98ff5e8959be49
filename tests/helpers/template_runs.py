"""Shipped templates run on toy models, and what must be true of the models that they make."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.forms.library import shipped
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.runner import JobResult, JobRun
from distrai.jobs.running.store import JobFolder, Limits
from helpers.toy_models import chats, make_toy_model, preferences, write_jsonl, write_prose

TEMPLATES = {template.name: template for template in shipped()}
PICKLES = {".bin", ".pt", ".pth", ".pkl"}


@dataclass(frozen=True)
class Toys:
    """Models and data, by their paths."""

    model: str
    teacher: str
    chats: str
    preferences: str
    prose: str

    @classmethod
    def make(cls, folder: Path) -> "Toys":
        """Make them; the teacher is larger, and surer of what it says than random parameters are."""
        return cls(
            model=str(make_toy_model(folder / "model")),
            teacher=str(make_toy_model(folder / "teacher", hidden=256, layers=3, seed=1, spread=0.1)),
            chats=str(write_jsonl(folder / "chats.jsonl", chats(100))),
            preferences=str(write_jsonl(folder / "preferences.jsonl", preferences(100))),
            prose=str(write_prose(folder / "prose.txt", 300)),
        )


@dataclass
class Ran:
    """A job that was run to its end."""

    job: JobFolder
    result: JobResult
    events: list[dict[str, Any]]

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each that is a number."""
        return {name: value for name, value in self.result.metrics.items() if value is not None}

    @property
    def log(self) -> str:
        """What the script printed."""
        return self.job.log.read_text()


def smoke_run(
    name: str,
    folder: Path,
    values: dict[str, Any],
    watch: Callable[[JobFolder, dict[str, Any]], None] | None = None,
    beside: dict[str, str] | None = None,
) -> Ran:
    """Run the smoke preset of a template with these values, or go on with the job in the folder.

    ``beside``: files that are put beside the script.
    """
    wanted = Wanted.of_template(TEMPLATES[name], "smoke", values, folder.parent, Limits(timeout_s=240), [])
    job = create(wanted, folder)
    for file, text in (beside or {}).items():
        (job.script / file).write_text(text)
    events: list[dict[str, Any]] = []

    def report(event: dict[str, Any]) -> None:
        events.append(event)
        if watch is not None:
            watch(job, event)

    return Ran(job, JobRun(job, report, look_s=0.02).run(), events)


def check_model(ran: Ran) -> None:
    """The job is done, and its model is whole: safetensors, no pickle, loaded without peft."""
    from transformers import AutoModelForCausalLM

    assert ran.result.status == "done", f"{ran.result.why}\n{ran.log[-3000:]}"
    paths = [Path(item["path"]) for item in ran.result.artifacts]
    assert {Path("model") / name for name in ("model.safetensors", "config.json", "tokenizer.json")} <= set(
        paths
    )
    assert not {path.suffix for path in paths} & PICKLES
    model = AutoModelForCausalLM.from_pretrained(ran.result.model_path)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert ran.metrics["eval_loss_after"] != ran.metrics["eval_loss_before"]


def gained(ran: Ran) -> float:
    """By how much the held-out loss fell."""
    return ran.metrics["eval_loss_before"] - ran.metrics["eval_loss_after"]


def writes(folder: str) -> str:
    """What the model answers to a question, with plain transformers."""
    model, tokenizer = _load(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Where is Ada?"}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(asked, return_tensors="pt", add_special_tokens=False)["input_ids"]
    made = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    assert made.shape[1] > ids.shape[1]
    return str(tokenizer.decode(made[0, ids.shape[1] :]))


def answer_loss(folder: str, rows: list[dict[str, Any]]) -> float:
    """Nats per token of the answers."""
    import torch

    model, tokenizer = _load(folder)
    lost, count = [], 0
    for row in rows:
        whole, start = (
            _ids(tokenizer, row["messages"]),
            _ids(tokenizer, row["messages"][:-1], ask=True).shape[1],
        )
        with torch.inference_mode():
            logits = model(whole).logits[0, start - 1 : -1]
        lost.append(torch.nn.functional.cross_entropy(logits, whole[0, start:], reduction="sum").item())
        count += whole.shape[1] - start
    return math.fsum(lost) / count


def preference(folder: str) -> float:
    """By how many nats per token the better answers are likelier than the worse ones, on pairs that it did not see."""
    rows = preferences(8, seed=99)
    better, worse = (
        answer_loss(folder, [{"messages": row["input"]["messages"] + row[key]} for row in rows])
        for key in ("preferred_output", "non_preferred_output")
    )
    return worse - better


def distance(teacher: str, student: str) -> float:
    """KL of teacher to student in nats per token, on conversations that neither saw."""
    import torch

    (first, tokenizer), (second, _) = _load(teacher), _load(student)
    found = []
    for row in chats(8, seed=99):
        ids = _ids(tokenizer, row["messages"])
        with torch.inference_mode():
            theirs, ours = (model(ids).logits[0].log_softmax(-1) for model in (first, second))
        found.append((theirs.exp() * (theirs - ours)).sum(-1).mean().item())
    return math.fsum(found) / len(found)


def says(folder: str, answer: str) -> float:
    """How likely a model gives just this answer, in the (geometric) mean over questions that it did not see."""
    asked = [row["messages"][:-1] for row in chats(8, seed=99)]
    rows = [{"messages": [*messages, {"role": "assistant", "content": answer}]} for messages in asked]
    return math.exp(
        -answer_loss(folder, rows) * (len(answer) + 2)
    )  # its bytes, its end, and the line after it


def rewards_right(folder: str, pairs: list[dict[str, Any]]) -> bool:
    """Whether a reward model likes the better answers better, on pairs that it did not see."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    for row in pairs:
        with torch.inference_mode():
            better, worse = (
                model(_ids(tokenizer, row["input"]["messages"] + row[key])).logits.item()
                for key in ("preferred_output", "non_preferred_output")
            )
        if better <= worse:
            return False
    return True


def check_merge(base: Path, adapter: Path, merged: Path) -> None:
    """The merged parameters are those of the **unquantised** base and the adapter's, to the last bits of fp32."""
    import json

    import torch
    from safetensors.torch import load_file

    old, new = (load_file(folder / "model.safetensors") for folder in (base, merged))
    lora = load_file(adapter / "adapter_model.safetensors")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert old.keys() == new.keys()
    changed = 0
    for name, weight in old.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        expected = weight
        if f"{key}A.weight" in lora:
            down, up = lora[f"{key}A.weight"].float(), lora[f"{key}B.weight"].float()
            expected = weight + settings["lora_alpha"] / settings["r"] * (up @ down)
            changed += not torch.equal(weight, new[name])
        torch.testing.assert_close(new[name], expected, rtol=1e-5, atol=1e-6)
    assert changed == 2 * 7, "seven linear layers in each of two blocks"


def _load(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def _ids(tokenizer: Any, messages: list[dict[str, str]], *, ask: bool = False) -> Any:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=ask, tokenize=False)
    return tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]

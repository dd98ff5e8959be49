# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Distillation by texts: a small model learns from answers that a large one writes (any tokenizer)"
# kind = "distill-sft"
# [tool.distrai.parameters]
# student = {type = "path", help = "the model that learns: a folder, or a name on the hub"}
# teacher = {type = "path", help = "the model that it learns from; any tokenizer"}
# teacher_4bit = {type = "bool", default = false, help = "load the teacher in 4 bits: less memory"}
# data = {type = "path", help = "questions: JSONL with `messages`, a last answer is left out; or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many questions; 0: all"}
# samples = {type = "int", default = 1, min = 1, max = 64, help = "answers of the teacher for each question"}
# answer_tokens = {type = "int", default = 512, min = 1, help = "longest answer of the teacher"}
# temperature = {type = "float", default = 0.7, min = 0.01, max = 5, help = "how freely the teacher writes"}
# finished_only = {type = "bool", default = true, help = "learn only from answers that ended by themselves"}
# learning_rate = {type = "float", default = 2e-5, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "conversations at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 2048, min = 8, help = "longest conversation in tokens; the rest is cut off"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many questions for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets.smoke]
# max_steps = 15
# batch = 2
# accumulate = 1
# held_out_max = 8
# examples_max = 40
# answer_tokens = 16
# finished_only = false
# ///
"""Distillation by texts: a teacher answers questions, and all parameters of a student are trained on what it wrote.

The answers are conversations again: ``answers.jsonl`` may be the data of sft-qlora, for a student with an adapter.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distrai_job as job
import distrai_training as training
import torch
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Let the teacher write, then judge, train, judge again, save."""
    p = job.params()
    set_seed(p["seed"])
    files = {part: job.out() / f"{part}_answers.jsonl" for part in ("train", "heldout")}
    write_answers(p, files)
    if job.should_stop():
        return
    job.artifact(files["train"].name, kind="data")
    job.status("loading the student")
    tokenizer = training.load_tokenizer(p["student"])
    trainer = SFTTrainer(
        training.load_model(p["student"], "full"),
        args=SFTConfig(**training.settings(p, max_length=p["context"])),
        train_dataset=read_answers(files["train"]),
        eval_dataset=read_answers(files["heldout"]),
        processing_class=tokenizer,
        callbacks=[job.callback()],
    )
    training.train(trainer, lambda: training.eval_loss(trainer))
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["student"])


def write_answers(p: dict[str, Any], files: dict[str, Path]) -> None:
    """The teacher's answers to the questions of both parts, unless an earlier attempt wrote them."""
    if all(file.exists() for file in files.values()):
        return
    job.status("the teacher writes answers")
    teacher = Teacher(p)
    for part, file in files.items():
        rows = job.rows(part, p["held_out_max"] if part == "heldout" else 0)
        teacher.answer([question(row) for row in rows], file)


def question(row: dict[str, Any]) -> list[dict[str, str]]:
    """The messages of a line up to the last answer."""
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


class Teacher:
    """The model that writes what the student learns from."""

    def __init__(self, p: dict[str, Any]) -> None:
        device = torch.device("cuda" if training.ON_GPU else "cpu")
        self._p = p
        self._tokenizer = training.load_tokenizer(p["teacher"], padding_side="left")
        self._model = training.load_frozen(p["teacher"], in_four_bits=p["teacher_4bit"], device=device)
        ends = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        self._ends = torch.tensor(ends, device=device)

    def answer(self, questions: list[Any], file: Path) -> None:
        """Write the answers to a file, which appears when it is whole; what an earlier attempt wrote is kept."""
        if file.exists():
            return
        part, size = file.with_suffix(".part"), self._p["batch"]
        begin = whole_batches(part, size)
        with part.open("a", encoding="utf-8") as lines:
            for at in range(begin, len(questions), size):
                if job.should_stop():
                    return
                set_seed(self._p["seed"] + at)  # the same answers, whatever was cut off before
                rows = self._answered(questions[at : at + size], at)
                lines.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
                lines.flush()
                job.metric(answered=at, step=at, total=len(questions))
        part.rename(file)

    def _answered(self, prompts: list[Any], first: int) -> Iterator[dict[str, Any]]:
        p, tokenizer = self._p, self._tokenizer
        texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        asked = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        asked = {name: asked[name].to(self._model.device) for name in ("input_ids", "attention_mask")}
        written = self._model.generate(
            **asked,
            do_sample=True,
            temperature=p["temperature"],
            max_new_tokens=p["answer_tokens"],
            num_return_sequences=p["samples"],
            pad_token_id=tokenizer.pad_token_id,
        )[:, asked["input_ids"].shape[1] :]
        for number, ids in enumerate(written):
            ended = bool(torch.isin(ids, self._ends).any())
            text = tokenizer.decode(ids, skip_special_tokens=True).strip()
            if text and (ended or not p["finished_only"]):
                which = number // p["samples"]
                messages = [*prompts[which], {"role": "assistant", "content": text}]
                yield {"question": first + which, "messages": messages}


def whole_batches(part: Path, size: int) -> int:
    """Where to go on with a file that an earlier attempt began: the batch that it wrote last is asked again."""
    whole = part.read_bytes().rpartition(b"\n")[0].splitlines() if part.exists() else []
    if not whole:
        return 0
    begin = int(json.loads(whole[-1])["question"]) // size * size
    kept = [line for line in whole if json.loads(line)["question"] < begin]
    part.write_bytes(b"".join(line + b"\n" for line in kept))
    return begin


def read_answers(file: Path) -> Dataset:
    """What the teacher wrote."""
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line)["messages"] for line in lines]
    if not rows:
        raise SystemExit(
            "no answer of the teacher can be used: allow more answer_tokens, or say finished_only=false"
        )
    return Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])


if __name__ == "__main__":
    main()

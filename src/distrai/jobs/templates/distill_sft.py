# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Distillation by texts: a small model learns from answers that a large one writes (any tokenizer)"
# kind = "distill-sft"
# [tool.distrai.parameters]
# student = {type = "path", help = "the model that learns: a folder, or a name on the hub"}
# teacher = {type = "path", help = "the model that it learns from; any tokenizer"}
# teacher_4bit = {type = "bool", default = false, help = "load the teacher in 4 bits: less memory"}
# data = {type = "path", help = "questions: JSONL with `messages`, a last answer is left out; or a data set's name"}
# questions_max = {type = "int", default = 0, min = 0, help = "at most so many questions; 0: all"}
# samples = {type = "int", default = 1, min = 1, max = 64, help = "answers of the teacher for each question"}
# answer_tokens = {type = "int", default = 512, min = 1, help = "longest answer of the teacher"}
# temperature = {type = "float", default = 0.7, min = 0.01, max = 5, help = "how freely the teacher writes"}
# finished_only = {type = "bool", default = true, help = "learn only from answers that ended by themselves"}
# learning_rate = {type = "float", default = 2e-5, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "conversations at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 2048, min = 8, help = "longest conversation in tokens; the rest is cut"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many questions for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets.smoke]
# max_steps = 15
# batch = 2
# accumulate = 1
# held_out_max = 8
# questions_max = 64
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
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()


def main() -> None:
    """Let the teacher write, then judge, train, judge again, save."""
    p = job.params()
    out = job.out()
    set_seed(p["seed"])
    job.status("reading the data")
    train, held_out = read_data(p)
    parts = [train.select(range(min(len(train), p["questions_max"] or len(train)))), held_out]
    files = [out / "answers.jsonl", out / "held_out_answers.jsonl"]
    if not all(file.exists() for file in files):
        job.status("the teacher writes answers")
        teacher = Teacher(p)
        for part, file in zip(parts, files, strict=True):
            teacher.answer(part, file)
        del teacher
    if job.should_stop():
        return
    job.artifact("answers.jsonl", kind="data")
    train, held_out = map(read_answers, files)
    job.status("loading the student")
    tokenizer = AutoTokenizer.from_pretrained(p["student"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(p["student"], dtype=torch.float32),
        args=SFTConfig(max_length=p["context"], **settings(p, out)),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        callbacks=[job.callback()],
    )
    job.status("judging the student before training")
    before = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_before=before)
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the student after training")
    after = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_after=after, held_out_loss_gained=before - after)
    job.status("saving the model")
    trainer.model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


class Teacher:
    """The model that writes what the student learns from."""

    def __init__(self, p: dict[str, Any]) -> None:
        self._p = p
        self._tokenizer = AutoTokenizer.from_pretrained(p["teacher"], padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._model = load_teacher(p, torch.device("cuda" if ON_GPU else "cpu"))
        ends = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        self._ends = torch.tensor(ends, device=self._model.device)

    def answer(self, questions: Dataset, file: Path) -> None:
        """Write the answers to a file, which appears when it is whole; what an earlier attempt wrote is kept."""
        if file.exists():
            return
        part, size = file.with_suffix(".part"), self._p["batch"]
        begin = next_question(part)
        with part.open("a", encoding="utf-8") as lines:
            for at in range(begin, len(questions), size):
                if job.should_stop():
                    return
                rows = self._answered(questions[at : at + size]["prompt"], at)
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


def next_question(part: Path) -> int:
    """Where to go on with a file that an earlier attempt began; a line that it did not end is cut off."""
    whole = part.read_bytes().rpartition(b"\n")[0] if part.exists() else b""
    if not whole:
        return 0
    part.write_bytes(whole + b"\n")
    return 1 + int(json.loads(whole.rpartition(b"\n")[2])["question"])


def read_answers(file: Path) -> Dataset:
    """What the teacher wrote."""
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line)["messages"] for line in lines]
    if not rows:
        raise SystemExit(
            "no answer of the teacher can be used: allow more answer_tokens, or say finished_only=false"
        )
    return Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])


def read_data(p: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The questions to train on, and those only for judging; a folder of prepared data has a file of each."""
    path = Path(p["data"])
    if (path / "heldout.jsonl").is_file():
        train, judged = read_file(path / "train.jsonl"), read_file(path / "heldout.jsonl")
    else:
        if path.is_file():
            data = read_file(path)
        else:
            data = load_dataset(p["data"].removeprefix("hf:"), split="train")
            data = data.map(example, remove_columns=data.column_names)
        size = min(p["held_out_max"], max(1, round(len(data) * p["held_out"])))
        train, judged = data.train_test_split(test_size=size, seed=p["seed"]).values()
    if not len(judged):
        raise SystemExit(f"{p['data']} has nothing that is only for judging: hold a part out")
    return train, judged.select(range(min(len(judged), p["held_out_max"])))


def read_file(path: Path) -> Dataset:
    """The lines of a file as the trainer wants them."""
    with path.open(encoding="utf-8") as lines:
        return Dataset.from_list([example(json.loads(line)) for line in lines if line.strip()])


def example(row: dict[str, Any]) -> dict[str, Any]:
    """The question of a line: its messages up to the last answer."""
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    return {"prompt": messages[:-1] if messages[-1]["role"] == "assistant" else messages}


def load_teacher(p: dict[str, Any], device: torch.device) -> Any:
    """The model to learn from, which does not change; in 4 bits if asked for."""
    dtype = torch.bfloat16 if BF16 else torch.float32
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    more = {"quantization_config": four_bits} if p["teacher_4bit"] else {}
    teacher = AutoModelForCausalLM.from_pretrained(p["teacher"], dtype=dtype, device_map=device, **more)
    return teacher.eval().requires_grad_(False)


def settings(p: dict[str, Any], out: Path) -> dict[str, Any]:
    """How the trainer works."""
    return {
        "output_dir": str(out / "checkpoints"),
        "learning_rate": p["learning_rate"],
        "num_train_epochs": p["epochs"],
        "max_steps": p["max_steps"] or -1,
        "per_device_train_batch_size": p["batch"],
        "per_device_eval_batch_size": p["batch"],
        "gradient_accumulation_steps": p["accumulate"],
        "gradient_checkpointing": ON_GPU,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,  # part of all steps
        "logging_steps": 5,
        "save_steps": p["save_steps"],
        "save_total_limit": 1,
        "seed": p["seed"],
        "use_cpu": not ON_GPU,
        "bf16": BF16,
        "disable_tqdm": True,
    }


def newest_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of an attempt that was cut off: the trainer's state is written last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


if __name__ == "__main__":
    main()

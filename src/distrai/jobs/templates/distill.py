# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Distillation: a small model learns the probabilities of a large one (same tokenizer)"
# kind = "distill"
# [tool.distrai.parameters]
# student = {type = "path", help = "the model that learns: a folder, or a name on the hub"}
# teacher = {type = "path", help = "the model that it learns from, with the same tokenizer"}
# teacher_4bit = {type = "bool", default = false, help = "load the teacher in 4 bits: less memory"}
# data = {type = "path", help = "JSONL with `messages` (or `text`) in each line; or a data set's name"}
# share = {type = "float", default = 0.5, min = 0, max = 1, help = "weight of the teacher; the rest is the data itself"}
# temperature = {type = "float", default = 2.0, min = 0.1, max = 100, help = "higher: more of the unlikely tokens"}
# method = {type = "str", default = "full", choices = ["full", "lora"], help = "full: all parameters of the student"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# learning_rate = {type = "float", default = 5e-5, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "conversations at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 1024, min = 8, help = "longest conversation in tokens; the rest is cut"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many conversations for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 2, accumulate = 1, held_out_max = 16}
# ///
"""Distillation: a student learns to give every token the probability that its teacher gives it."""

import json
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    out = job.out()
    job.status("reading the data")
    train, held_out = read_data(p)
    job.status("loading the models")
    tokenizer = AutoTokenizer.from_pretrained(p["student"])
    check_tokenizers(tokenizer, AutoTokenizer.from_pretrained(p["teacher"]))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = Distiller(
        load_student(p),
        args=SFTConfig(max_length=p["context"], **settings(p, out)),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if p["method"] == "full" else adapter(p),
        callbacks=[job.callback()],
    )
    trainer.learn_from(load_teacher(p, trainer.args.device), p["share"], p["temperature"])
    job.status("judging the student before training")
    before = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_before=before)
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the student after training")
    after = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_after=after, held_out_loss_gained=before - after)
    job.status("saving the model")
    save(trainer.model, tokenizer, p, out)


class Distiller(SFTTrainer):
    """A trainer whose loss is partly the distance (KL) to what a teacher predicts. It judges by the data alone."""

    def learn_from(self, teacher: Any, share: float, temperature: float) -> None:
        """Name the teacher."""
        self.teacher, self.share, self.temperature = teacher, share, temperature

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over tokens that count, of this batch or of all that make one step."""
        labels = inputs["labels"][:, 1:]
        counts = labels != -100
        given = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        outputs = model(**given, use_cache=False)
        student = outputs.logits[:, :-1][counts].float()
        tokens = counts.sum() if num_items_in_batch is None else num_items_in_batch
        loss = functional.cross_entropy(student, labels[counts], reduction="sum")
        if model.training and self.share:
            with torch.no_grad():
                teacher = self.teacher(**given, use_cache=False).logits[:, :-1][counts].float()
            loss = (1 - self.share) * loss + self.share * self._distance(student, teacher)
        loss = loss / tokens
        return (loss, outputs) if return_outputs else loss

    def _distance(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """KL of teacher to student. Models of one family may differ in how many unused tokens they have."""
        size = min(student.shape[-1], teacher.shape[-1])
        ours = functional.log_softmax(student[:, :size] / self.temperature, dim=-1)
        theirs = functional.log_softmax(teacher[:, :size] / self.temperature, dim=-1)
        return functional.kl_div(ours, theirs, reduction="sum", log_target=True) * self.temperature**2


def check_tokenizers(student: Any, teacher: Any) -> None:
    """End with a clear sentence where the two models do not mean the same by a token."""
    if student.get_vocab() != teacher.get_vocab():
        raise SystemExit(
            "student and teacher have different tokenizers: take two models of one family, "
            "or the template distill-sft, where the student learns from the teacher's texts"
        )


def read_data(p: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The conversations to train on, and those only for judging; a folder of prepared data has a file of each."""
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
    """A line of the data as the trainer wants it: a prompt and its completion, or one text."""
    if row.get("text"):
        return {"text": row["text"]}
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def load_student(p: dict[str, Any]) -> Any:
    """The model to train: in fp32 if all parameters change."""
    dtype = torch.bfloat16 if BF16 and p["method"] == "lora" else torch.float32
    return AutoModelForCausalLM.from_pretrained(p["student"], dtype=dtype)


def load_teacher(p: dict[str, Any], device: torch.device) -> Any:
    """The model to learn from, which does not change; in 4 bits if asked for."""
    dtype = torch.bfloat16 if BF16 else torch.float32
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    more = {"quantization_config": four_bits} if p["teacher_4bit"] else {}
    teacher = AutoModelForCausalLM.from_pretrained(p["teacher"], dtype=dtype, device_map=device, **more)
    return teacher.eval().requires_grad_(False)


def adapter(p: dict[str, Any]) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=p["lora_rank"],
        lora_alpha=p["lora_alpha"],
    )


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


def save(model: Any, tokenizer: Any, p: dict[str, Any], out: Path) -> None:
    """Save the adapter, and the model with the adapter merged into its **unquantised** base."""
    if p["method"] != "full":
        model.save_pretrained(out / "adapter")
        job.artifact("adapter", kind="adapter")
        base = AutoModelForCausalLM.from_pretrained(p["student"], dtype="auto")
        model = PeftModel.from_pretrained(base, out / "adapter").merge_and_unload()
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


if __name__ == "__main__":
    main()

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Supervised fine-tuning with Unsloth (faster on one GPU), or with plain peft where it is not there"
# kind = "sft"
# [tool.distrai.parameters]
# model = {type = "path", help = "the model to start from: a folder, or a name on the hub"}
# data = {type = "path", help = "JSONL with `messages` (or `text`) in each line; or a data set's name"}
# engine = {type = "str", default = "auto", choices = ["auto", "unsloth", "peft"], help = "auto: unsloth if it works"}
# loss_on = {type = "str", default = "last_reply", choices = ["last_reply", "all"], help = "what it learns to write"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# learning_rate = {type = "float", default = 2e-4, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "conversations at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 1024, min = 8, help = "longest conversation in tokens; the rest is cut off"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many conversations for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of the order of data and the first adapter"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 2, accumulate = 1, held_out_max = 16}
# ///
"""Supervised fine-tuning in 4 bits with Unsloth, which needs a GPU; else with peft, and the log says why.

Unsloth is not among the packages above: parts of it have other licences (LGPL, AGPL), and it wants other versions.
To use it, copy this template, add "unsloth" to its dependencies and `constraints = false` to [tool.distrai].
"""

import json
from pathlib import Path
from typing import Any

import distrai_job as job

try:  # first of all: it changes the libraries below; without a GPU it cannot even be imported
    if job.params()["engine"] == "peft":
        raise ImportError("peft was asked for")
    from unsloth import FastLanguageModel

    WHY_NOT = ""
except Exception as error:  # noqa: BLE001  # whatever keeps it from working, peft does the same
    WHY_NOT = f"{type(error).__name__}: {error}"

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    out = job.out()
    if WHY_NOT and p["engine"] == "unsloth":
        raise SystemExit(f"unsloth does not work here ({WHY_NOT}): say engine=auto to take peft then")
    job.log(f"engine: peft, since unsloth does not work here ({WHY_NOT})" if WHY_NOT else "engine: unsloth")
    job.status("reading the data")
    train, held_out = read_data(p)
    job.status("loading the model")
    model, tokenizer = load_with_peft(p) if WHY_NOT else load_with_unsloth(p)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = SFTTrainer(
        model,
        args=SFTConfig(max_length=p["context"], **settings(p, out)),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapter(p) if WHY_NOT else None,
        callbacks=[job.callback()],
    )
    job.status("judging the model before training")
    before = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_before=before)
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the model after training")
    after = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_after=after, held_out_loss_gained=before - after)
    job.status("saving the model")
    save(trainer.model, tokenizer, p, out)


def read_data(p: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The conversations to train on, and those only for judging; a folder of prepared data has a file of each."""
    path = Path(p["data"])
    if (path / "heldout.jsonl").is_file():
        train, judged = (
            read_file(path / "train.jsonl", p["loss_on"]),
            read_file(path / "heldout.jsonl", p["loss_on"]),
        )
    else:
        if path.is_file():
            data = read_file(path, p["loss_on"])
        else:
            data = load_dataset(p["data"].removeprefix("hf:"), split="train")
            data = data.map(lambda row: example(row, p["loss_on"]), remove_columns=data.column_names)
        size = min(p["held_out_max"], max(1, round(len(data) * p["held_out"])))
        train, judged = data.train_test_split(test_size=size, seed=p["seed"]).values()
    if not len(judged):
        raise SystemExit(f"{p['data']} has nothing that is only for judging: hold a part out")
    return train, judged.select(range(min(len(judged), p["held_out_max"])))


def read_file(path: Path, loss_on: str) -> Dataset:
    """The lines of a file as the trainer wants them."""
    with path.open(encoding="utf-8") as lines:
        return Dataset.from_list([example(json.loads(line), loss_on) for line in lines if line.strip()])


def example(row: dict[str, Any], loss_on: str) -> dict[str, Any]:
    """A line of the data as the trainer wants it: a prompt and its completion, or one text."""
    if row.get("text"):
        return {"text": row["text"]}
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    if loss_on == "all":
        return {"messages": messages}
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def load_with_unsloth(p: dict[str, Any]) -> tuple[Any, Any]:
    """The model in 4 bits with an adapter, and its tokenizer, patched by Unsloth."""
    model, tokenizer = FastLanguageModel.from_pretrained(
        p["model"], max_seq_length=p["context"], load_in_4bit=True
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=p["lora_rank"],
        lora_alpha=p["lora_alpha"],
        use_gradient_checkpointing="unsloth",
        random_state=p["seed"],
    )
    return model, tokenizer


def load_with_peft(p: dict[str, Any]) -> tuple[Any, Any]:
    """The model in 4 bits, and its tokenizer; the trainer adds the adapter."""
    compute = torch.bfloat16 if BF16 else torch.float32
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    model = AutoModelForCausalLM.from_pretrained(p["model"], dtype=compute, quantization_config=four_bits)
    for layer in model.modules():  # after judging on a CPU, packed weights could not be trained with
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model, AutoTokenizer.from_pretrained(p["model"])


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
    model.save_pretrained(out / "adapter")
    job.artifact("adapter", kind="adapter")
    base = AutoModelForCausalLM.from_pretrained(p["model"], dtype="auto")
    model = PeftModel.from_pretrained(base, out / "adapter").merge_and_unload()
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


if __name__ == "__main__":
    main()

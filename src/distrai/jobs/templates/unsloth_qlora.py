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
# data = {type = "path", help = "JSONL with `messages` (or `text`) in each line; or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
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
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 2, accumulate = 1, held_out_max = 16}
# ///
"""Supervised fine-tuning in 4 bits with Unsloth, which needs a GPU; else with peft, and the log says why.

Unsloth is not among the packages above: parts of it have other licences (LGPL, AGPL), and it wants other versions.
To use it, copy this template, add "unsloth" to its dependencies and `constraints = false` to [tool.distrai].
"""

from typing import Any

import distrai_job as job

try:  # first of all: it changes the libraries below; without a GPU it cannot even be imported
    if job.params()["engine"] == "peft":
        raise ImportError("peft was asked for")
    from unsloth import FastLanguageModel

    WHY_NOT = ""
except Exception as error:  # noqa: BLE001  # whatever keeps it from working, peft does the same
    WHY_NOT = f"{type(error).__name__}: {error}"

import distrai_training as training
from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    if WHY_NOT and p["engine"] == "unsloth":
        raise SystemExit(f"unsloth does not work here ({WHY_NOT}): say engine=auto to take peft then")
    job.log(f"engine: peft, since unsloth does not work here ({WHY_NOT})" if WHY_NOT else "engine: unsloth")
    set_seed(p["seed"])
    job.status("loading the model")
    tokenizer = training.load_tokenizer(p["model"])
    trainer = SFTTrainer(
        training.load_model(p["model"], "qlora") if WHY_NOT else load_with_unsloth(p),
        args=SFTConfig(**training.settings(p, max_length=p["context"])),
        train_dataset=examples("train", p),
        eval_dataset=examples("heldout", p),
        processing_class=tokenizer,
        peft_config=adapter(p) if WHY_NOT else None,
        callbacks=[job.callback()],
    )
    training.train(trainer, lambda: training.eval_loss(trainer))
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


def load_with_unsloth(p: dict[str, Any]) -> Any:
    """The model in 4 bits with an adapter, patched by Unsloth."""
    model, _ = FastLanguageModel.from_pretrained(
        p["model"], max_seq_length=p["context"], load_in_4bit=True, use_safetensors=True
    )
    return FastLanguageModel.get_peft_model(
        model,
        r=p["lora_rank"],
        lora_alpha=p["lora_alpha"],
        use_gradient_checkpointing="unsloth",
        random_state=p["seed"],
    )


def adapter(p: dict[str, Any]) -> LoraConfig:
    """The same by peft: a low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=p["lora_rank"], lora_alpha=p["lora_alpha"]
    )


def examples(part: str, p: dict[str, Any]) -> Dataset:
    """The conversations of a part of the data, as the trainer wants them."""
    limit = p["held_out_max"] if part == "heldout" else 0
    return Dataset.from_list([example(row, p["loss_on"]) for row in job.rows(part, limit)])


def example(row: dict[str, Any], loss_on: str) -> dict[str, Any]:
    """A line of the data: a text, a whole conversation, or a prompt and the answer that is to be learnt."""
    if "text" in row:
        return {"text": row["text"]}
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    if loss_on == "all":
        return {"messages": messages}
    return {"prompt": messages[:-1], "completion": messages[-1:]}


if __name__ == "__main__":
    main()

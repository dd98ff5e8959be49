# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Supervised fine-tuning: teach a model from conversations, by an adapter (QLoRA or LoRA)"
# kind = "sft"
# [tool.distrai.parameters]
# model = {type = "path", help = "the model to start from: a folder, or a name on the hub"}
# data = {type = "path", help = "JSONL with `messages` (or `text`) in each line; or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora"], help = "qlora: 4 bits, least memory"}
# loss_on = {type = "str", default = "last_reply", choices = ["last_reply", "all"], help = "what it learns to write"}
# double_quant = {type = "bool", default = true, help = "qlora: compress the scales too"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# lora_dropout = {type = "float", default = 0.0, min = 0, max = 0.9, help = "drop-out of the adapter"}
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
"""Supervised fine-tuning: a model learns to answer like the conversations that it is given.

The model stays as it is, in 4 bits (``qlora``) or 16 (``lora``); a small adapter beside it learns.
"""

from typing import Any

import distrai_job as job
import distrai_training as training
from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    set_seed(p["seed"])
    job.status("loading the model")
    tokenizer = training.load_tokenizer(p["model"])
    trainer = SFTTrainer(
        training.load_model(p["model"], p["method"], double_quant=p["double_quant"]),
        args=SFTConfig(**training.settings(p, max_length=p["context"])),
        train_dataset=examples("train", p),
        eval_dataset=examples("heldout", p),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            target_modules="all-linear",
            r=p["lora_rank"],
            lora_alpha=p["lora_alpha"],
            lora_dropout=p["lora_dropout"],
        ),
        callbacks=[job.callback()],
    )
    training.train(trainer, lambda: training.eval_loss(trainer))
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


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

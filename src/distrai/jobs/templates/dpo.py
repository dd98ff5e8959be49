# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Preferences: prefer the better of two answers (DPO)"
# kind = "dpo"
# [tool.distrai.parameters]
# model = {type = "path", help = "what to start from, best a fine-tuned model: a folder or name on the hub"}
# data = {type = "path", help = "JSONL: input.messages, preferred_output, non_preferred_output; or hf:NAME"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora", "full"], help = "qlora: 4 bits, least memory"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# beta = {type = "float", default = 0.1, min = 0.0001, max = 100, help = "how close to stay to the model as it was"}
# loss = {type = "str", default = "sigmoid", choices = ["sigmoid", "ipo", "hinge", "robust"], help = "of the pairs"}
# learning_rate = {type = "float", default = 5e-5, min = 0, max = 1, help = "peak of the schedule; about 1e-6 for full"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "pairs at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 1024, min = 8, help = "longest question and answer in tokens; the rest is cut off"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many pairs for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 2, accumulate = 1, held_out_max = 16}
# ///
"""Direct preference optimisation: a model learns which of two answers people prefer."""

from typing import Any

import distrai_job as job
import distrai_training as training
from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import DPOConfig, DPOTrainer


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    set_seed(p["seed"])
    job.status("loading the model")
    tokenizer = training.load_tokenizer(p["model"])
    trainer = DPOTrainer(
        training.load_model(p["model"], p["method"]),
        args=DPOConfig(**training.settings(p, max_length=p["context"], beta=p["beta"], loss_type=p["loss"])),
        train_dataset=examples("train", p),
        eval_dataset=examples("heldout", p),
        processing_class=tokenizer,
        peft_config=None if p["method"] == "full" else adapter(p),
        callbacks=[job.callback()],
    )
    training.train(trainer, lambda: judge(trainer))
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


def judge(trainer: DPOTrainer) -> dict[str, float]:
    """The loss of the held-out pairs, and the part of them where the model moved to the better answer."""
    found = trainer.evaluate()
    return {"loss": found["eval_loss"], "accuracy": found["eval_rewards/accuracies"]}


def adapter(p: dict[str, Any]) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=p["lora_rank"], lora_alpha=p["lora_alpha"]
    )


def plain(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Messages with nothing but who says what."""
    return [{"role": item["role"], "content": item["content"]} for item in messages]


def examples(part: str, p: dict[str, Any]) -> Dataset:
    """The pairs of a part of the data, as the trainer wants them."""
    rows = job.rows(part, p["held_out_max"] if part == "heldout" else 0)
    return Dataset.from_list(
        [
            {
                "prompt": plain(row["input"]["messages"]),
                "chosen": plain(row["preferred_output"]),
                "rejected": plain(row["non_preferred_output"]),
            }
            for row in rows
        ]
    )


if __name__ == "__main__":
    main()

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Reinforcement from preferences: a reward model, then a policy that it rewards (RLHF with RLOO)"
# kind = "rlhf"
# [tool.distrai.parameters]
# model = {type = "path", help = "what to start from, best a fine-tuned model: a folder or name on the hub"}
# data = {type = "path", help = "JSONL: input.messages, preferred_output, non_preferred_output; or hf:NAME"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora"], help = "qlora: 4 bits, least memory"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# reward_learning_rate = {type = "float", default = 1e-4, min = 0, max = 1, help = "for the reward model"}
# beta = {type = "float", default = 0.05, min = 0, max = 10, help = "how close to stay to the model as it was; 0: free"}
# answers = {type = "int", default = 4, min = 2, max = 256, help = "answers that are compared for each question"}
# answer_tokens = {type = "int", default = 256, min = 1, help = "longest answer"}
# learning_rate = {type = "float", default = 1e-5, min = 0, max = 1, help = "peak of the schedule"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of each of the two; 0: once over the data"}
# batch = {type = "int", default = 8, min = 1, help = "pairs, or answers (a multiple of `answers`), at once"}
# context = {type = "int", default = 1024, min = 8, help = "longest question and answer in tokens; the rest is cut off"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 64, min = 1, help = "at most so many pairs for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 4, answer_tokens = 16, held_out_max = 4}
# ///
"""Reinforcement learning from human feedback: a model of what people prefer, then a model that is rewarded by it."""

from typing import Any

import distrai_job as job
import distrai_training as training
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, set_seed
from trl import RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer

REWARD = "reward_model"
"""The folder of the reward model."""


def main() -> None:
    """First the reward model, if there is none yet, then the policy."""
    p = job.params()
    if p["batch"] % p["answers"]:
        raise SystemExit(f"batch = {p['batch']} is no multiple of answers = {p['answers']}: change one")
    train, held_out = examples("train", p), examples("heldout", p)
    tokenizer = training.load_tokenizer(p["model"], padding_side="left")
    if not (job.out() / REWARD).is_dir():
        train_reward(p, train, held_out, tokenizer)
    if not job.should_stop():
        train_policy(p, train, held_out, tokenizer)


def train_reward(p: dict[str, Any], train: Dataset, held_out: Dataset, tokenizer: Any) -> None:
    """Train and save the reward model: a number for each answer, higher for what is preferred."""
    set_seed(p["seed"])
    job.status("the reward model")
    kind = AutoModelForSequenceClassification
    head = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    values = p | {"learning_rate": p["reward_learning_rate"]}
    trainer = RewardTrainer(
        training.load_model(p["model"], p["method"], kind, **head),
        args=RewardConfig(**training.settings(values, "reward_checkpoints", max_length=p["context"])),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapter(p, "SEQ_CLS"),
        callbacks=[job.callback()],
    )

    def judge() -> dict[str, float]:
        """The loss of the held-out pairs, and the part of them where the better answer gets more."""
        found = trainer.evaluate()
        return {"loss": found["eval_loss"], "accuracy": found["eval_accuracy"]}

    if training.train(trainer, judge, "reward_checkpoints", "reward"):
        training.save(trainer.model, tokenizer, p["model"], REWARD, kind, **head)


def train_policy(p: dict[str, Any], train: Dataset, held_out: Dataset, tokenizer: Any) -> None:
    """Judge, train with the reward model's rewards, judge again, save."""
    set_seed(p["seed"])
    job.status("the policy")
    trainer = RLOOTrainer(
        training.load_model(p["model"], p["method"]),
        reward_funcs=training.open_model(job.out() / REWARD, AutoModelForSequenceClassification),
        reward_processing_classes=tokenizer,
        args=RLOOConfig(
            **training.settings(
                p,
                num_generations=p["answers"],
                max_completion_length=p["answer_tokens"],
                beta=p["beta"],
                include_num_input_tokens_seen="no",  # it counts them itself
            )
        ),
        train_dataset=train.select_columns("prompt"),
        eval_dataset=held_out.select_columns("prompt"),
        processing_class=tokenizer,
        peft_config=adapter(p, "CAUSAL_LM"),
        callbacks=[job.callback()],
    )
    better = [messages[-1]["content"] for messages in held_out["chosen"]]

    def judge() -> dict[str, float]:
        """The mean reward of answers to the held-out questions, and the loss of the preferred ones."""
        loss = training.answer_loss(trainer.model, tokenizer, held_out["prompt"], better, p["context"])
        return {"loss": loss, "reward": trainer.evaluate()["eval_reward"]}

    training.train(trainer, judge)
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


def adapter(p: dict[str, Any], task: str) -> LoraConfig:
    """A low-rank adapter on every linear layer; of a reward model its head is trained too."""
    return LoraConfig(
        task_type=task,
        target_modules="all-linear",
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
        r=p["lora_rank"],
        lora_alpha=p["lora_alpha"],
    )


def plain(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Messages with nothing but who says what."""
    return [{"role": item["role"], "content": item["content"]} for item in messages]


def examples(part: str, p: dict[str, Any]) -> Dataset:
    """The pairs of a part of the data, as the trainers want them."""
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

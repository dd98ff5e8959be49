# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Reinforcement with a rule: reward answers that a rule finds right (GRPO)"
# kind = "grpo"
# [tool.distrai.parameters]
# model = {type = "path", help = "the model to start from: a folder, or a name on the hub"}
# data = {type = "path", help = "JSONL: `messages`, and `answer` or a right last message; or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
# rule = {type = "str", default = "number", choices = ["number", "exact", "contains", "alike"], help = "of the reward"}
# pattern = {type = "str", default = "", help = "a regular expression for half of the reward; empty: none"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora", "full"], help = "qlora: 4 bits, least memory"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# beta = {type = "float", default = 0.04, min = 0, max = 10, help = "how close to stay to the model as it was; 0: free"}
# answers = {type = "int", default = 8, min = 2, max = 256, help = "answers that are compared for each question"}
# answer_tokens = {type = "int", default = 256, min = 1, help = "longest answer"}
# learning_rate = {type = "float", default = 1e-5, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 8, min = 1, help = "answers (a multiple of `answers`) at once"}
# accumulate = {type = "int", default = 1, min = 1, help = "batches in a step"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 64, min = 1, help = "at most so many questions for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 4, answers = 4, answer_tokens = 16, held_out_max = 4}
# ///
"""Group relative policy optimisation: a model tries several answers, and learns from those that a rule rewards."""

import difflib
import re
from typing import Any

import distrai_job as job
import distrai_training as training
from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    if p["batch"] % p["answers"]:
        raise SystemExit(
            f"batch = {p['batch']} is no multiple of answers = {p['answers']}: change one of them"
        )
    set_seed(p["seed"])
    held_out = examples("heldout", p)
    job.status("loading the model")
    tokenizer = training.load_tokenizer(p["model"], padding_side="left")
    trainer = GRPOTrainer(
        training.load_model(p["model"], p["method"]),
        reward_funcs=Rule(p["rule"], p["pattern"]),
        args=GRPOConfig(
            **training.settings(
                p,
                num_generations=p["answers"],
                max_completion_length=p["answer_tokens"],
                beta=p["beta"],
                include_num_input_tokens_seen="no",  # it counts them itself
            )
        ),
        train_dataset=examples("train", p),
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if p["method"] == "full" else adapter(p),
        callbacks=[job.callback()],
    )

    def judge() -> dict[str, float]:
        """The mean reward of answers to the held-out questions, and the loss of the right ones."""
        rows = (held_out["prompt"], held_out["answer"])
        loss = training.answer_loss(trainer.model, tokenizer, *rows, p["answer_tokens"])
        return {"loss": loss, "reward": trainer.evaluate()["eval_reward"]}

    training.train(trainer, judge)
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


class Rule:
    """The reward, from 0 to 1. Change it as you like."""

    def __init__(self, rule: str, pattern: str) -> None:
        self.__name__ = rule
        self._pattern = pattern

    def __call__(self, completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
        """A reward for each completion; ``answer`` and the other columns of the data come along."""
        pairs = zip(completions, answer, strict=True)
        return [self._reward(text[-1]["content"], right) for text, right in pairs]

    def _reward(self, text: str, right: str) -> float:
        score = self._score(text.strip(), right.strip())
        if not self._pattern:
            return score
        return (score + bool(re.search(self._pattern, text, re.DOTALL))) / 2

    def _score(self, text: str, right: str) -> float:
        if self.__name__ == "exact":
            return float(text == right)
        if self.__name__ == "contains":
            return float(right in text)
        if self.__name__ == "alike":
            return difflib.SequenceMatcher(None, text, right, autojunk=False).ratio()
        found, wanted = numbers(text), numbers(right)
        return float(bool(found and wanted) and found[-1] == wanted[-1])


def numbers(text: str) -> list[float]:
    """The numbers in a text, in order."""
    return [float(item.replace(",", "")) for item in re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)]


def adapter(p: dict[str, Any]) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=p["lora_rank"], lora_alpha=p["lora_alpha"]
    )


def examples(part: str, p: dict[str, Any]) -> Dataset:
    """The questions of a part of the data, as the trainer wants them, with the right answers for the rule."""
    return Dataset.from_list(
        [example(row) for row in job.rows(part, p["held_out_max"] if part == "heldout" else 0)]
    )


def example(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the data: what is asked, and the right answer, which is the last message."""
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    return {"prompt": messages[:-1], "answer": messages[-1]["content"]}


if __name__ == "__main__":
    main()

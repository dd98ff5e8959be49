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
# data = {type = "path", help = "JSONL: `messages`, and `answer` or a right last message; or a data set's name"}
# rule = {type = "str", default = "number", choices = ["number", "exact", "contains", "alike"], help = "of the reward"}
# pattern = {type = "str", default = "", help = "a regular expression for half of the reward; empty: none"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora", "full"], help = "qlora: 4 bits, least memory"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
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
import json
import re
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import GRPOConfig, GRPOTrainer

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    out = job.out()
    if p["batch"] % p["answers"]:
        raise SystemExit(
            f"batch = {p['batch']} is no multiple of answers = {p['answers']}: change one of them"
        )
    job.status("reading the data")
    train, held_out = read_data(p)
    job.status("loading the model")
    tokenizer = AutoTokenizer.from_pretrained(p["model"], padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = GRPOTrainer(
        load_model(p),
        reward_funcs=Rule(p["rule"], p["pattern"]),
        args=GRPOConfig(
            num_generations=p["answers"],
            max_completion_length=p["answer_tokens"],
            beta=p["beta"],
            **settings(p, out),
        ),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if p["method"] == "full" else adapter(p),
        callbacks=[job.callback()],
    )
    job.status("judging the model before training")
    before = held_out_loss(trainer.model, tokenizer, held_out, p["answer_tokens"])
    job.metric(held_out_loss_before=before, held_out_reward_before=trainer.evaluate()["eval_reward"])
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the model after training")
    after = held_out_loss(trainer.model, tokenizer, held_out, p["answer_tokens"])
    job.metric(held_out_loss_after=after, held_out_reward_after=trainer.evaluate()["eval_reward"])
    job.status("saving the model")
    save(trainer.model, tokenizer, p, out)


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
    """A line of the data as the trainer wants it: a question, and the right answer for the rule."""
    messages = plain(row["messages"])
    if "answer" in row:
        return {"prompt": messages, "answer": str(row["answer"])}
    return {"prompt": messages[:-1], "answer": messages[-1]["content"]}


def plain(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Messages with nothing but who says what."""
    return [{"role": item["role"], "content": item["content"]} for item in messages]


def held_out_loss(model: Any, tokenizer: Any, rows: Dataset, context: int) -> float:
    """The mean loss, in nats per token, of the answers in the data."""
    lost, tokens = 0.0, 0
    model.eval()
    for row in rows:
        question = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        start = tokenizer(question, add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"][:context]
        ids = torch.tensor([start + answer], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
        lost += torch.nn.functional.cross_entropy(logits, ids[0, len(start) :], reduction="sum").item()
        tokens += len(answer)
    return lost / max(1, tokens)


def load_model(p: dict[str, Any]) -> Any:
    """The model to train: in 4 bits for qlora; in fp32 if all parameters change."""
    if p["method"] != "qlora":
        dtype = torch.bfloat16 if BF16 and p["method"] == "lora" else torch.float32
        return AutoModelForCausalLM.from_pretrained(p["model"], dtype=dtype)
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
    return model


def adapter(p: dict[str, Any]) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=p["lora_rank"],
        lora_alpha=2 * p["lora_rank"],
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
        base = AutoModelForCausalLM.from_pretrained(p["model"], dtype="auto")
        model = PeftModel.from_pretrained(base, out / "adapter").merge_and_unload()
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


if __name__ == "__main__":
    main()

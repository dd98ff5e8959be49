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
# data = {type = "path", help = "JSONL: input.messages, preferred_output, non_preferred_output; or a data set's name"}
# method = {type = "str", default = "qlora", choices = ["qlora", "lora"], help = "qlora: 4 bits, least memory"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# reward_learning_rate = {type = "float", default = 1e-4, min = 0, max = 1, help = "for the reward model"}
# beta = {type = "float", default = 0.05, min = 0, max = 10, help = "how close to stay to the model as it was; 0: free"}
# answers = {type = "int", default = 4, min = 2, max = 256, help = "answers that are compared for each question"}
# answer_tokens = {type = "int", default = 256, min = 1, help = "longest answer"}
# learning_rate = {type = "float", default = 1e-5, min = 0, max = 1, help = "peak of the schedule"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of each of the two; 0: once over the data"}
# batch = {type = "int", default = 8, min = 1, help = "pairs, or answers (a multiple of `answers`), at once"}
# context = {type = "int", default = 1024, min = 8, help = "longest question with its answer, in tokens"}
# held_out = {type = "int", default = 64, min = 1, help = "pairs only for judging; of little data at most half"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 4, answer_tokens = 16, held_out = 4}
# ///
"""Reinforcement learning from human feedback: a model of what people prefer, then a model that is rewarded by it."""

import json
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    set_seed,
)
from trl import RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()


def main() -> None:
    """First the reward model, if there is none yet, then the policy."""
    p, out = job.params(), job.out()
    if p["batch"] % p["answers"]:
        raise SystemExit(f"batch = {p['batch']} is no multiple of answers = {p['answers']}: change one")
    set_seed(p["seed"])
    job.status("reading the data")
    parts = read_data(p)
    tokenizer = AutoTokenizer.from_pretrained(p["model"], padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if not (out / "reward_model").is_dir():
        train_reward(p, out, parts, tokenizer)
    if not job.should_stop():
        job.artifact("reward_model")
        train_policy(p, out, parts, tokenizer)


def train_reward(p: dict[str, Any], out: Path, parts: tuple[Dataset, Dataset], tokenizer: Any) -> None:
    """Train and save the reward model: a number for each answer, higher for what is preferred."""
    job.status("training the reward model")
    kind = AutoModelForSequenceClassification
    head = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    first = p | {"learning_rate": p["reward_learning_rate"]}
    folder = out / "reward_checkpoints"
    trainer = RewardTrainer(
        load_model(p, kind, **head),
        args=RewardConfig(max_length=p["context"], **settings(first, folder)),
        train_dataset=parts[0],
        eval_dataset=parts[1],
        processing_class=tokenizer,
        peft_config=adapter(p, "SEQ_CLS"),
        callbacks=[job.callback()],
    )
    if not BF16:  # trl makes what is trained beside 4 bits bf16, and only a GPU can mix that with fp32
        trainer.model.float()
    job.metric(reward_loss_before=trainer.evaluate()["eval_loss"])
    trainer.train(resume_from_checkpoint=newest_checkpoint(folder))
    if job.should_stop():
        return
    judged = trainer.evaluate()
    job.metric(reward_loss_after=judged["eval_loss"], reward_accuracy=judged["eval_accuracy"])
    model = merged(trainer.model, p, out / "reward_adapter", kind, **head)
    model.save_pretrained(out / "reward_model.part")
    tokenizer.save_pretrained(out / "reward_model.part")
    (out / "reward_model.part").rename(out / "reward_model")


def train_policy(p: dict[str, Any], out: Path, parts: tuple[Dataset, Dataset], tokenizer: Any) -> None:
    """Judge, train with the reward model's rewards, judge again, save."""
    trainer = RLOOTrainer(
        load_model(p, AutoModelForCausalLM),
        reward_funcs=AutoModelForSequenceClassification.from_pretrained(out / "reward_model"),
        reward_processing_classes=tokenizer,
        args=RLOOConfig(
            num_generations=p["answers"],
            max_completion_length=p["answer_tokens"],
            beta=p["beta"],
            **settings(p, out / "checkpoints"),
        ),
        train_dataset=parts[0].select_columns("prompt"),
        eval_dataset=parts[1].select_columns("prompt"),
        processing_class=tokenizer,
        peft_config=adapter(p, "CAUSAL_LM"),
        callbacks=[job.callback()],
    )
    job.status("judging the model before training")
    before = held_out_loss(trainer.model, tokenizer, parts[1], p["context"])
    job.metric(held_out_loss_before=before, held_out_reward_before=trainer.evaluate()["eval_reward"])
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the model after training")
    after = held_out_loss(trainer.model, tokenizer, parts[1], p["context"])
    job.metric(held_out_loss_after=after, held_out_reward_after=trainer.evaluate()["eval_reward"])
    job.status("saving the model")
    merged(trainer.model, p, out / "adapter", AutoModelForCausalLM).save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


def merged(model: Any, p: dict[str, Any], folder: Path, kind: Any, **more: Any) -> Any:
    """The trained model, with its adapter (saved in ``folder``) merged into the **unquantised** base."""
    model.save_pretrained(folder)
    base = kind.from_pretrained(p["model"], dtype="auto", **more)
    return PeftModel.from_pretrained(base, folder).merge_and_unload()


def read_data(p: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The pairs to train on, and those only for judging; a folder of prepared data has a file of each."""
    path = Path(p["data"])
    if (path / "heldout.jsonl").is_file():
        train, judged = read_file(path / "train.jsonl"), read_file(path / "heldout.jsonl")
    else:
        if path.is_file():
            data = read_file(path)
        else:
            data = load_dataset(p["data"].removeprefix("hf:"), split="train")
            data = data.map(example, remove_columns=data.column_names)
        size = min(p["held_out"], len(data) // 2)
        train, judged = data.train_test_split(test_size=size, seed=p["seed"]).values()
    if not len(judged):
        raise SystemExit(f"{p['data']} has nothing that is only for judging: hold a part out")
    return train, judged.select(range(min(len(judged), p["held_out"])))


def read_file(path: Path) -> Dataset:
    """The lines of a file as the trainer wants them."""
    with path.open(encoding="utf-8") as lines:
        return Dataset.from_list([example(json.loads(line)) for line in lines if line.strip()])


def example(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the data as the trainers want it."""
    return {
        "prompt": plain(row["input"]["messages"]),
        "chosen": plain(row["preferred_output"]),
        "rejected": plain(row["non_preferred_output"]),
    }


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
        answer = tokenizer(row["chosen"][-1]["content"], add_special_tokens=False)["input_ids"][:context]
        ids = torch.tensor([start + answer], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
        lost += torch.nn.functional.cross_entropy(logits, ids[0, len(start) :], reduction="sum").item()
        tokens += len(answer)
    return lost / max(1, tokens)


def load_model(p: dict[str, Any], kind: Any, **more: Any) -> Any:
    """A model to train: in 4 bits for qlora."""
    dtype = torch.bfloat16 if BF16 else torch.float32
    if p["method"] != "qlora":
        return kind.from_pretrained(p["model"], dtype=dtype, **more)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = kind.from_pretrained(p["model"], dtype=dtype, quantization_config=four_bits, **more)
    for layer in model.modules():  # after judging on a CPU, packed weights could not be trained with
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def adapter(p: dict[str, Any], task: str) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type=task,
        target_modules="all-linear",
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
        r=p["lora_rank"],
        lora_alpha=2 * p["lora_rank"],
    )


def settings(p: dict[str, Any], folder: Path) -> dict[str, Any]:
    """How the trainer works."""
    return {
        "output_dir": str(folder),
        "learning_rate": p["learning_rate"],
        "num_train_epochs": 1,
        "max_steps": p["max_steps"] or -1,
        "per_device_train_batch_size": p["batch"],
        "per_device_eval_batch_size": p["batch"],
        "gradient_checkpointing": ON_GPU,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,  # part of all steps
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

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6",
#   "datasets>=4.8,<6", "accelerate>=1.13", "tokenizers>=0.21",
# ]
# [tool.distrai]
# title = "Pre-training: a new model from plain text, or more of it for one that there is"
# kind = "pretrain"
# [tool.distrai.parameters]
# data = {type = "path", help = "a text file, JSONL with `text` in each line, or a data set's name"}
# model = {type = "path", default = "", help = "a model to go on with (a folder or name on the hub); empty: a new one"}
# tokenizer = {type = "path", default = "", help = "of a new model; empty: one is made from the data"}
# vocabulary = {type = "int", default = 8192, min = 300, max = 1000000, help = "tokens of a tokenizer that is made"}
# hidden = {type = "int", default = 256, min = 64, max = 16384, help = "width of a new model: a multiple of 64"}
# layers = {type = "int", default = 6, min = 1, max = 256, help = "layers of a new model"}
# learning_rate = {type = "float", default = 6e-4, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 16, min = 1, help = "samples at once"}
# accumulate = {type = "int", default = 1, min = 1, help = "batches in a step"}
# context = {type = "int", default = 512, min = 8, help = "tokens of a sample"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many samples for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 4, context = 64, vocabulary = 512, hidden = 128, layers = 2, held_out_max = 16}
# ///
"""Pre-training: a model learns to go on with plain text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GraniteConfig,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()

END_OF_TEXT = "<|endoftext|>"


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    out = job.out()
    set_seed(p["seed"])
    job.status("reading the data")
    texts = read_texts(p["data"])
    tokenizer = find_tokenizer(p, texts[0], out)
    train, held_out = samples(p, texts, tokenizer)
    job.status("loading the model" if p["model"] else "making the model")
    trainer = Trainer(
        find_model(p, tokenizer),
        args=TrainingArguments(**settings(p, out)),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=default_data_collator,
        callbacks=[job.callback()],
    )
    job.metric(parameters=trainer.model.num_parameters(), tokens=len(train) * p["context"])
    job.status("judging the model before training")
    before = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_before=before)
    job.status("training")
    trainer.train(resume_from_checkpoint=newest_checkpoint(out / "checkpoints"))
    job.status("judging the model after training")
    after = trainer.evaluate()["eval_loss"]
    job.metric(held_out_loss_after=after, held_out_loss_gained=before - after)
    job.status("saving the model")
    trainer.model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    job.artifact("model", kind="model")


def read_texts(data: str) -> list[Dataset]:
    """The documents, in a column ``text``; a folder of prepared data has those only for judging in a second file."""
    path = Path(data)
    if (path / "heldout.jsonl").is_file():
        return [read_file(path / name) for name in ("train.jsonl", "heldout.jsonl")]
    if path.is_file():
        return [read_file(path)]
    return [load_dataset(data.removeprefix("hf:"), split="train").select_columns("text")]


def read_file(path: Path) -> Dataset:
    """The lines of JSON, or blocks of 1000 lines of a plain text."""
    with path.open(encoding="utf-8") as lines:
        if path.suffix == ".jsonl":
            return Dataset.from_list([{"text": json.loads(line)["text"]} for line in lines if line.strip()])
        return Dataset.from_list([{"text": "".join(block)} for block in blocks(lines, 1000)])


def blocks(items: Any, size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items, the last one shorter."""
    block: list[Any] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def find_tokenizer(p: dict[str, Any], texts: Dataset, out: Path) -> Any:
    """That of the model, the one that is named, or one that is made from the data (byte-level BPE) and kept."""
    made = out / "tokenizer"
    if p["model"] or p["tokenizer"]:
        return AutoTokenizer.from_pretrained(p["model"] or p["tokenizer"])
    if not (made / "tokenizer_config.json").exists():
        from tokenizers import ByteLevelBPETokenizer

        job.status("making a tokenizer")
        bpe = ByteLevelBPETokenizer()
        sizes = {"vocab_size": p["vocabulary"], "special_tokens": [END_OF_TEXT], "show_progress": False}
        bpe.train_from_iterator((row["text"] for row in texts), **sizes)
        fast = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT)  # noqa: SLF001
        fast.save_pretrained(made)
    return AutoTokenizer.from_pretrained(made)


def samples(p: dict[str, Any], texts: list[Dataset], tokenizer: Any) -> tuple[Dataset, Dataset]:
    """Samples of ``context`` tokens to train on, and those only for judging: the last ones, if nobody divided them."""

    def cut(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = [
            token
            for text in rows["text"]
            for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        ]
        whole = [ids[at : at + p["context"]] for at in range(0, len(ids) - p["context"] + 1, p["context"])]
        return {"input_ids": whole, "labels": whole}

    train, *judged = (part.map(cut, batched=True, remove_columns=part.column_names) for part in texts)
    if min(map(len, [train, *judged])) < 1 or (not judged and len(train) < 2):
        raise SystemExit(
            f"{p['data']} is too short for samples of {p['context']} tokens: choose a smaller context"
        )
    if judged:
        return train, judged[0].select(range(min(len(judged[0]), p["held_out_max"])))
    size = min(p["held_out_max"], max(1, round(len(train) * p["held_out"])))
    return train.select(range(len(train) - size)), train.select(range(len(train) - size, len(train)))


def find_model(p: dict[str, Any], tokenizer: Any) -> Any:
    """The model to go on with, or a new one with random parameters."""
    if p["model"]:
        return AutoModelForCausalLM.from_pretrained(p["model"], dtype=torch.float32)
    if p["hidden"] % 64:
        raise SystemExit(f"hidden = {p['hidden']} is no multiple of 64: take {p['hidden'] // 64 * 64}")
    config = (
        GraniteConfig(  # of a kind that has no tokenizer of its own, which would replace that of the folder
            vocab_size=(len(tokenizer) + 63) // 64 * 64,
            hidden_size=p["hidden"],
            intermediate_size=p["hidden"] * 4,
            num_hidden_layers=p["layers"],
            num_attention_heads=p["hidden"] // 64,
            num_key_value_heads=p["hidden"] // 64,
            attention_multiplier=0.125,  # 1 / sqrt(64), the width of a head
            max_position_embeddings=p["context"],
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return AutoModelForCausalLM.from_config(config)


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

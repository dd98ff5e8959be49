# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.6", "transformers>=5.4,<6", "accelerate>=1.13", "tokenizers>=0.21"]
# [tool.distrai]
# title = "Pre-training: a new model from plain text, or more of it for one that there is"
# kind = "pretrain"
# [tool.distrai.parameters]
# data = {type = "path", help = "a text file, JSONL with `text` in each line, or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many texts of the data; 0: all"}
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

from array import array
from typing import Any

import distrai_job as job
import distrai_training as training
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GraniteConfig,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

END_OF_TEXT = "<|endoftext|>"


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    set_seed(p["seed"])
    tokenizer = find_tokenizer(p)
    job.status("cutting the texts into samples")
    train = Samples("train", tokenizer, p["context"])
    held_out = Samples("heldout", tokenizer, p["context"], p["held_out_max"])
    job.status("loading the model" if p["model"] else "making the model")
    trainer = Trainer(
        find_model(p, tokenizer),
        args=TrainingArguments(**training.settings(p, include_num_input_tokens_seen="all")),
        train_dataset=train,
        eval_dataset=held_out,
        callbacks=[job.callback()],
    )
    job.metric(parameters=trainer.model.num_parameters())
    training.train(trainer, lambda: training.eval_loss(trainer))
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["model"])


class Samples(torch.utils.data.Dataset):
    """The texts of a part of the data one behind the other, cut into samples of ``context`` tokens."""

    def __init__(self, part: str, tokenizer: Any, context: int, most: int = 0) -> None:
        tokens = array("i")  # 4 bytes each
        for row in job.rows(part):
            tokens.extend([*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id])
            if most and len(tokens) >= most * context:
                break
        self._tokens, self._context = torch.frombuffer(tokens, dtype=torch.int32), context
        self._count = min(len(tokens) // context, most or len(tokens))
        if not self._count:
            raise SystemExit(
                f"the part of the data to {'learn from' if part == 'train' else 'judge by'} has {len(tokens)} tokens, "
                f"too few for one sample of {context}: choose a smaller context, or give more data"
            )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        ids = self._tokens[number * self._context : (number + 1) * self._context].long()
        return {"input_ids": ids, "labels": ids}


def find_tokenizer(p: dict[str, Any]) -> Any:
    """That of the model, the one that is named, or one that is made from the data (byte-level BPE) and kept."""
    made = job.out() / "tokenizer"
    if p["model"] or p["tokenizer"]:
        return training.load_tokenizer(p["model"] or p["tokenizer"], chats=False)
    if not (made / "tokenizer_config.json").exists():
        job.status("making a tokenizer")
        bpe = ByteLevelBPETokenizer()
        sizes = {"vocab_size": p["vocabulary"], "special_tokens": [END_OF_TEXT], "show_progress": False}
        bpe.train_from_iterator((row["text"] for row in job.rows("train")), **sizes)
        fast = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT)  # noqa: SLF001
        fast.save_pretrained(made)
    return AutoTokenizer.from_pretrained(made)


def find_model(p: dict[str, Any], tokenizer: Any) -> Any:
    """The model to go on with, or a new one with random parameters."""
    if p["model"]:
        return training.load_model(p["model"], "full")
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


if __name__ == "__main__":
    main()

"""What the shipped templates have in common: ``import distrai_training as training``. It is copied beside every script.

Loading a model (in 4 bits if asked for), settings of a trainer, going on from a checkpoint, judging on the held-out
part, and saving. It needs torch and transformers, and peft where an adapter is trained.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distrai_job as job
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed

ON_GPU = torch.cuda.is_available()
BF16 = ON_GPU and torch.cuda.is_bf16_supported()
FAST = torch.bfloat16 if BF16 else torch.float32
"""What to compute in where it is precise enough: a frozen model, or one whose adapter is trained."""

PLAIN_CHAT = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""How a conversation is written for a model that was never in one."""


def load_tokenizer(name: str, *, chats: bool = True, **more: Any) -> Any:
    """The tokenizer of a model, which can fill up short texts and (``chats``) write conversations."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **more)
    except OSError:  # what is loaded first; transformers says it in six lines, the last of which helps nobody
        raise SystemExit(
            f"{name} is no folder with a model and tokenizer, and no such model can be had from the hub: "
            "check the name, and the network"
        ) from None
    if not tokenizer.eos_token:  # a tokenizer of bytes has none: the first byte stands in no text
        tokenizer.add_special_tokens({"eos_token": tokenizer.convert_ids_to_tokens(0)})
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if chats and not tokenizer.chat_template:
        job.log(f"{Path(name).name} has no chat template: a plain one is used, and saved with the model")
        tokenizer.chat_template = PLAIN_CHAT
    return tokenizer


def load_model(
    name: str, method: str, kind: Any = AutoModelForCausalLM, *, double_quant: bool = True, **more: Any
) -> Any:
    """A model to train: in 4 bits (NF4) for ``qlora``, as is best for ``lora``, in fp32 where all of it changes."""
    if method != "qlora":
        return open_model(name, kind, dtype=FAST if method == "lora" else torch.float32, **more)
    model = open_model(name, kind, dtype=FAST, quantization_config=four_bits(double_quant), **more)
    for layer in model.modules():  # after judging on a CPU, packed weights could not be trained with
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def open_model(name: Any, kind: Any = AutoModelForCausalLM, **more: Any) -> Any:
    """A model from its safetensors: the other formats are pickles, which may hold code of whoever made them."""
    return kind.from_pretrained(name, use_safetensors=True, **more)


def load_frozen(name: str, *, in_four_bits: bool, device: Any) -> Any:
    """A model that does not change: a teacher."""
    more = {"quantization_config": four_bits()} if in_four_bits else {}
    model = open_model(name, dtype=FAST, device_map=device, **more)
    return model.eval().requires_grad_(False)


def four_bits(double_quant: bool = True) -> BitsAndBytesConfig:
    """NF4 by bitsandbytes. ``double_quant``: the scales are compressed too."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=FAST,
    )


def settings(p: dict[str, Any], folder: str = "checkpoints", **more: Any) -> dict[str, Any]:
    """How a trainer of transformers or trl works, by the values of the form; ``more`` replaces or adds to it."""
    usual = {
        "output_dir": str(job.out() / folder),
        "learning_rate": p["learning_rate"],
        "num_train_epochs": p.get("epochs", 1),
        "max_steps": p["max_steps"] or -1,
        "per_device_train_batch_size": p["batch"],
        "per_device_eval_batch_size": p["batch"],
        "gradient_accumulation_steps": p.get("accumulate", 1),
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
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
    }
    return usual | more


def train(
    trainer: Any, judge: Callable[[], dict[str, float]], folder: str = "checkpoints", name: str = "eval"
) -> bool:
    """Judge, train, judge again; False if the job was asked to stop. Goes on from the newest checkpoint.

    What ``judge`` finds is told as ``eval_loss_before``, ``eval_loss_after`` and so on.
    """
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # trl makes an adapter beside 4 bits bf16, where small steps are lost
            parameter.data = parameter.data.float()
    checkpoint = job.newest_checkpoint(folder)
    known = _tokens_of(checkpoint)
    if checkpoint is None:
        job.status("judging the model before training")
        _judge(trainer, judge, f"{name}_{{}}_before")
    job.status("training" if checkpoint is None else f"training on from {Path(checkpoint).name}")
    seconds = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"]
    tokens = trainer.state.num_input_tokens_seen
    job.metric(tokens=tokens, tokens_per_second=(tokens - known) / max(seconds, 1e-3))
    if job.should_stop():
        return False
    job.status("judging the model after training")
    _judge(trainer, judge, f"{name}_{{}}_after")
    return True


def eval_loss(trainer: Any) -> dict[str, float]:
    """Mean loss on the held-out part, in nats per token that is learnt.

    A trainer takes the mean of its batches' means, in which tokens of short batches count for more: so they are summed.
    """
    step, lost, tokens = trainer.prediction_step, 0.0, 0

    def counted(model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        nonlocal lost, tokens
        count = int((inputs["labels"][..., 1:] != -100).sum())
        found = step(model, inputs, *rest, **more)
        lost, tokens = lost + found[0].item() * count if count else lost, tokens + count
        return found

    trainer.prediction_step = counted
    try:
        mean = trainer.evaluate()["eval_loss"]
    finally:
        del trainer.prediction_step
    return {"loss": lost / tokens if tokens else mean}


def answer_loss(model: Any, tokenizer: Any, asked: list[Any], answers: list[str], longest: int) -> float:
    """Mean loss of answers to questions, in nats per token; of each answer at most ``longest`` tokens."""
    lost, tokens = 0.0, 0
    model.eval()
    for messages, text in zip(asked, answers, strict=True):
        question = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        start = tokenizer(question, add_special_tokens=False)["input_ids"]
        answer = tokenizer(text, add_special_tokens=False)["input_ids"][:longest]
        ids = torch.tensor([start + answer], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(start) - 1 : -1].float()
        lost += torch.nn.functional.cross_entropy(logits, ids[0, len(start) :], reduction="sum").item()
        tokens += len(answer)
    return lost / max(1, tokens)


def save(
    model: Any,
    tokenizer: Any,
    base: str = "",
    folder: str = "model",
    kind: Any = AutoModelForCausalLM,
    **more: Any,
) -> None:
    """Save a model as an artifact that plain transformers loads: safetensors, and no pickle.

    ``base``: what it was made from. An adapter is saved beside it, and merged into the **unquantised** base; a model
    that was trained in fp32 is saved in the precision that the base has.
    """
    part = job.out() / f"{folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model = _merged(model, base, "adapter" if folder == "model" else f"{folder}_adapter", kind, **more)
    elif base and (dtype := AutoConfig.from_pretrained(base).dtype) is not None:
        model = model.to(dtype)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    for path in [*part.rglob("*.bin"), *part.rglob("*.pt")]:  # training_args.bin is a pickle
        path.unlink()
    shutil.rmtree(job.out() / folder, ignore_errors=True)
    part.rename(job.out() / folder)
    job.artifact(folder, kind="model" if folder == "model" else "file")


def _merged(model: Any, base: str, folder: str, kind: Any, **more: Any) -> Any:
    from peft import PeftModel

    path = job.out() / folder
    model.save_pretrained(path)
    job.artifact(folder, kind="adapter")
    whole = open_model(base, kind, dtype="auto", **more)
    return PeftModel.from_pretrained(whole, path).merge_and_unload()


def _judge(trainer: Any, judge: Callable[[], dict[str, float]], name: str) -> None:
    set_seed(trainer.args.seed)  # so that before and after draw the same, where anything is drawn
    job.metric({name.format(measure): value for measure, value in judge().items()})


def _tokens_of(checkpoint: str | None) -> int:
    """How many tokens earlier attempts trained on."""
    if checkpoint is None:
        return 0
    return int(json.loads((Path(checkpoint) / "trainer_state.json").read_bytes())["num_input_tokens_seen"])

"""Toy language models with a tokenizer and chat template, and data for them: what a smoke run of a template needs."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONTEXT = 256
NAMES = ["Ada", "Bruno", "Chandra", "Dai", "Elif", "Femi", "Goro", "Hanna"]
KIND, RUDE = "at home", "go away"
PLACES = ["the harbour", "the mill", "the library", "the market", "the old bridge"]


def toy_tokenizer() -> Any:
    """Bytes as tokens, and ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: at for at, sign in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_toy_model(
    folder: Path, *, hidden: int = 128, layers: int = 2, seed: int = 0, spread: float = 0.02
) -> Path:
    """A Qwen2 with random parameters (of this spread), saved with its tokenizer as from a hub."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = toy_tokenizer()
    config = Qwen2Config(
        vocab_size=320,  # like real models, more than the tokenizer has
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_undecided_model(base: Path, folder: Path, *, steps: int = 100, seed: int = 0) -> Path:
    """The toy model after it has learnt to say one of ``KIND`` and ``RUDE``: something for rewards to decide."""
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), toy_tokenizer()
    draw = random.Random(seed)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        asked = [question for question, _ in _questions(8, draw.randrange(1 << 30))]
        texts = [
            tokenizer.apply_chat_template(
                [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": draw.choice((KIND, RUDE))},
                ],
                tokenize=False,
            )
            for text in asked
        ]
        given = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        labels = given["input_ids"].clone()
        labels[:, : -len(KIND) - 2] = -100  # nothing but the answer, its end, and the line after it
        model(**given, labels=labels).loss.backward()
        adam.step()
        adam.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def decisions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Two answers to a question each, of which the undecided model gives one: the kind one is preferred."""
    return [
        {
            "input": {"messages": [{"role": "user", "content": question}]},
            "preferred_output": [{"role": "assistant", "content": KIND}],
            "non_preferred_output": [{"role": "assistant", "content": RUDE}],
        }
        for question, _ in _questions(count, seed)
    ]


def chats(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations: a question, and its short answer."""
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in _questions(count, seed)
    ]


def preferences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Two answers to a question each; the right one is preferred to a rude one."""
    return [
        {
            "input": {"messages": [{"role": "user", "content": question}]},
            "preferred_output": [{"role": "assistant", "content": answer}],
            "non_preferred_output": [{"role": "assistant", "content": "ask someone else!"}],
        }
        for question, answer in _questions(count, seed)
    ]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """One row in a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_prose(path: Path, count: int, seed: int = 0) -> Path:
    """Plain text: two sentences in a line, and an empty line after every eight."""
    lines = [f"{question} {answer}\n" for question, answer in _questions(count, seed)]
    parts = ["".join(lines[at : at + 8]) for at in range(0, count, 8)]
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _questions(count: int, seed: int) -> Iterable[tuple[str, str]]:
    draw = random.Random(seed)
    for _ in range(count):
        name, place = draw.choice(NAMES), draw.choice(PLACES)
        yield f"Where is {name}? She went to {place}.", f"{name} is at {place}."

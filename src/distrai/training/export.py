"""A Hugging Face folder of a trained model: configuration, safetensors, tokenizer, generation settings, model card.

``AutoModelForCausalLM.from_pretrained`` and ``AutoTokenizer.from_pretrained`` load it without any code of ours.
"""

import json
from pathlib import Path
from typing import Any

from torch import nn

from distrai.training.card import ModelCard
from distrai.training.huggingface import generation_config
from distrai.training.tokenizer import Tokenizer

_TEMPERATURE = 0.8


def export_model(model: nn.Module, tokenizer: Tokenizer, card: ModelCard, context: int, folder: Path) -> Path:
    """Write ``model`` (with the parameters that it has now) into ``folder``, which is made; returns the folder.

    Files that are there already are replaced. ``context`` is the longest input that the model was trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: Any = model
    saved.save_pretrained(folder)
    settings = generation_config()(
        do_sample=True,
        temperature=_TEMPERATURE,
        top_k=0,
        max_new_tokens=context // 2,
        **_special_tokens(saved.config),
    )
    settings.save_pretrained(folder)
    export_tokenizer(tokenizer, context, folder)
    (folder / "README.md").write_text(card.to_markdown(), encoding="utf-8")
    return folder


def _special_tokens(config: Any) -> dict[str, Any]:
    """Where a pretrained model ends, which its settings for writing have to say again."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}


def export_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """Write the files that ``AutoTokenizer`` reads. Byte tokens get the ids 0 to 255 in the order of the bytes."""
    tokenizer.to_fast().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,  # it would eat spaces before punctuation
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

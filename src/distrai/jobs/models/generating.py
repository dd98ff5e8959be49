"""Text from a finished model: loaded by plain transformers from its verified folder, and never any code of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENS_MAX = 1 << 16


class BadSetting(ValueError):
    """A setting of the sampler is impossible."""


class CannotLoad(ValueError):
    """Transformers cannot load a model, or there is nothing to load it with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How text is drawn. Temperature 0 takes the likeliest token."""

    tokens: int = 200
    temperature: float = 0.8
    seed: int = 0
    chat: bool = False
    """Whether the text is what a user says, put into the model's chat template."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= TOKENS_MAX:
            raise BadSetting(f"--tokens {self.tokens} is not within 1..{TOKENS_MAX}")
        if not 0 <= self.temperature <= 100:
            raise BadSetting(
                f"--temperature {self.temperature:g} is not within 0..100; 0 takes the likeliest token"
            )


def write_text(folder: Path, prompt: str, sampling: Sampling) -> str:
    """What the model in a folder says after ``prompt``. Raises CannotLoad, BadSetting."""
    import torch

    if not prompt:
        raise BadSetting("the text to continue is empty: give it a few words")
    tokenizer, model = _load(folder, sampling.device)
    ids = tokenizer(
        _asked(tokenizer, prompt, sampling), return_tensors="pt", add_special_tokens=not sampling.chat
    )
    ids = {name: ids[name].to(model.device) for name in ("input_ids", "attention_mask")}
    drawn: dict[str, Any] = {"do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        drawn |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(sampling.seed)
    with torch.inference_mode():
        written = model.generate(
            **ids, **drawn, max_new_tokens=sampling.tokens, pad_token_id=_padding(tokenizer, model)
        )
    return str(tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CannotLoad(f"transformers cannot load {folder}: {why}") from None
    return tokenizer, model.eval().to(device)


def _asked(tokenizer: Any, prompt: str, sampling: Sampling) -> str:
    if not sampling.chat:
        return prompt
    if not getattr(tokenizer, "chat_template", None):
        raise CannotLoad("this model has no chat template: leave out --chat")
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _padding(tokenizer: Any, model: Any) -> int:
    for number in (tokenizer.pad_token_id, tokenizer.eos_token_id, model.config.eos_token_id):
        if isinstance(number, int):
            return number
    return 0

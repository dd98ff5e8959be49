"""How well a finished model tells data that it was not trained on: loss, bits per byte, accuracy; in this process."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.data.dividing import HELD_OUT
from distrai.jobs.data.examples import Reading, Use
from distrai.jobs.data.prepared import source_of
from distrai.jobs.models.generating import CannotLoad
from distrai.training.data.formats import Example, Format

EXAMPLES_MAX = 500
CONTEXT = 1024
_MEASURED = Use("an evaluation", (Format.CHAT, Format.TEXT, Format.PREFERENCE))


@dataclass(frozen=True, slots=True)
class Score:
    """``loss``: nats per token that is scored: of last answers, of the better one of a preference, of all of a text.

    ``accuracy``: the part of tokens that the model would have said itself; ``preferred``: the part of preferences whose
    better answer is likelier, token for token; None for other data.
    """

    loss: float
    bits_per_byte: float
    accuracy: float
    preferred: float | None
    examples: int
    tokens: int


@dataclass
class _Sums:
    """Adds up what was scored."""

    nats: float = 0.0
    hits: int = 0
    tokens: int = 0
    size: int = 0
    better: int = 0
    pairs: int = 0
    examples: int = 0

    def score(self) -> Score:
        bits = self.nats / math.log(2) / max(1, self.size)
        preferred = self.better / self.pairs if self.pairs else None
        count = max(1, self.tokens)
        return Score(self.nats / count, bits, self.hits / count, preferred, self.examples, self.tokens)


def score_model(
    model: str,
    data: str,
    *,
    limit: int = EXAMPLES_MAX,
    context: int = CONTEXT,
    device: str = "cpu",
    tokenizer_of: str = "",
) -> Score:
    """Score a model, a folder or a name on the hub, on data.

    ``tokenizer_of``: the model whose tokenizer and chat template write the examples, if not this one: two scores are
    comparable only if both are of the same text. Raises CannotLoad, BadData, BadSource.
    """
    folder = Path(data)
    reading = Reading(
        str(folder / HELD_OUT) if (folder / HELD_OUT).is_file() else source_of(data), use=_MEASURED
    )
    examples = list(reading.examples(limit))
    reading.report().check()
    tokenizer, loaded = _loaded(model, tokenizer_of or model, device)
    sums = _Sums(examples=len(examples))
    for example in examples:
        _add(sums, loaded, tokenizer, example, context)
    if not sums.tokens:
        raise CannotLoad(f"there is nothing to score within {context} tokens: allow more with --context")
    return sums.score()


def _loaded(model: str, tokenizer_of: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_of, trust_remote_code=False)
        made: Any = AutoModelForCausalLM.from_pretrained(
            model, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotLoad(f"transformers cannot load {model}: {lines[0][:200]}") from None
    return tokenizer, made.eval().to(_device(device))


def _device(name: str) -> Any:
    from distrai.training.device import training_device

    return training_device(name)


def _add(sums: _Sums, model: Any, tokenizer: Any, example: Example, context: int) -> None:
    """Score an example; of a preference both answers, of which the better one counts."""
    scored = [_score(model, ids, start) for ids, start in _rows(tokenizer, example, context)]
    if not scored:
        return
    nats, hits, tokens = scored[0]
    sums.nats, sums.hits, sums.tokens = sums.nats + nats, sums.hits + hits, sums.tokens + tokens
    ids, start = next(_rows(tokenizer, example, context))
    sums.size += len(tokenizer.decode(ids[start:], skip_special_tokens=True).encode())
    if len(scored) == 2:
        sums.pairs += 1
        sums.better += scored[0][0] / scored[0][2] < scored[1][0] / scored[1][2]


def _rows(tokenizer: Any, example: Example, context: int) -> Any:
    """The tokens of an example, at most ``context``, and the first one that is scored."""
    if example.format is Format.TEXT:
        ids = tokenizer(str(example.value["text"]), add_special_tokens=False)["input_ids"][:context]
        if len(ids) > 1:
            yield ids, 1
        return
    for messages in example.conversations:
        at = (
            len(example.value["input"]["messages"])
            if example.format is Format.PREFERENCE
            else len(messages) - 1
        )
        start = _tokens(tokenizer, messages[:at], ask=True)
        ids = _tokens(tokenizer, messages)[:context]
        if len(ids) > len(start):
            yield ids, len(start)


def _tokens(tokenizer: Any, messages: Sequence[dict[str, Any]], *, ask: bool = False) -> list[int]:
    if getattr(tokenizer, "chat_template", None):
        text = str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=ask, tokenize=False))
    else:
        text = "".join(f"{message.get('content') or ''}\n" for message in messages)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _score(model: Any, ids: list[int], start: int) -> tuple[float, int, int]:
    """Nats, tokens said right and tokens from ``start`` on; the token before the first one is there."""
    import torch

    start = max(1, start)
    row = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=row, use_cache=False).logits[0, start - 1 : -1].float()
        wanted = row[0, start:]
        nats = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        hits = int((logits.argmax(-1) == wanted).sum().item())
    return nats, hits, len(ids) - start

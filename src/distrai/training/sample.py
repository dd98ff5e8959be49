"""Writing text with the model, one token after the other."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distrai.training.errors import EmptyPrompt
from distrai.training.tokenizer import Tokenizer

_KEPT_SHARE = 0.75
"""Share of the context that is read again when it is full: then a quarter of it is free for new tokens."""


def generate(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    context: int,
    tokens: int = 256,
    temperature: float = 0.8,
    seed: int = 0,
) -> Iterator[str]:
    """Continue ``prompt`` by ``tokens`` tokens; yields pieces of text as they come, without the prompt.

    The whole distribution is sampled (no top-k); ``temperature`` 0 takes the likeliest token. ``context`` is
    the longest input that the model was trained on. The same seed gives the same text on one machine. Raises
    EmptyPrompt.
    """
    ids = [int(item) for item in tokenizer.encode(prompt)]
    if not ids:
        raise EmptyPrompt("the prompt is empty; give it some text to continue")
    feed = tokenizer.streamer()
    stream = generate_tokens(
        model,
        ids,
        vocabulary=tokenizer.vocabulary,
        context=context,
        tokens=tokens,
        temperature=temperature,
        seed=seed,
    )
    for token in stream:
        piece = feed(token)
        if piece:
            yield piece


def until(pieces: Iterable[str], mark: str) -> Iterator[str]:
    """Pieces of text up to a mark, which is left out; what may be the beginning of one waits for what follows."""
    held = ""
    for piece in pieces:
        held += piece
        before, found, _ = held.partition(mark)
        if found:
            if before:
                yield before
            return
        keep = next(
            size for size in range(min(len(mark) - 1, len(held)), -1, -1) if held.endswith(mark[:size])
        )
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    if held:
        yield held


def generate_tokens(
    model: nn.Module,
    prompt: Sequence[int],
    *,
    vocabulary: int,
    context: int,
    tokens: int,
    temperature: float,
    seed: int,
) -> Iterator[int]:
    """As ``generate``, in token ids below ``vocabulary``. Leaves the model in evaluation mode."""
    assert prompt and context >= 2 and temperature >= 0
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    model.eval()
    seen, unread, cache = list(prompt), list(prompt)[-context:], None
    read = 0
    for _ in range(tokens):
        if read + len(unread) > context:
            unread, cache, read = seen[-max(1, int(context * _KEPT_SHARE)) :], None, 0
        logits, cache = _next_logits(model, torch.tensor([unread], device=device), cache)
        read += len(unread)
        token = _draw(logits[:vocabulary], temperature, generator)
        seen.append(token)
        unread = [token]
        yield token


@torch.inference_mode()
def _next_logits(model: nn.Module, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
    output = model(input_ids=ids, past_key_values=cache, use_cache=True)
    return output.logits[0, -1].float().cpu(), output.past_key_values


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = torch.softmax(logits / temperature, 0)
    return int(torch.multinomial(weights, 1, generator=generator))

"""How good the model is: loss on text that nobody trained on."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from distrai.training.data.dataset import Dataset
from distrai.training.tokenizer import Tokenizer

_BATCH_TOKENS = 4096
"""Tokens in a batch: large enough to be fast, small enough for the logits of large vocabularies."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loss on samples of a split."""

    loss: float
    """Mean, in nats per token."""
    bits_per_byte: float
    """The same per byte of the text that was scored: comparable between tokenizers."""
    samples: int
    tokens: int


def evaluate(
    model: nn.Module, dataset: Dataset, tokenizer: Tokenizer, samples: int, device: torch.device
) -> Evaluation:
    """Score ``samples`` evenly spaced samples, all if there are fewer.

    In fp32, whatever the training precision. Leaves the model in the mode it was in. Raises what reading
    samples raises.
    """
    indices = dataset.evenly(samples)
    size = max(1, _BATCH_TOKENS // dataset.context)
    was_training = model.training
    model.eval()
    nats, scored = [], 0
    try:
        with torch.inference_mode():
            for at in range(0, len(indices), size):
                batch = dataset.batch(indices[at : at + size])
                nats.append(_nats(model, batch.to(device)))
                scored += sum(tokenizer.byte_count(row) for row in batch[:, 1:].tolist())
    finally:
        model.train(was_training)
    tokens, total = len(indices) * dataset.context, math.fsum(nats)
    return Evaluation(total / tokens, total / math.log(2) / max(1, scored), len(indices), tokens)


def _nats(model: nn.Module, batch: torch.Tensor) -> float:
    """The summed cross-entropy of a batch, in nats."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum"
    ).item()

"""How good the model is: loss on samples that nobody trained on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from distrai.training.data.dataset import Dataset
from distrai.training.preference import likelihoods
from distrai.training.scoring import Objective, is_scored, predictions, tokens_of
from distrai.training.tokenizer import Tokenizer

_BATCH_TOKENS = 4096
"""Tokens in a batch: large enough to be fast, small enough for the logits of large vocabularies."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loss on samples of a split."""

    loss: float
    """Mean: nats per scored token; of pairs, what their objective says of a pair."""
    bits_per_byte: float
    """Cross-entropy per byte of the text that was scored, of pairs the chosen one: comparable between tokenizers."""
    samples: int
    tokens: int
    """Tokens that ``bits_per_byte`` is about."""
    accuracy: float | None = None
    """Of pairs: the share in which the chosen answer gained more on the reference than the rejected one."""
    margin: float | None = None
    """Of pairs: by how much, times beta."""
    token_accuracy: float | None = None
    """Of text and conversations: the share of scored tokens that the model held for the likeliest."""


@dataclass
class _Tally:
    """Sums over batches."""

    nats: list[float] = field(default_factory=list)
    tokens: int = 0
    bytes: int = 0
    right: int | None = None
    """Tokens that were the likeliest, if somebody counts them."""
    losses: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def add(self, nats: float, scored: list[list[int]], tokenizer: Tokenizer) -> None:
        self.nats.append(nats)
        self.tokens += sum(map(len, scored))
        self.bytes += sum(map(tokenizer.byte_count, scored))

    def add_pairs(self, loss: float, metrics: Mapping[str, Tensor], pairs: int) -> None:
        self.losses.append(loss * pairs)
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value.item() * pairs)

    def evaluation(self, samples: int) -> Evaluation:
        total = math.fsum(self.nats)
        bits = total / math.log(2) / max(1, self.bytes)
        if not self.losses:
            share = None if self.right is None else self.right / self.tokens
            return Evaluation(total / self.tokens, bits, samples, self.tokens, token_accuracy=share)
        means = {name: math.fsum(values) / samples for name, values in self.metrics.items()}
        return Evaluation(
            math.fsum(self.losses) / samples,
            bits,
            samples,
            self.tokens,
            means.get("accuracy"),
            means.get("margin"),
        )


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    tokenizer: Tokenizer,
    samples: int,
    device: torch.device,
    objective: Objective | None = None,
) -> Evaluation:
    """Score ``samples`` evenly spaced samples, all if there are fewer.

    Text and conversations are scored by their cross-entropy, whatever was trained for, so that runs can be compared.
    Pairs are scored by ``objective``; without one, by the cross-entropy of their chosen answers. In fp32, whatever
    the training precision. Leaves the model in the mode it was in. Raises what reading samples raises.
    """
    indices = dataset.evenly(samples)
    size = max(1, _BATCH_TOKENS // dataset.sample_tokens)
    was_training, tally = model.training, _Tally()
    model.eval()
    try:
        with torch.inference_mode():
            for at in range(0, len(indices), size):
                batch = dataset.batch(indices[at : at + size])
                _score(model, batch, dataset, tokenizer, device, objective, tally)
    finally:
        model.train(was_training)
    return tally.evaluation(len(indices))


def _score(
    model: nn.Module,
    batch: Tensor,
    dataset: Dataset,
    tokenizer: Tokenizer,
    device: torch.device,
    objective: Objective | None,
    tally: _Tally,
) -> None:
    rows = batch[:, : dataset.context + 1]  # of pairs, the chosen ones
    scored = [
        tokens_of(row[keep]).tolist() for row, keep in zip(rows[:, 1:], is_scored(rows[:, 1:]), strict=True)
    ]
    if dataset.layout != "pairs":
        logits, targets = predictions(model, batch.to(device), rows=dataset.layout == "rows")
        nats = functional.cross_entropy(logits.float(), targets, reduction="sum").item()
        tally.right = (tally.right or 0) + int((logits.argmax(-1) == targets).sum())
    elif objective is None:
        nats = -likelihoods(model, rows.to(device)).sum().item()
    else:
        output = objective(model, batch.to(device))
        tally.add_pairs(output.loss.item(), output.metrics, len(batch))
        nats = -output.metrics["chosen"].item() * len(batch)
    tally.add(nats, scored, tokenizer)

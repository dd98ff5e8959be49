"""One peer's inner training with communication switched off: ``utilisation_reference.py RECIPE``.

The model, data, optimiser and inner loop that a peer of this recipe has, and nothing else: no rounds, no codec, no
messages. It says "ready"; for every line ``{"seconds": S}`` at its standard input it trains for S seconds and says how
many tokens that were. The first steps of each time do not count, as caches are cold then.
"""

import json
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from distrai.network.store import BlobStore
from distrai.protocol.recipe import Recipe, parse_recipe
from distrai.runs.recipes import resolve_algorithm
from distrai.training.data.corpus import build_corpus
from distrai.training.data.dataset import Dataset
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import build_model, read_trainable, trainable_layout
from distrai.training.objective import NextToken
from distrai.training.spec import InnerSpec
from distrai.training.tokenizer import load_tokenizer

COLD_STEPS = 5
ENDLESS = 1_000_000
"""More steps than anybody waits for, so that no round ends while time is measured."""


class Reference:
    """A peer that never hears of others."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        blobs, data = BlobStore(folder), recipe.data
        tokenizer = load_tokenizer(data.tokenizer, Path())
        corpus = build_corpus(data, tokenizer, blobs.put, Path())
        self.train_data = Dataset(corpus.manifest, "train", data.context, tokenizer.vocabulary, blobs.read)
        spec = InnerSpec.from_recipe(replace(recipe, algorithm=resolve_algorithm(recipe.algorithm)))
        self.spec = replace(spec, inner_steps=ENDLESS)
        model = build_model(recipe.model, recipe.seed)
        self.start, self.layout = read_trainable(model), trainable_layout(model)
        device = torch.device("cpu")
        self.loop = InnerLoop(model, self.spec, NextToken(), self.train_data.batch, device)

    def train(self, seconds: float) -> dict[str, float]:
        """Steps and tokens, and the wall and CPU seconds that they took, in a stretch of training."""
        ends: list[tuple[float, float]] = []
        until = time.monotonic() + seconds
        self.loop.run(
            self.start,
            InnerState.zeros(self.layout),
            cycle(range(self.train_data.samples_total)),
            1,
            should_stop=lambda: time.monotonic() >= until,
            on_step=lambda *_: ends.append((time.monotonic(), time.process_time())),
        )
        first, last = ends[COLD_STEPS], ends[-1]
        steps = len(ends) - 1 - COLD_STEPS
        return {
            "steps": steps,
            "tokens": steps * self.spec.step_tokens,
            "seconds": last[0] - first[0],
            "cpu_s": last[1] - first[1],
        }


def say(**facts: Any) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


def main() -> None:
    """Train on request, until standard input ends."""
    recipe = parse_recipe(json.loads(Path(sys.argv[1]).read_text()))
    with tempfile.TemporaryDirectory(prefix="utilisation-") as folder:
        reference = Reference(recipe, Path(folder))
        say(ready=True, params=reference.layout.numel)
        for line in sys.stdin:
            say(**reference.train(json.loads(line)["seconds"]))


if __name__ == "__main__":
    main()

"""What all runs of a comparison share: corpus, model, and how a result is looked at."""

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from distrai.algorithms.algorithm import Algorithm
from distrai.comparison.cells import Cell
from distrai.comparison.outcome import Curve, Outcome
from distrai.comparison.plan import Comparison
from distrai.comparison.topologies import topology_of
from distrai.protocol.assignment import DataOrder
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.recipe import RecipeError
from distrai.training.data.corpus import Corpus, build_corpus
from distrai.training.data.dataset import Dataset
from distrai.training.data.documents import Split
from distrai.training.device import training_device
from distrai.training.errors import Diverged
from distrai.training.evaluate import Evaluation, evaluate
from distrai.training.model import build_model, check_fits, load_trainable, trainable_layout
from distrai.training.pretrained import located
from distrai.training.tokenizer import Tokenizer, load_tokenizer


class Laboratory:
    """Builds what a comparison needs, once, and trains cells."""

    def __init__(self, comparison: Comparison, device: str = "auto") -> None:
        self.comparison = comparison
        self.device = training_device(device)
        self._blobs: dict[bytes, bytes] = {}
        self._datasets: dict[Split, Dataset] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The recipe's tokenizer."""
        return load_tokenizer(self.comparison.data.tokenizer, self.comparison.folder)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus, whose shards are kept in memory."""
        return build_corpus(self.comparison.data, self.tokenizer, self._write, self.comparison.folder)

    @property
    def corpus_hash(self) -> str:
        """Names the corpus."""
        return "0x" + self.corpus.blob.hash.hex()

    @cached_property
    def parameters(self) -> int:
        """Numbers that are trained and exchanged."""
        return trainable_layout(self.model(0)).numel

    def model(self, seed: int) -> nn.Module:
        """The initial model of a seed. Raises what building models raises."""
        made = build_model(located(self.comparison.model, self.comparison.folder), seed)
        check_fits(made, self.tokenizer.vocabulary, self.comparison.data.context)
        return made

    def check(self) -> None:
        """Raises RecipeError for an arm that does not fit the model, such as more fragments than layers."""
        layout = trainable_layout(self.model(0))
        for at, arm in enumerate(self.comparison.arms):
            try:
                Algorithm(arm.spec, layout)
            except ValueError as error:
                key, _, rest = str(error).partition(": ")
                problem, _, suggestion = rest.partition("; ")
                hint = suggestion or "change it, or the model"
                raise RecipeError(f"arms[{at}].algorithm.{key}", problem, hint) from None

    def dataset(self, split: Split) -> Dataset:
        """The samples of a split."""
        if split not in self._datasets:
            context, vocabulary = self.comparison.data.context, self.tokenizer.vocabulary
            read = self._blobs.__getitem__
            made = Dataset(self.corpus.manifest, split, context, vocabulary, lambda ref: read(ref.hash))
            self._datasets[split] = made
        return self._datasets[split]

    def samples(self, seed: int, peer: int, first: int, count: int) -> Iterator[int]:
        """What a peer reads from its sample number ``first`` on: its n-th sample is the same in every arm of a seed.

        Peers take turns, sample by sample, in an order that the seed draws; so arms in which everybody does as much
        have read the same samples after as many tokens, whatever their rounds are.
        """
        data, peers = self.dataset("train"), self.comparison.peers
        order = DataOrder(data.samples_total, tagged_hash("comparison-order", seed.to_bytes(8, "little")))
        return (order.sample_at(at * peers + peer) for at in range(first, first + count))

    def train(self, cell: Cell) -> dict[str, Any]:
        """Train a cell; its figures as plain data. ``bits_per_byte`` is None if it diverged, ``why`` says how."""
        wall, cpu = time.monotonic(), time.process_time()
        model, rounds = self.model(cell.seed), cell.rounds(self.comparison.peers)
        curve = Curve(
            self.comparison.looking.curve_points, len(rounds), lambda params: self._curve(model, params)
        )
        why, found, outcome = "", None, Outcome()
        try:
            outcome = topology_of(cell)(self, cell, rounds, model, curve)
            found = self._end(model, outcome.params, cell.split)
            if not found.bits_per_byte < float("inf"):
                raise Diverged("the loss at the end is no number")
        except Diverged as error:
            found, why = None, str(error)
        return {
            "bits_per_byte": None if found is None else found.bits_per_byte,
            "loss": None if found is None else found.loss,
            "why": why,
            "rounds": len(rounds),
            **outcome.figures(),
            "curve": curve.points,
            "wall_s": round(time.monotonic() - wall, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
            "torch": torch.__version__,
        }

    def _write(self, data: bytes) -> BlobRef:
        ref = blob_ref(data)
        self._blobs[ref.hash] = data
        return ref

    def _curve(self, model: nn.Module, params: tuple[Tensor, ...]) -> float:
        return self._look(model, params, "tuning", self.comparison.looking.curve_samples).bits_per_byte

    def _end(self, model: nn.Module, params: tuple[Tensor, ...], split: Split) -> Evaluation:
        looking = self.comparison.looking
        samples = looking.held_out_samples if split == "held_out" else looking.tuning_samples
        return self._look(model, params, split, samples)

    def _look(self, model: nn.Module, params: tuple[Tensor, ...], split: Split, samples: int) -> Evaluation:
        """The loss of ``params``; the model's own parameters are overwritten, as every round does."""
        load_trainable(model, params)
        return evaluate(model, self.dataset(split), self.tokenizer, samples, self.device)

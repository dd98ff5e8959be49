"""One training run of the benchmark of loss against payload: four peers of one arm, in one process.

Nothing here stands in for the real thing: the corpus, the model, the inner loop and data-parallel training are those of
``distrai.training``, payloads are encoded, opened, aggregated and stepped by ``distrai.algorithms``. Only the network
is left out, since it changes no bits. Every arm of a seed starts from the same parameters and reads the same samples.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from common import ROOT
from distrai.algorithms.algorithm import Algorithm, Entry
from distrai.protocol.assignment import Block, DataOrder
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.recipe import DataSection, ModelSection
from distrai.training.baseline import BaselineRound, data_parallel
from distrai.training.data.corpus import Corpus, build_corpus
from distrai.training.data.dataset import Dataset
from distrai.training.data.documents import Split
from distrai.training.errors import Diverged
from distrai.training.evaluate import evaluate
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState, state_at_round_start
from distrai.training.model import build_model, load_trainable, read_trainable, trainable_layout
from distrai.training.objective import NextToken
from distrai.training.spec import InnerSpec
from distrai.training.tokenizer import ByteTokenizer
from loss_cells import BATCH, CONFIG, CONTEXT, PEERS, Cell

CPU = torch.device("cpu")
CURVE_POINTS, CURVE_SAMPLES = 12, 256
TUNING_SAMPLES = 2048


@dataclass
class _Curve:
    """Loss on the tuning split on the way, some points per run."""

    rounds: int
    measure: Callable[[tuple[Tensor, ...]], float]
    points: list[dict[str, float]] = field(default_factory=list)

    def add(self, number: int, steps: int, payload: int, params: tuple[Tensor, ...]) -> None:
        """Take note of a round, if it is one of those that are looked at."""
        if (number * CURVE_POINTS) // self.rounds > ((number - 1) * CURVE_POINTS) // self.rounds:
            value = round(self.measure(params), 5)
            self.points.append({"steps": steps, "payload_bytes": payload, "tuning_bits_per_byte": value})


class Laboratory:
    """The corpus and what trains on it."""

    @cached_property
    def _blobs(self) -> dict[bytes, bytes]:
        return {}

    @cached_property
    def corpus(self) -> Corpus:
        """The default corpus: the source of the running Python's standard library."""
        return build_corpus(
            DataSection(source="python-stdlib", context=CONTEXT, license="PSF-2.0"),
            ByteTokenizer(),
            self._write,
            ROOT,
        )

    def _write(self, data: bytes) -> BlobRef:
        ref = blob_ref(data)
        self._blobs[ref.hash] = data
        return ref

    def dataset(self, split: Split) -> Dataset:
        """The samples of a split."""
        return Dataset(self.corpus.manifest, split, CONTEXT, 256, lambda ref: self._blobs[ref.hash])

    @cached_property
    def _train(self) -> Dataset:
        return self.dataset("train")

    def settings(self) -> dict[str, Any]:
        """All that every cell has in common; goes into the report."""
        model = self._model(0)
        return {
            "peers": PEERS,
            "batch_per_peer": BATCH,
            "context": CONTEXT,
            "model": CONFIG,
            "parameters": trainable_layout(model).numel,
            "corpus": "python-stdlib",
            "corpus_hash": "0x" + self.corpus.blob.hash.hex(),
            "split_bytes": {
                split: self.corpus.manifest.tokens(split) for split in ("train", "tuning", "held_out")
            },
        }

    def train(self, cell: Cell) -> dict[str, Any]:
        """Train a cell; its figures as plain data. ``bits_per_byte`` is None if it diverged."""
        began_wall, began_cpu = time.monotonic(), time.process_time()
        model = self._model(cell.seed)
        curve = _Curve(cell.rounds, lambda params: self._bits(model, params, "tuning", CURVE_SAMPLES))
        run = _data_parallel if cell.arm.preset == "ddp" else _low_communication
        try:
            params, payload = run(cell, model, self._train, curve)
            samples = TUNING_SAMPLES if cell.split == "tuning" else self.dataset(cell.split).samples_total
            bits: float | None = self._bits(model, params, cell.split, samples)
        except Diverged:
            bits, payload = None, 0
        steps = cell.rounds * cell.arm.inner_steps
        return {
            "cell": asdict(cell),
            "rounds": cell.rounds,
            "steps": steps,
            "tokens": steps * PEERS * BATCH * CONTEXT,
            "bits_per_byte": bits if bits is not None and math.isfinite(bits) else None,
            "payload_bytes_per_peer": payload,
            "curve": curve.points,
            "wall_s": round(time.monotonic() - began_wall, 1),
            "cpu_s": round(time.process_time() - began_cpu, 1),
        }

    def _model(self, seed: int) -> nn.Module:
        section = ModelSection(source="config", license="Apache-2.0", config=CONFIG)
        return build_model(section, seed)

    def _bits(self, model: nn.Module, params: tuple[Tensor, ...], split: Split, samples: int) -> float:
        """Bits per byte of ``params``; the model's own parameters are overwritten, as every round does."""
        load_trainable(model, params)
        return evaluate(model, self.dataset(split), ByteTokenizer(), samples, CPU).bits_per_byte


def sample_order(seed: int, samples: int) -> DataOrder:
    """The order in which a seed reads the data, whatever the arm."""
    return DataOrder(samples, tagged_hash("benchmark-order", seed.to_bytes(8, "little")))


def block_of(round_number: int, peer: int, inner: InnerSpec) -> Block:
    """What a peer (from 0) reads in a round (from 1): blocks follow one another, peer after peer."""
    return Block(((round_number - 1) * PEERS + peer) * inner.round_samples, inner.round_samples)


def _data_parallel(
    cell: Cell, model: nn.Module, train: Dataset, curve: _Curve
) -> tuple[tuple[Tensor, ...], int]:
    inner = cell.inner_spec("kept")
    order = sample_order(cell.seed, train.samples_total)

    def samples_of(round_number: int, step: int, peer: int) -> list[int]:
        block = block_of(round_number, peer, inner)
        return [order.sample_at(at) for at in block.step_positions(step - 1, inner.step_samples)]

    def on_round(done: BaselineRound) -> None:
        curve.add(done.round, done.round * inner.inner_steps, done.bytes_up, done.params)

    done = data_parallel(model, inner, NextToken(), train.batch, samples_of, PEERS, CPU, on_round)
    return done.params, done.bytes_up


@dataclass
class _Peer:
    """What a peer keeps between rounds."""

    member: bytes
    inner: InnerState | None = None
    feedback: tuple[Tensor, ...] | None = None


def _low_communication(
    cell: Cell, model: nn.Module, train: Dataset, curve: _Curve
) -> tuple[tuple[Tensor, ...], int]:
    algorithm = Algorithm(cell.arm.spec(cell.outer_lr), trainable_layout(model))
    inner = cell.inner_spec(algorithm.spec.inner_state)
    order = sample_order(cell.seed, train.samples_total)
    loop = InnerLoop(model, inner, NextToken(), train.batch, CPU)
    state = algorithm.initial_state(read_trainable(model))
    peers = [_Peer(bytes([at]) * 32) for at in range(PEERS)]

    def samples(block: Block) -> Iterator[int]:
        return (order.sample_at(block.start + at) for at in range(block.length))

    for number in range(1, cell.rounds + 1):
        entries = []
        for at, peer in enumerate(peers):
            begin = state_at_round_start(inner, algorithm.layout, number, peer.inner, state.moments)
            block = block_of(number, at, inner)
            result = loop.run(state.params, begin, samples(block), number, seed=number)
            delta = algorithm.delta(state.params, result.local)
            encoded = algorithm.encode(delta, result.state.moments, peer.feedback)
            peer.inner, peer.feedback = result.state, encoded.feedback(accepted=True)
            entries.append(Entry(peer.member, result.tokens, encoded.payload))
        stepped = algorithm.step(state, entries)
        if not all(stepped.weights):
            raise Diverged(f"updates of round {number} did not count: {stepped.reasons}")
        state = stepped.state
        curve.add(number, number * inner.inner_steps, number * algorithm.payload_size, state.params)
    return state.params, cell.rounds * algorithm.payload_size

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from distrai.training.data.dataset import Dataset
from distrai.training.data.layouts import TOKEN_MASK, UNSCORED
from distrai.training.data.manifest import CorpusManifest, Shard, Splits
from distrai.training.evaluate import evaluate
from distrai.training.model import build_model
from distrai.training.preference import DirectPreference
from distrai.training.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from training.tiny import CONTEXT, GPT2, model_section, pairs_of, row_of

CPU = torch.device("cpu")
BYTES = ByteTokenizer()


def test_it_is_the_mean_cross_entropy_of_evenly_spaced_samples(model, held_out):
    found = evaluate(model, held_out, BYTES, 7, CPU)
    batch = held_out.batch([at * held_out.samples_total // 7 for at in range(7)])
    logits = model(input_ids=batch[:, :-1]).logits
    expected = functional.cross_entropy(logits.double().reshape(-1, 256), batch[:, 1:].reshape(-1)).item()
    assert found.loss == pytest.approx(expected, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(expected / math.log(2), rel=1e-6)
    assert (found.samples, found.tokens) == (7, 7 * CONTEXT)
    right = (logits.argmax(-1) == batch[:, 1:]).double().mean().item()
    assert found.token_accuracy == pytest.approx(right) and right > 0


def test_a_model_that_knows_nothing_needs_eight_bits(model, held_out):
    with torch.no_grad():
        for item in model.parameters():
            item.zero_()
    found = evaluate(model, held_out, BYTES, 1000, CPU)
    assert found.loss == pytest.approx(math.log(256)) and found.bits_per_byte == pytest.approx(8)
    assert found.samples == held_out.samples_total


def test_bits_are_per_byte_of_text_not_per_token(model, held_out):
    class Double(HuggingFaceTokenizer):
        def byte_count(self, ids):
            return 2 * len(ids)

    plain, double = (evaluate(model, held_out, kind, 5, CPU) for kind in (BYTES, Double(BYTES.to_fast())))
    assert double.loss == plain.loss and double.bits_per_byte == pytest.approx(plain.bits_per_byte / 2)


def test_the_batch_size_does_not_matter(model, held_out, monkeypatch):
    whole = evaluate(model, held_out, BYTES, 9, CPU)
    monkeypatch.setattr("distrai.training.evaluate._BATCH_TOKENS", 2 * CONTEXT)
    assert evaluate(model, held_out, BYTES, 9, CPU).loss == pytest.approx(whole.loss, rel=1e-6)


def test_nothing_is_dropped_out(held_out):
    net = build_model(model_section(GPT2 | {"resid_pdrop": 0.5}), seed=1).train()
    found = [evaluate(net, held_out, BYTES, 5, CPU) for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_stays(model, held_out, training):
    model.train(training)
    evaluate(model, held_out, BYTES, 1, CPU)
    assert model.training is training


def dataset_of(samples, layout, store):
    """A data set of given rows or pairs, all of it held out."""
    data = store.write(samples.astype("<u4").tobytes())
    shard = (Shard("0x" + data.hash.hex(), data.size, data.size // 4),)
    manifest = CorpusManifest(
        format="distrai/corpus/1", source="x", token_dtype="u32", tokenizer_hash="0x" + "00" * 32, license="MIT",
        splits=Splits(train=(), tuning=(), held_out=shard), layout=layout,
    )  # fmt: skip
    return Dataset(manifest, "held_out", CONTEXT, 256, store.read)


def test_of_rows_what_is_scored_is_measured_by_its_bytes(model, store):
    rows = np.stack([row_of(2, 9, seed=1), row_of(5, 3, seed=2), row_of(9, 1, seed=3)])
    found = evaluate(model, dataset_of(rows, "rows", store), BYTES, 9, CPU)
    nats = []
    for row in torch.from_numpy(rows):
        ids = row & TOKEN_MASK
        each = functional.cross_entropy(model(input_ids=ids[None, :-1]).logits[0], ids[1:], reduction="none")
        nats.append(each[row[1:] < UNSCORED])
    assert (found.samples, found.tokens) == (3, 13)
    assert found.loss == pytest.approx(torch.cat(nats).mean().item(), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2), rel=1e-9)
    assert found.accuracy is None and found.margin is None


def test_of_pairs_the_objective_and_the_chosen_answers_are_measured(model, store, monkeypatch):
    pairs = np.stack([pairs_of(2, 3 + at % 5, 4, seed=at) for at in range(7)])
    dataset = dataset_of(pairs, "pairs", store)
    objective = DirectPreference(0.5, build_model(model_section(), seed=2))
    whole = objective(model, dataset.batch(range(7)))
    chosen = dataset_of(pairs[:, : CONTEXT + 1], "rows", store)
    alone = evaluate(model, chosen, BYTES, 7, CPU)
    for tokens in (4096, 1):  # all pairs in a batch, or each in one of its own
        monkeypatch.setattr("distrai.training.evaluate._BATCH_TOKENS", tokens)
        found = evaluate(model, dataset, BYTES, 7, CPU, objective)
        assert found.loss == pytest.approx(whole.loss.item(), rel=1e-5)
        assert found.accuracy == pytest.approx(whole.metrics["accuracy"].item())
        assert found.margin == pytest.approx(whole.metrics["margin"].item(), rel=1e-4)
        assert found.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-5)
        assert (found.samples, found.tokens) == (7, alone.tokens)
    plain = evaluate(model, dataset, BYTES, 7, CPU)
    assert plain.loss == pytest.approx(alone.loss, rel=1e-5) and plain.accuracy is None

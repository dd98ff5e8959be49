import math

import pytest
import torch
from torch.nn import functional

from distrai.training.evaluate import evaluate
from distrai.training.model import build_model
from distrai.training.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from training.tiny import CONTEXT, GPT2, model_section

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

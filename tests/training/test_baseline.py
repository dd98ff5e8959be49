from dataclasses import replace

import pytest
import torch

from distrai.training.baseline import data_parallel
from distrai.training.evaluate import evaluate
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import build_model, read_trainable, trainable_layout
from distrai.training.objective import NextToken
from distrai.training.tokenizer import ByteTokenizer
from training.tiny import CONTEXT, model_section

CPU = torch.device("cpu")


def block(number, step, peer, peers=1):
    first = 2 * (((number - 1) * 4 + step - 1) * peers + peer)
    return range(first, first + 2)


def test_one_peer_is_plain_training(model, spec, train):
    layout, params = trainable_layout(model), read_trainable(model)
    done = data_parallel(model, spec, NextToken(), train.batch, block, 1, CPU)
    loop = InnerLoop(build_model(model_section(), seed=1), spec, NextToken(), train.batch, CPU)
    state = InnerState.zeros(layout)
    for number in range(1, 5):
        result = loop.run(params, state, range(8 * (number - 1), 8 * number), number)
        params, state = result.local, result.state
    assert all(torch.equal(a, b) for a, b in zip(done.params, params, strict=True))
    assert done.bytes_up == 4 * layout.numel * 16


def test_peers_average_their_gradients_at_every_step(spec, train):
    """Two peers with batches of 2 are one with batches of 4 that are the same samples."""
    two, one = (build_model(model_section(), seed=1) for _ in range(2))
    seen = []
    done = data_parallel(
        two, spec, NextToken(), train.batch, lambda r, s, p: block(r, s, p, 2), 2, CPU, on_round=seen.append
    )
    wide = replace(spec, batch=4)
    single = data_parallel(
        one, wide, NextToken(), train.batch, lambda r, s, p: [*block(r, s, 0, 2), *block(r, s, 1, 2)], 1, CPU
    )
    for first, second in zip(done.params, single.params, strict=True):
        assert torch.allclose(first, second, atol=1e-3)
    assert done.loss_mean == pytest.approx(single.loss_mean, rel=1e-4)
    assert [item.round for item in seen] == [1, 2, 3, 4] and seen[-1] is done


def test_it_learns(model, spec, train, held_out):
    before = evaluate(model, held_out, ByteTokenizer(), 20, CPU).loss
    data_parallel(model, spec, NextToken(), train.batch, lambda r, s, p: block(r, s, p, 2), 2, CPU)
    assert evaluate(model, held_out, ByteTokenizer(), 20, CPU).loss < before - 0.5
    assert train.context == CONTEXT

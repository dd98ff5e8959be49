from dataclasses import replace

import pytest
import torch
from torch import nn

from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState, Restart
from distrai.training.model import build_model, read_trainable, trainable_layout, trainable_parameters
from distrai.training.objective import NextToken
from distrai.training.optimisers import MUON_MOMENTUM, build_optimiser, hidden_matrices, moment_decays
from training.tiny import GPT2, model_section

CPU = torch.device("cpu")


class Two(nn.Module):
    """A matrix and a vector."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 15).view(3, 5))
        self.vector = nn.Parameter(torch.linspace(1, 2, 4))


def gradients(count):
    made = torch.Generator().manual_seed(5)
    return [[torch.randn(shape, generator=made) for shape in ((3, 5), (4,))] for _ in range(count)]


def stepped(spec, state, grads, rate=0.01):
    """The net after steps by these gradients, and the state of its optimiser."""
    net = Two()
    optimiser = build_optimiser(spec, net, state)
    for step in grads:
        for item, grad in zip(net.parameters(), step, strict=True):
            item.grad = grad.clone()
        optimiser.step(rate)
    return [item.detach() for item in net.parameters()], *optimiser.moments()


def zeros():
    return InnerState.zeros(trainable_layout(Two()))


def marked(state, where, steps=0):
    return replace(state, restart=Restart(where, steps))


def nowhere(value=False):
    return tuple(torch.full(item.shape, value) for item in Two().parameters())


def close(first, second):
    return all(torch.allclose(a, b, rtol=2e-6, atol=1e-7) for a, b in zip(first, second, strict=True))


def test_masked_adamw_is_adamw_where_nothing_restarted(spec):
    spec = replace(spec, weight_decay=0.3)
    _, m, v = stepped(spec, zeros(), gradients(3))
    for state in (zeros(), InnerState(m, v, 3)):
        plain, masked = (stepped(spec, each, gradients(6)) for each in (state, marked(state, nowhere())))
        for one, other in zip(plain, masked, strict=True):
            assert close(one, other)
    everywhere = stepped(spec, marked(zeros(), nowhere(True)), gradients(6))
    assert close(everywhere[0], stepped(spec, zeros(), gradients(6))[0])


def test_a_restarted_coordinate_has_the_bias_of_a_young_m_and_the_v_of_an_old_one(spec):
    spec = replace(spec, weight_decay=0.0, betas=(0.9, 0.95))
    _, m, v = stepped(spec, zeros(), gradients(20))
    where = tuple(torch.rand(item.shape) < 0.5 for item in m)
    m = tuple(item.masked_fill(at, 0.0) for item, at in zip(m, where, strict=True))
    params, after, _ = stepped(spec, marked(InnerState(m, v, 20), where), gradients(4))
    before = [item.detach().double() for item in Two().parameters()]
    for place, start in enumerate(before):
        first, second = m[place].double(), v[place].double()
        for step, grads in enumerate(gradients(4), start=1):
            grad = grads[place].double()
            first = 0.9 * first + 0.1 * grad
            second = 0.95 * second + 0.05 * grad**2
            bias = torch.where(where[place], 1 - 0.9**step, 1 - 0.9 ** (20 + step))
            start -= 0.01 * (first / bias) / ((second / (1 - 0.95 ** (20 + step))).sqrt() + spec.eps)
        assert torch.allclose(params[place].double(), start, rtol=1e-5, atol=1e-6)
        assert torch.allclose(after[place].double(), first, rtol=1e-5, atol=1e-6)
    plain, _, _ = stepped(spec, InnerState(m, v, 20), gradients(4))
    assert not close(plain, params)


@pytest.mark.parametrize("kind", ["adamw", "muon", "sgd", "masked"])
def test_an_optimiser_goes_on_where_it_was_and_leaves_its_start_alone(spec, kind):
    spec = replace(spec, inner_optimiser="adamw" if kind == "masked" else kind)
    start = zeros() if kind != "masked" else marked(zeros(), nowhere(True))
    whole, m, v = stepped(spec, start, gradients(6))
    _, half_m, half_v = stepped(spec, start, gradients(6)[:3])
    net = Two()
    restart = start.restart and replace(start.restart, steps=3)
    for count, state in ((3, start), (6, InnerState(half_m, half_v, 3, restart))):
        optimiser = build_optimiser(spec, net, state)
        for step in gradients(6)[count - 3 : count]:
            for item, grad in zip(net.parameters(), step, strict=True):
                item.grad = grad.clone()
            optimiser.step(0.01)
    assert all(torch.equal(a, b) for a, b in zip(whole, net.parameters(), strict=True))
    for mine, theirs in zip(optimiser.moments(), (m, v), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert all(not item.any() for item in (*start.m, *start.v))


def test_sgd_moves_by_the_gradient_times_the_rate_and_keeps_nothing(spec):
    spec = replace(spec, inner_optimiser="sgd", weight_decay=0.5)
    (matrix, vector), m, v = stepped(spec, zeros(), gradients(1), rate=0.25)
    grads = gradients(1)[0]
    assert torch.equal(matrix, Two().matrix - 0.25 * grads[0])
    assert torch.equal(vector, Two().vector - 0.25 * grads[1])
    assert not any(item.any() for item in (*m, *v))


def test_muon_is_for_hidden_matrices_alone(spec):
    net = build_model(model_section(GPT2 | {"tie_word_embeddings": False}), seed=1)
    names = {id(item): name for name, item in net.named_parameters()}
    hidden = {names[key] for key in hidden_matrices(net)}
    assert {"transformer.h.0.attn.c_attn.weight", "transformer.h.0.mlp.c_fc.weight"} <= hidden
    assert not hidden & {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}
    assert all(net.get_parameter(name).ndim == 2 for name in hidden)
    decays = dict(
        zip(
            (names[id(item)] for item in trainable_parameters(net)),
            moment_decays(replace(spec, inner_optimiser="muon"), net),
            strict=True,
        )
    )
    assert decays["transformer.h.0.mlp.c_fc.weight"] == (MUON_MOMENTUM, 0.0)
    assert decays["transformer.wte.weight"] == decays["transformer.ln_f.weight"] == spec.betas


def test_muon_moves_matrices_alike_in_all_directions_and_others_by_adamw(spec):
    spec = replace(spec, inner_optimiser="muon", weight_decay=0.0)
    params, m, v = stepped(spec, zeros(), gradients(1))
    values = torch.linalg.svdvals(Two().matrix - params[0])
    assert values.min() > 0.5 * values.max() > 0
    assert torch.allclose(m[0], (1 - MUON_MOMENTUM) * gradients(1)[0][0]) and not v[0].any()
    adamw = stepped(replace(spec, inner_optimiser="adamw"), zeros(), gradients(1))
    assert torch.equal(params[1], adamw[0][1]) and torch.equal(v[1], adamw[2][1])


@pytest.mark.parametrize(("kind", "lr"), [("muon", 1e-2), ("sgd", 0.5)])
def test_it_trains(spec, train, kind, lr):
    net = build_model(model_section(), seed=1)
    spec = replace(spec, inner_optimiser=kind, inner_steps=30, rounds=1, lr=lr, schedule="constant")
    losses = []
    loop = InnerLoop(net, spec, NextToken(), train.batch, CPU)
    loop.run(
        read_trainable(net),
        InnerState.zeros(trainable_layout(net)),
        [0, 1] * 30,
        1,
        on_step=lambda _, loss: losses.append(loss),
    )
    assert losses[-1] < losses[0] - 1

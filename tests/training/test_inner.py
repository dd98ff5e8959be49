from dataclasses import replace
from math import isnan

import pytest
import torch
from torch.nn import functional

from distrai.training.errors import CannotCompile, Diverged, NotEnoughSamples
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState, as_begun
from distrai.training.model import build_model, mark_trainable, read_trainable, trainable_layout
from distrai.training.objective import NextToken
from training.tiny import GPT2, model_section

CPU = torch.device("cpu")


@pytest.fixture
def make(model, train):
    def loop(spec, net=model):
        return InnerLoop(net, spec, NextToken(), train.batch, CPU)

    return loop


@pytest.fixture
def start(model):
    return read_trainable(model)


@pytest.fixture
def fresh(model):
    return InnerState.zeros(trainable_layout(model))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def close(first, second):
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, second, strict=True))


def equal(first, second):
    return (
        same(first.local, second.local)
        and same(first.state.m, second.state.m)
        and same(first.state.v, second.state.v)
        and (first.state.steps, first.loss_mean) == (second.state.steps, second.loss_mean)
    )


def test_the_same_input_gives_the_same_bits_and_is_not_changed(make, spec, start, fresh):
    copies = [tensor.clone() for tensor in (*start, *fresh.m, *fresh.v)]
    first = make(spec).run(start, fresh, range(8), 1)
    assert same(copies, (*start, *fresh.m, *fresh.v))
    again = make(spec).run(start, first.state, range(8), 2)
    kept = [tensor.clone() for tensor in (*first.local, *first.state.m, *first.state.v)]
    assert equal(again, make(spec).run(start, first.state, range(8), 2))
    assert same(kept, (*first.local, *first.state.m, *first.state.v))
    assert not same(first.local, again.local)


def test_dropout_is_drawn_from_the_seed_alone(train, spec):
    net = build_model(model_section(GPT2 | {"resid_pdrop": 0.5}), seed=1)
    before, state = read_trainable(net), InnerState.zeros(trainable_layout(net))
    loop = InnerLoop(net, spec, NextToken(), train.batch, CPU)
    first = loop.run(before, state, range(8), 1, seed=3)
    outside = torch.random.get_rng_state()
    torch.rand(5)
    assert equal(first, loop.run(before, state, range(8), 1, seed=3))
    assert not same(first.local, loop.run(before, state, range(8), 1, seed=4).local)
    torch.random.set_rng_state(outside)
    loop.run(before, state, range(8), 1, seed=5)
    assert torch.equal(outside, torch.random.get_rng_state())


def test_it_is_adamw_with_clipping_and_decay_on_matrices_only(make, model, spec, start, fresh, train):
    """Against AdamW written out by hand from the paper, in float64 where it is state."""
    spec = replace(spec, clip=0.05, weight_decay=0.3, betas=(0.8, 0.9), eps=1e-6)
    result = make(spec).run(start, fresh, range(8), 2)
    net = build_model(model_section(), seed=1)
    params = [item.detach().double().clone() for item in net.parameters()]
    m, v = ([torch.zeros_like(item) for item in params] for _ in range(2))
    for step in range(1, 5):
        with torch.no_grad():
            for item, value in zip(net.parameters(), params, strict=True):
                item.copy_(value)
        batch = train.batch([2 * step - 2, 2 * step - 1])
        logits = net(input_ids=batch[:, :-1]).logits
        loss = functional.cross_entropy(logits.reshape(-1, 256), batch[:, 1:].reshape(-1))
        grads = [item.double() for item in torch.autograd.grad(loss, list(net.parameters()))]
        norm = sum((item**2).sum() for item in grads).sqrt()
        assert norm > 0.05
        rate = spec.learning_rate((1 + step / 4) / 4)
        for at, grad in enumerate(grads):
            clipped = grad * (0.05 / (norm + 1e-6))
            m[at] = 0.8 * m[at] + 0.2 * clipped
            v[at] = 0.9 * v[at] + 0.1 * clipped**2
            if params[at].ndim >= 2:
                params[at] *= 1 - rate * 0.3
            params[at] -= rate * (m[at] / (1 - 0.8**step)) / ((v[at] / (1 - 0.9**step)).sqrt() + 1e-6)
    assert close(result.local, [item.float() for item in params])
    assert close(result.state.m, [item.float() for item in m])
    assert close(result.state.v, [item.float() for item in v])


def test_accumulated_micro_batches_are_one_batch(make, spec, start, fresh):
    whole = make(replace(spec, batch=4, clip=0.0)).run(start, fresh, range(16), 1)
    parts = make(replace(spec, batch=1, accumulation=4, clip=0.0)).run(start, fresh, range(16), 1)
    assert close(whole.state.m, parts.state.m)
    assert whole.tokens == parts.tokens == 4 * 4 * 16
    assert whole.loss_mean == pytest.approx(parts.loss_mean, rel=1e-5)


def test_a_kept_state_goes_on_where_it_was(make, spec, start, fresh):
    constant = replace(spec, schedule="constant", warmup=0.0)
    whole = make(constant).run(start, fresh, range(8), 1)
    half = replace(constant, inner_steps=2)
    first = make(half).run(start, fresh, range(4), 1)
    stored = InnerState.from_bytes(first.state.to_bytes(), trainable_layout(make(half)._model))
    second = make(half).run(first.local, stored, range(4, 8), 2)
    assert same(whole.local, second.local) and same(whole.state.v, second.state.v)
    assert second.state.steps == whole.state.steps == 4
    reset = make(half).run(first.local, fresh, range(4, 8), 2)
    assert not same(whole.local, reset.local)


def test_the_rate_follows_the_round_whatever_the_state_has_seen(make, spec, start, fresh):
    """The first step of Adam from zero moments moves every coordinate with a gradient by the learning rate."""
    plain = replace(spec, weight_decay=0.0, clip=0.0, warmup=0.0)
    for number in (1, 3):
        result = make(plain).run(start, fresh, range(2), number, steps=1)
        moved = torch.cat([delta.abs().flatten() for delta in result.delta(start)]).max()
        assert moved == pytest.approx(plain.learning_rate(plain.position(number, 1)), rel=1e-3)


def test_a_steps_count_says_how_the_moments_are_corrected(make, spec, start, fresh):
    first = make(spec).run(start, fresh, range(8), 1)
    assert first.state.steps == 4
    later = InnerState(first.state.m, first.state.v, 400)
    assert not same(
        make(spec).run(start, later, range(8), 2).local, make(spec).run(start, first.state, range(8), 2).local
    )


def test_the_delta_points_down_the_loss(make, spec, start, fresh):
    result = make(spec).run(start, fresh, range(8), 1)
    for before, delta, after in zip(start, result.delta(start), result.local, strict=True):
        assert torch.equal(before - after, delta)
    longer = make(replace(spec, inner_steps=30, rounds=1)).run(start, fresh, [0, 1] * 30, 1)
    assert longer.loss_mean < result.loss_mean


def test_it_stops_when_it_is_told_to(make, spec, start, fresh):
    seen = []
    stopped = make(spec).run(
        start,
        fresh,
        range(8),
        1,
        should_stop=lambda: len(seen) == 2,
        on_step=lambda step, loss: seen.append((step, loss)),
    )
    assert [step for step, _ in seen] == [1, 2] and stopped.steps == stopped.state.steps == 2
    assert stopped.tokens == 2 * 2 * 16
    assert stopped.loss_mean == pytest.approx(sum(loss for _, loss in seen) / 2)
    assert equal(stopped, make(spec).run(start, fresh, range(4), 1, steps=2))
    nothing = make(spec).run(start, fresh, range(8), 1, should_stop=lambda: True)
    assert (nothing.steps, nothing.tokens) == (0, 0) and isnan(nothing.loss_mean)
    assert same(nothing.local, start)


@pytest.mark.parametrize("optimiser", ["adamw", "muon", "sgd", "masked"])
def test_two_segments_of_a_round_give_the_bits_of_one(train, spec, optimiser):
    kind = "adamw" if optimiser == "masked" else optimiser
    spec = replace(spec, inner_optimiser=kind, accumulation=2, inner_state="public")
    net = build_model(model_section(GPT2 | {"resid_pdrop": 0.3}), seed=1)
    before, state = read_trainable(net), InnerState.zeros(trainable_layout(net), 8)
    if optimiser == "masked":
        state = as_begun(spec, state)
    loop, told = InnerLoop(net, spec, NextToken(), train.batch, CPU), []
    whole = loop.run(before, state, range(16), 3, seed=3)
    samples = iter(range(16))
    first = loop.run(before, state, samples, 3, steps=1, seed=3)
    later = loop.run(
        first.local,
        first.state,
        samples,
        3,
        first_step=2,
        seed=3,
        on_step=lambda step, _: told.append(step),
    )
    assert equal(later.after(first), whole) and later.after(first).tokens == whole.tokens
    assert told == [2, 3, 4]


def test_it_seals_what_is_there_when_it_is_told_to_finish(make, spec, start, fresh):
    """At least one step, at the rates of a full round."""
    seen = []
    early = make(spec).run(
        start, fresh, range(8), 1, finish=lambda: len(seen) >= 2, on_step=lambda *step: seen.append(step)
    )
    assert early.steps == 2 and early.tokens == 2 * spec.step_tokens
    assert equal(early, make(spec).run(start, fresh, range(4), 1, steps=2))
    assert make(spec).run(start, fresh, range(8), 1, finish=lambda: True).steps == 1


def test_a_compiled_model_trains_alike(model, train, spec, start, fresh):
    """The eager backend traces as the real one does and needs no compiler."""
    plain = InnerLoop(model, spec, NextToken(), train.batch, CPU).run(start, fresh, range(4), 1, steps=2)
    calls = []

    def traced(graph, _):
        calls.append(graph)
        return graph.forward

    loop = InnerLoop(model, replace(spec, compile=True), NextToken(), train.batch, CPU, backend=traced)
    result = loop.run(start, fresh, range(4), 1, steps=2)
    assert calls and close(result.local, plain.local)


def test_a_machine_that_cannot_compile_is_told_what_to_do(model, train, spec, start, fresh):
    def broken(_graph, _inputs):
        raise RuntimeError("no working C++ compiler found")

    loop = InnerLoop(model, replace(spec, compile=True), NextToken(), train.batch, CPU, backend=broken)
    with pytest.raises(CannotCompile, match=r"compile = false in \[training\]"):
        loop.run(start, fresh, range(4), 1, steps=2)


def test_only_trainable_parameters_move(make, model, spec):
    mark_trainable(model, ["*.mlp.*"])
    frozen = {name: item.clone() for name, item in model.named_parameters() if not item.requires_grad}
    before = read_trainable(model)
    result = make(spec).run(before, InnerState.zeros(trainable_layout(model)), range(8), 1)
    assert len(result.local) == 3 and not same(result.local, before)
    assert all(torch.equal(dict(model.named_parameters())[name], item) for name, item in frozen.items())


def test_too_few_samples_are_refused(make, spec, start, fresh):
    with pytest.raises(NotEnoughSamples):
        make(spec).run(start, fresh, range(7), 1)


def test_divergence_is_said_and_leaves_nothing_behind(make, spec, start, fresh):
    good = make(spec).run(start, fresh, range(8), 1)
    loop = make(spec)
    broken = [torch.full_like(tensor, float("nan")) for tensor in start]
    with pytest.raises(Diverged, match="lower lr"):
        loop.run(broken, fresh, range(8), 1)
    assert equal(good, loop.run(start, fresh, range(8), 1))


def test_bf16_is_used_where_asked_for_and_nothing_is_kept_in_it(make, spec, start, fresh):
    exact = make(spec).run(start, fresh, range(8), 1)
    rough = make(replace(spec, precision="bf16")).run(start, fresh, range(8), 1)
    assert not same(exact.local, rough.local)
    assert exact.loss_mean == pytest.approx(rough.loss_mean, rel=0.02)
    assert {tensor.dtype for tensor in (*rough.local, *rough.state.m)} == {torch.float32}
    assert equal(exact, make(replace(spec, precision="auto")).run(start, fresh, range(8), 1))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_bits_twice_and_nearly_those_of_the_cpu(model, spec, train, start, fresh):
    exact = InnerLoop(model, spec, NextToken(), train.batch, CPU).run(start, fresh, range(8), 1)
    loop = InnerLoop(model, spec, NextToken(), train.batch, torch.device("cuda"))
    first = loop.run(start, fresh, range(8), 1)
    assert equal(first, loop.run(start, fresh, range(8), 1))
    assert first.loss_mean == pytest.approx(exact.loss_mean, rel=1e-3)
    assert {tensor.device.type for tensor in (*first.local, *first.state.m)} == {"cpu"}

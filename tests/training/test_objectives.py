"""What is minimised, against values worked out in another way, and by every objective in rounds cut anywhere."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from distrai.protocol.recipe import AdapterSection, PreferenceSection, TeacherSection
from distrai.training.adapters import add_adapter
from distrai.training.data.layouts import PADDING, UNSCORED, layout_of
from distrai.training.distillation import Distillation, check_teacher
from distrai.training.errors import NoReference, TeacherDiffers
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import build_model, read_trainable, trainable_layout
from distrai.training.objective import NextToken, build_objective
from distrai.training.preference import DirectPreference
from distrai.training.tokenizer import ByteTokenizer, load_tokenizer
from helpers.toy_models import toy_tokenizer
from training.tiny import CONTEXT, GPT2, GRANITE, model_section, pairs_of, row_of, section

CPU = torch.device("cpu")
LLAMA = {**GRANITE, "model_type": "llama"}
QWEN3 = {**GRANITE, "model_type": "qwen3", "head_dim": 8}
WIDE = {"initializer_range": 1.0}
"""Parameters spread wide, so that a model has opinions."""


def made(config=GRANITE, seed=1, **changes):
    return build_model(model_section({**config, **WIDE, **changes}), seed)


def rows(*sizes):
    return torch.from_numpy(
        np.stack([row_of(asked, said, seed=at) for at, (asked, said) in enumerate(sizes)])
    )


def log_probabilities(model, row):
    """Of every token of a row without its padding, in float64: (place, token, distribution) where it is scored."""
    row = [entry for entry in row.tolist() if entry != PADDING]
    ids = [entry & (UNSCORED - 1) for entry in row]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0].double().numpy()
    return [
        (at, ids[at + 1], logits[at] - np.log(np.exp(logits[at]).sum()))
        for at in range(len(ids) - 1)
        if row[at + 1] < UNSCORED
    ]


@pytest.mark.parametrize("config", [GRANITE, LLAMA, QWEN3, GPT2], ids=lambda config: config["model_type"])
def test_padding_on_the_right_changes_nothing_that_is_scored(config):
    model = made(config).eval()
    batch = rows((4, 3), (1, 10), (6, 2))
    padded = model(input_ids=(batch & (UNSCORED - 1))[:, :-1]).logits
    for at, row in enumerate(batch):
        length = int((row != PADDING).sum()) - 1
        alone = model(input_ids=(row[:length] & (UNSCORED - 1))[None]).logits[0]
        torch.testing.assert_close(padded[at, :length], alone, rtol=1e-5, atol=1e-5)
        other = row.clone()
        other[length + 1 :] |= 77  # whatever the padding is
        again = model(input_ids=(other & (UNSCORED - 1))[None, :-1]).logits[0]
        assert torch.equal(
            again[:length], model(input_ids=(row & (UNSCORED - 1))[None, :-1]).logits[0, :length]
        )


def test_of_rows_only_what_is_scored_counts():
    model, batch = made(), rows((4, 3), (1, 10))
    output = NextToken(rows=True)(model, batch)
    nats = [-said[token] for row in batch for _, token, said in log_probabilities(model, row)]
    assert output.scored == len(nats) == 13
    assert output.loss.item() == pytest.approx(math.fsum(nats) / 13, rel=1e-5)


@pytest.mark.parametrize("windows", [False, True])
def test_distillation_is_what_its_formula_says(windows):
    student, teacher, batch = made(), made(GPT2, seed=2), rows((4, 3), (1, 10))
    if windows:
        batch = batch & (UNSCORED - 1)
    temperature, weight = 3.0, 0.3
    output = Distillation(teacher, temperature, weight, rows=not windows)(student, batch)

    def softened(values):
        raised = np.exp(values / temperature)
        return raised / raised.sum()

    cross, divergence = [], []
    for row in batch:
        teacher.eval()
        for (_, token, said), (_, _, taught) in zip(
            log_probabilities(student, row), log_probabilities(teacher, row), strict=True
        ):
            cross.append(-said[token])
            p, q = softened(taught), softened(said)
            divergence.append(float((p * np.log(p / q)).sum()))
    count = len(cross)
    assert output.scored == count == (2 * CONTEXT if windows else 13)
    wanted = 0.7 * math.fsum(cross) / count + 0.3 * 9 * math.fsum(divergence) / count
    assert output.loss.item() == pytest.approx(wanted, rel=1e-4) and divergence[0] > 0.01
    assert output.metrics["divergence"].item() == pytest.approx(math.fsum(divergence) / count, rel=1e-4)


def test_a_teacher_is_never_trained_and_keeps_its_precision():
    student, teacher, batch = made(), made(seed=2).to(torch.bfloat16), rows((4, 3))
    objective, seen = Distillation(teacher, 2.0, 1.0, rows=True), []
    teacher.lm_head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    exact = objective(student, batch)
    with torch.autocast("cpu", torch.float16):
        objective(student, batch)
    assert seen == [torch.bfloat16] * 2
    exact.loss.backward()
    assert all(item.grad is None and not item.requires_grad for item in teacher.parameters())
    assert all(item.grad is not None for item in student.parameters())
    same = Distillation(made(), 2.0, 1.0, rows=True)(made(), batch)
    assert same.loss.item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_with_other_tokens_is_refused_in_one_sentence(tmp_path):
    student, tokenizer = made(), ByteTokenizer()
    wide = made(seed=2, vocab_size=320)
    for refused in (
        lambda: Distillation(wide, 2.0, 0.5, rows=True)(student, rows((4, 3))),
        lambda: check_teacher(student, wide, tokenizer, tmp_path),
    ):
        with pytest.raises(TeacherDiffers, match="student has 256 tokens .* teacher 320; .*choose a teacher"):
            refused()
    check_teacher(student, made(seed=2), tokenizer, tmp_path)
    tokenizer.to_fast().save(str(tmp_path / "tokenizer.json"))
    check_teacher(student, made(seed=2), tokenizer, tmp_path)
    toy_tokenizer().save_pretrained(tmp_path / "other")
    check_teacher(student, made(seed=2), load_tokenizer(str(tmp_path / "other")), tmp_path / "other")
    with pytest.raises(TeacherDiffers, match="has another tokenizer than the data .*set tokenizer in"):
        check_teacher(student, made(seed=2), tokenizer, tmp_path / "other")


def test_preferences_are_what_their_formula_says():
    model, reference, beta = made(), made(seed=2).eval(), 0.4
    batch = torch.from_numpy(np.stack([pairs_of(4, 3, 5, seed=1), pairs_of(2, 8, 1, seed=2)]))
    output = DirectPreference(beta, reference)(model, batch)

    def likelihood(net, row):
        return math.fsum(said[token] for _, token, said in log_probabilities(net, row))

    losses, margins, chosen = [], [], []
    for row in batch:
        one, other = row[: CONTEXT + 1], row[CONTEXT + 1 :]
        gains = [likelihood(model, side) - likelihood(reference, side) for side in (one, other)]
        margins.append(beta * (gains[0] - gains[1]))
        losses.append(math.log(1 + math.exp(-margins[-1])))
        chosen.append(likelihood(model, one))
    assert output.scored == 2 and abs(margins[0]) > 0.1
    assert output.loss.item() == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert output.metrics["margin"].item() == pytest.approx(sum(margins) / 2, rel=1e-4)
    assert output.metrics["accuracy"].item() == sum(margin > 0 for margin in margins) / 2
    assert output.metrics["chosen"].item() == pytest.approx(sum(chosen) / 2, rel=1e-4)


def with_adapter(config=GRANITE, **changes):
    return add_adapter(made(config, **changes), AdapterSection(r=4, dropout=0.2))


def with_four_bits(config=GRANITE, **changes):
    """QLoRA; its layers need sides of 64."""
    large = {**GRANITE, "hidden_size": 64, "intermediate_size": 64}
    return build_model(model_section(large, adapter=AdapterSection(r=4, dropout=0.2, quant="nf4")), seed=1)


def test_an_adapter_left_out_is_the_reference():
    """At the start nothing is preferred; later it is what the model as it was says, and dropout is not in it."""
    model, batch = with_adapter(GPT2, resid_pdrop=0.3), torch.from_numpy(pairs_of(4, 3, 5, seed=1)[None])
    objective = DirectPreference(0.4)
    assert objective(model.eval(), batch).loss.item() == pytest.approx(math.log(2))
    with torch.no_grad():
        for name, item in model.named_parameters():
            if "lora_B" in name:
                item.normal_()
    trained = [item.requires_grad for item in model.parameters()]
    output = objective(model, batch)
    wanted = DirectPreference(0.4, made(GPT2, resid_pdrop=0.3))(model, batch)
    assert output.loss.item() == pytest.approx(wanted.loss.item()) and output.loss.item() != pytest.approx(
        math.log(2), rel=1e-3
    )
    model.train()
    before = torch.random.get_rng_state()
    DirectPreference(0.4)._before(model, batch[:, : CONTEXT + 1])
    assert torch.equal(before, torch.random.get_rng_state()) and model.training
    objective(model, batch).loss.backward()
    assert trained == [item.requires_grad for item in model.parameters()]
    assert all((item.grad is not None) == item.requires_grad for item in model.parameters())


def test_a_model_without_adapter_needs_a_reference():
    with pytest.raises(NoReference, match=r"give the reference model, or add \[model.adapter\]"):
        DirectPreference(0.1)(made(), torch.from_numpy(pairs_of(4, 3, 5)[None]))


def recipe_of(objective, form):
    teacher = TeacherSection(path="t", license="MIT", temperature=1.5, weight=0.25)
    return SimpleNamespace(
        data=section(format=form),
        training=SimpleNamespace(objective=objective),
        teacher=teacher if objective == "distill" else None,
        preference=PreferenceSection(beta=0.3) if objective == "dpo" else None,
    )


KINDS = {
    "text": ("next-token", "text", made),
    "chat": ("next-token", "chat", made),
    "taught text": ("distill", "text", made),
    "taught chat": ("distill", "chat", made),
    "pairs": ("dpo", "preferences", made),
    "adapter on pairs": ("dpo", "preferences", with_adapter),
    "adapter on chat": ("next-token", "chat", with_adapter),
    "four bits on pairs": ("dpo", "preferences", with_four_bits),
}


def samples_of(form, indices):
    """Any number of samples in a layout, of very different lengths."""
    makers = {
        "text": lambda at: row_of(8, 8, seed=at) & (UNSCORED - 1),
        "chat": lambda at: row_of(1 + at % 5, 1 + at * 7 % 11, seed=at),
        "preferences": lambda at: pairs_of(1 + at % 5, 1 + at * 7 % 11, 3, seed=at),
    }
    return torch.from_numpy(np.stack([makers[form](at) for at in indices]))


def loop_of(kind, spec, net=None, device=CPU):
    objective, form, make = KINDS[kind]
    net, spec = net or make(GPT2, resid_pdrop=0.3), replace(spec, layout=layout_of(section(format=form)))
    before = made(GPT2).to(device) if kind == "pairs" else None
    others = {"distill": (made(seed=7).to(device), None), "dpo": (None, before)}
    chosen = build_objective(recipe_of(objective, form), *others.get(objective, (None, None)))
    return net, InnerLoop(net, spec, chosen, partial(samples_of, form), device)


@pytest.mark.parametrize("kind", KINDS)
def test_two_segments_of_a_round_give_the_bits_of_one(kind, spec):
    spec = replace(spec, accumulation=2, precision="bf16" if kind == "chat" else "fp32")
    net, loop = loop_of(kind, spec)
    start, state = read_trainable(net), InnerState.zeros(trainable_layout(net))
    whole = loop.run(start, state, range(16), 2, seed=3)
    samples = iter(range(16))
    first = loop.run(start, state, samples, 2, steps=1, seed=3)
    torch.rand(3)
    later = loop.run(first.local, first.state, samples, 2, first_step=2, seed=3)
    for one, other in (
        (whole.local, later.local),
        (whole.state.m, later.state.m),
        (whole.state.v, later.state.v),
    ):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert first.losses + later.losses == whole.losses
    assert not any(torch.equal(a, b) for a, b in zip(start, whole.local, strict=True) if b.any())
    assert loop.run(start, state, range(16), 2, seed=4).losses != whole.losses


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_of_other_sizes_are_one_batch(kind, spec):
    """Every scored token weighs alike, in whichever micro-batch it is."""
    spec = replace(spec, clip=0.0, inner_steps=2)
    net, loop = loop_of(kind, replace(spec, batch=6), KINDS[kind][2](GRANITE))
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    start, state = read_trainable(net), InnerState.zeros(trainable_layout(net))
    whole = loop.run(start, state, range(12), 1, seed=1)
    _, loop = loop_of(kind, replace(spec, batch=1, accumulation=6), net)
    parts = loop.run(start, state, range(12), 1, seed=1)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    for one, other in zip(whole.state.m, parts.state.m, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["pairs", "adapter on pairs", "taught chat", "adapter on chat"])
def test_it_learns(kind, spec):
    spec = replace(spec, rounds=1, inner_steps=40, schedule="constant", warmup=0.0)
    net, loop = loop_of(kind, spec, KINDS[kind][2](GRANITE))
    start, state = read_trainable(net), InnerState.zeros(trainable_layout(net))
    result = loop.run(start, state, [0, 1] * 40, 1)
    assert sum(result.losses[-5:]) < 0.7 * sum(result.losses[:5])
    assert result.tokens == 40 * 2 * CONTEXT * (2 if "pairs" in kind else 1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_gives_the_same_bits_twice(kind, spec):
    net, loop = loop_of(kind, spec, device=torch.device("cuda"))
    start, state = read_trainable(net), InnerState.zeros(trainable_layout(net))
    first, again = (loop.run(start, state, range(8), 1, seed=3) for _ in range(2))
    assert first.losses == again.losses
    assert all(torch.equal(a, b) for a, b in zip(first.local, again.local, strict=True))

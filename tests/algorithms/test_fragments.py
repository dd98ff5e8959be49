"""Fragments: which tensors they hold, their payloads, and rounds that touch nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.oracle import algorithm, entries, tensors
from distrai.algorithms import Entry, Layout
from distrai.algorithms.errors import WrongPayloadSize
from distrai.algorithms.fragments import split

LLAMA = Layout.from_pairs(
    [
        ("model.embed_tokens.weight", (40, 8)),
        *((f"model.layers.{i}.{name}", (8, 8)) for i in range(5) for name in ("attn.q.weight", "mlp.weight")),
        ("model.norm.weight", (8,)),
        ("lm_head.weight", (40, 8)),
    ]
)
REPLICA = {"start": "replica", "inner_state": "kept", "outer": "sgd", "outer_momentum": 0.0, "outer_lr": 1.0}


def test_layers_are_dealt_out_in_turn():
    assert split(LLAMA, 2) == ((0, 1, 2, 5, 6, 9, 10), (3, 4, 7, 8, 11, 12))
    assert split(LLAMA, 3) == ((0, 1, 2, 7, 8), (3, 4, 9, 10), (5, 6, 11, 12))
    assert split(LLAMA, 1) == (tuple(range(13)),)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["transformer.wte", "transformer.h.0.attn", "transformer.h.1.mlp.experts.0.w", "ln"],
            ((0, 1), (2, 3)),
        ),
        (["encoder.layers.0.a", "encoder.layers.1.a", "bridge", "decoder.layers.0.a"], ((0, 3), (1, 2))),
        (["0.weight", "1.weight", "2.weight"], ((0, 2), (1,))),
        (["b10.weight", "layers.7.a", "layers.9.a"], ((0, 1), (2,))),
    ],
)
def test_what_counts_as_a_layer(names, expected):
    assert split(Layout.from_pairs([(name, (2,)) for name in names]), 2) == expected


@given(st.integers(1, 5))
def test_every_tensor_is_in_one_fragment(count):
    held = split(LLAMA, count)
    assert sorted(at for tensors in held for at in tensors) == list(range(13))
    assert all(held)


def test_more_fragments_than_layers_are_refused():
    with pytest.raises(ValueError, match="fragments: 6 are more than the model's 5 layers.*at most 5"):
        algorithm("diloco", LLAMA, fragments=6, **REPLICA)
    with pytest.raises(ValueError, match="0 layers"):
        algorithm("diloco", Layout.from_pairs([("w", (3,))]), fragments=2, **REPLICA)


@pytest.mark.parametrize("preset", ["diloco", "prime", "sparseloco"])
def test_a_round_changes_its_fragment_only_and_has_its_size(preset):
    changes = {"inner_state": "kept"} if preset == "sparseloco" else REPLICA
    algo = algorithm(preset, LLAMA, fragments=3, **changes)
    assert algo.codec_id.endswith("x3")
    state = algo.initial_state(tensors(1, LLAMA))
    touched = []
    for round_number in range(1, 5):
        fragment = algo.fragment_at(round_number)
        delta = algo.delta(tensors(2, LLAMA), tensors(3, LLAMA), round=round_number)
        assert [x.shape for x in delta] == [LLAMA.tensors[at].shape for at in fragment.tensors]
        payload = algo.encode(delta, round=round_number).payload
        assert len(payload) == algo.payload_size_at(round_number) == algo.payload_sizes[fragment.index]
        algo.check(payload, 1e6, round=round_number)
        decoded = algo.decode(payload, round=round_number)
        outside = [x for at, x in enumerate(decoded) if at not in fragment.tensors]
        assert not any(bool(x.any()) for x in outside)
        after = algo.step(state, [Entry(bytes(32), 5, payload)], round=round_number).state
        moved = {at for at in range(13) if not torch.equal(after.params[at], state.params[at])}
        assert moved == set(fragment.tensors)
        touched.append(fragment.index)
        state = after
    assert touched == [0, 1, 2, 0]
    assert algo.payload_size == max(algo.payload_sizes)
    assert sum(algo.payload_sizes) >= algorithm(preset, LLAMA, **changes).payload_size
    with pytest.raises(WrongPayloadSize):
        algo.check(payload, 1e6, round=2)


def test_feedback_covers_the_whole_model_and_changes_in_the_fragment():
    algo = algorithm("sparseloco", LLAMA, fragments=2)
    feedback = None
    for round_number in (1, 2, 3):
        delta = algo.delta(tensors(round_number, LLAMA), tensors(9, LLAMA), round=round_number)
        encoded = algo.encode(delta, feedback=feedback, round=round_number)
        fragment = algo.fragment_at(round_number)
        for future in (encoded.pending_feedback, encoded.carried_feedback):
            assert [x.shape for x in future] == [t.shape for t in LLAMA.tensors]
            for at in range(13):
                before = feedback[at] if feedback else torch.zeros(LLAMA.tensors[at].shape)
                assert torch.equal(future[at], before) == (at not in fragment.tensors)
        feedback = encoded.pending_feedback


@pytest.mark.parametrize("outer", [{}, {"outer": "delayed-nesterov", "outer_delay": 2}])
def test_buffers_of_a_fragment_take_part_only_in_its_rounds(outer):
    """Two fragments in turn are two separate runs of Nesterov."""
    both = algorithm("diloco", LLAMA, fragments=2, start="replica", inner_state="kept", **outer)
    one = algorithm("diloco", LLAMA, inner_state="kept", **outer)
    whole = tensors(0, LLAMA)
    state = alone = both.initial_state(whole)
    for step in range(3):
        delta = tensors(20 + step, LLAMA)
        alone = one.step(alone, [Entry(bytes(32), 1, one.encode(delta).payload)], round=step + 1).state
        for round_number in (2 * step + 1, 2 * step + 2):
            part = both.fragment_at(round_number).part(delta)
            payload = both.encode(part, round=round_number).payload
            state = both.step(state, [Entry(bytes(32), 1, payload)], round=round_number).state
    assert both.state_bytes(state) == one.state_bytes(alone)


def test_averaged_moments_ride_on_every_fragment():
    algo = algorithm("prime", LLAMA, fragments=2)
    assert algo.codec_id == "int8+m8v8x2"
    moments = algo.initial_state(tensors(0, LLAMA)).moments
    for round_number in (1, 2):
        delta = algo.fragment_at(round_number).part(tensors(4, LLAMA))
        payload = algo.encode(delta, moments, round=round_number).payload
        decoded = algo.decode_moments(payload, round=round_number)
        assert all(torch.equal(a, b) for a, b in zip(decoded.m, moments.m, strict=True))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_a_replica_merges_the_fragment(alpha):
    algo = algorithm("diloco", LLAMA, fragments=2, merge_alpha=alpha, **REPLICA)
    state = algo.initial_state(tensors(0, LLAMA))
    local = tensors(1, LLAMA)
    for round_number in (1, 2):
        merged = algo.merge(local, state, round=round_number)
        for at, got in enumerate(merged):
            expected = local[at]
            if at in algo.fragment_at(round_number).tensors and alpha < 1:
                expected = alpha * local[at] + (1 - alpha) * state.params[at] if alpha else state.params[at]
            assert torch.equal(got, expected)


def test_a_start_from_the_common_state_takes_it_all():
    algo = algorithm("diloco", LLAMA)
    state = algo.initial_state(tensors(0, LLAMA))
    assert algo.merge(tensors(1, LLAMA), state) is state.params


def test_a_prediction_is_the_step_with_the_own_update_alone():
    algo = algorithm("prime", LLAMA, inner_steps=30, overlap=5)
    state = algo.initial_state(tensors(0, LLAMA))
    (own,) = entries(algo, 1, tokens=lambda _: 77)
    predicted = algo.predict(state, own.payload, 1)
    assert algo.state_bytes(predicted) == algo.state_bytes(algo.step(state, [own], round=1).state)

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import LAYOUT, algorithm, entries, flat, moments, tensors
from distrai.algorithms import Layout, Moments
from distrai.algorithms.codecs import TopK
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.errors import MomentsOutOfBounds, NonFinitePayload, PayloadError, WrongPayloadSize
from distrai.algorithms.moments import M_MAX, V_MAX
from distrai.algorithms.public_moments import FLOOR, M_OVER_ROOT_V_MAX, PublicMoments

CPU = torch.device("cpu")
SMALL = Layout.from_pairs([("a", (300,)), ("b", (64, 70))])


def payload(seed, layout=LAYOUT):
    return to_uint8(PublicMoments(layout).encode(moments(seed, layout)), CPU)


def large_v(seed):
    """With a v that every m is believable beside."""
    found = moments(seed)
    return to_uint8(PublicMoments(LAYOUT).encode(Moments(found.m, tuple(v + 1.0 for v in found.v))), CPU)


def zeros(layout=LAYOUT):
    empty = tuple(torch.zeros(spec.shape) for spec in layout.tensors)
    return Moments(empty, empty)


def test_size_is_a_sixteenth_of_a_byte_per_parameter():
    matrix = Layout.from_pairs([("a", (1024, 1024))])
    assert PublicMoments(matrix).payload_size / (1 << 20) == pytest.approx(0.0625, rel=1e-3)


def test_m_is_the_weighted_mean_over_those_who_sent_it():
    codec, sparse = PublicMoments(LAYOUT), TopK(LAYOUT, k=256)
    common = codec.combine(zeros(), [(1, large_v(0)), (3, large_v(10))], tensors(5))
    sent = [sparse.decode(to_uint8(sparse.encode(list(moments(seed).m)), CPU)) for seed in (0, 10)]
    for got, one, other in zip(common.m, *sent, strict=True):
        one, other = flat(one), flat(other)
        weight = (one != 0) + 3.0 * (other != 0)
        np.testing.assert_allclose(flat(got), (one + 3 * other) / np.maximum(weight, 1), rtol=1e-5)
        assert one.size < 100 or 0.05 < np.mean(flat(got) != 0) < 0.2


def test_v_follows_the_squares_of_updates_and_has_the_shared_mean():
    codec = PublicMoments(LAYOUT)
    given_payloads = [(2, payload(0)), (1, payload(10))]
    first, second = tensors(5), tensors(6)
    after_one = codec.combine(zeros(), given_payloads, first)
    after_two = codec.combine(after_one, given_payloads, second)
    for at in range(len(LAYOUT.tensors)):
        shared = min(flat(moments(seed).v[at]).mean() for seed in (0, 10))  # the lower median of two
        one = flat(first[at]) ** 2
        expected = np.maximum(one / one.mean(), FLOOR) * shared
        np.testing.assert_allclose(flat(after_one.v[at]), expected, rtol=1e-4)
        two = flat(second[at]) ** 2
        mixed = 0.9 * expected / expected.mean() + 0.1 * two / two.mean()
        np.testing.assert_allclose(flat(after_two.v[at]), np.maximum(mixed, FLOOR) * shared, rtol=1e-4)


def test_without_updates_v_keeps_its_shape_or_is_even_and_never_falls_below_the_floor():
    codec, data = PublicMoments(SMALL), payload(0, SMALL)
    nothing = zeros(SMALL).m
    even = codec.combine(zeros(SMALL), [(1, data)], nothing)
    assert all(v.unique().numel() == 1 for v in even.v)
    assert all(torch.equal(a, b) for a, b in zip(even.v, codec.decode(data).v, strict=True))
    lone = tuple(torch.zeros(spec.shape) for spec in SMALL.tensors)
    for tensor in lone:
        tensor.view(-1)[3] = 1e-30
    peaked = codec.combine(zeros(SMALL), [(1, data)], lone)
    for v, shared in zip(peaked.v, even.v, strict=True):
        assert v.min().item() == pytest.approx(FLOOR * shared.max().item())
        assert v.view(-1)[3].item() == pytest.approx(v.numel() * shared.max().item(), rel=1e-5)
    kept = codec.combine(peaked, [(1, data)], nothing)
    assert all(int(v.argmax()) == 3 for v in kept.v)


def test_what_is_above_the_bounds_is_cut_and_nonsense_is_not_encoded():
    codec = PublicMoments(SMALL)
    huge = Moments(
        tuple(torch.full(spec.shape, 1e30) for spec in SMALL.tensors),
        tuple(torch.full(spec.shape, 1e30) for spec in SMALL.tensors),
    )
    out = codec.decode(to_uint8(codec.encode(huge), CPU))
    assert out.m[0].max().item() == M_MAX
    assert out.v[0].max().item() == V_MAX
    with pytest.raises(ValueError, match="negative"):
        codec.encode(Moments(huge.m, tuple(-v for v in huge.v)))


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        (0, float("nan"), NonFinitePayload),
        (4, -1e-9, MomentsOutOfBounds),
        (4, V_MAX * 1.001, MomentsOutOfBounds),
        (8 + 12, M_MAX * 2, MomentsOutOfBounds),
    ],
)
def test_numbers_out_of_bounds_are_refused(at, value, error):
    codec = PublicMoments(SMALL)
    data = bytearray(codec.encode(moments(1, SMALL)))
    data[at : at + 4] = struct.pack("<f", value)
    for read in (codec.check, codec.decode):
        with pytest.raises(error):
            read(to_uint8(bytes(data), CPU))
    with pytest.raises(WrongPayloadSize):
        codec.check(to_uint8(bytes(data) + b"\0", CPU))


@settings(max_examples=40)
@given(st.data())
def test_any_bytes_give_bounded_moments_or_are_refused(data):
    codec = PublicMoments(SMALL)
    changed = bytearray(codec.encode(moments(0, SMALL)))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        out = codec.combine(zeros(SMALL), [(1, to_uint8(bytes(changed), CPU))], tensors(1, SMALL))
    except PayloadError:
        return
    assert all(bool((m.abs() <= M_MAX).all()) for m in out.m)
    assert all(bool(((v >= 0) & (v <= V_MAX)).all()) for v in out.v)


def test_an_algorithm_with_a_public_start_steps_with_them():
    algo = algorithm("sparseloco", inner_state="public")
    state = algo.initial_state(tensors(3))
    given_entries = entries(algo, 3)
    after = algo.step(state, given_entries).state
    assert torch.equal(after.moments.m[0], algo.step(state, given_entries[::-1]).state.moments.m[0])
    assert algo.state_from_bytes(algo.state_bytes(after)).moments.v[1].equal(after.moments.v[1])
    assert all(bool((v > 0).all()) for v in after.moments.v)


def test_one_of_four_can_neither_make_the_others_leap_nor_freeze_them():
    codec, update = PublicMoments(LAYOUT), tensors(5)
    plain = codec.combine(zeros(), [(1, payload(10 * each)) for each in range(4)], update)
    wild = Moments(
        *(tuple(torch.full(spec.shape, most) for spec in LAYOUT.tensors) for most in (M_MAX, V_MAX))
    )
    told = [payload(10 * each) for each in range(3)]
    for v in (wild.v, tuple(torch.zeros_like(v) for v in wild.v)):
        lie = to_uint8(codec.encode(Moments(wild.m, v)), CPU)
        out = codec.combine(zeros(), [(1, data) for data in (*told, lie)], update)
        for m, found, usual in zip(out.m, out.v, plain.v, strict=True):
            assert bool((m * m <= M_OVER_ROOT_V_MAX**2 * found).all())
            assert 0.3 * flat(usual).mean() <= flat(found).mean() <= 4 * flat(usual).mean()

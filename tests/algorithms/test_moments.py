import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import LAYOUT, flat, moments
from distrai.algorithms import Layout, Moments
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.errors import MomentsOutOfBounds, NonFinitePayload, PayloadError, WrongPayloadSize
from distrai.algorithms.moments import M_MAX, M_OVER_ROOT_V_MAX, V_MAX, MomentCodec, encode_v

CPU = torch.device("cpu")
SMALL = Layout.from_pairs([("a", (300,))])


def decoded(codec, payload):
    return codec.decode(to_uint8(payload, CPU))


def test_size_is_about_two_bytes_per_parameter():
    assert MomentCodec(SMALL).payload_size == 2 * 8 + 2 * 300
    big = Layout.from_pairs([("a", (1 << 20,))])
    assert MomentCodec(big).payload_size / (1 << 20) == 2.03125


def test_m_matches_the_oracle_and_v_is_rounded_up_on_its_fourth_root():
    codec = MomentCodec(LAYOUT)
    given_moments = moments(5)
    out = decoded(codec, codec.encode(given_moments))
    for m, v, m_out, v_out in zip(given_moments.m, given_moments.v, out.m, out.v, strict=True):
        for at in range(0, m.numel(), 256):
            m_block, v_block = flat(m)[at : at + 256], flat(v)[at : at + 256]
            unit = np.abs(m_block).max() / 127
            assert np.abs(flat(m_out)[at : at + 256] - m_block).max() <= 0.5001 * unit
            got, top = flat(v_out)[at : at + 256], v_block.max()
            codes = np.rint((got / top) ** 0.25 * 255)
            np.testing.assert_allclose(got, (codes / 255) ** 4 * top, rtol=1e-6)
            assert (((codes - 1) / 255) ** 4 * top < v_block * (1 + 1e-6)).all(), (
                "the next code below is too low"
            )
            assert (got >= v_block * (1 - 2**-22)).all()


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(-140, 39), st.integers(0, 60))
def test_v_survives_any_range_without_falling_and_decoding_twice_is_stable(seed, top, spread):
    rng = np.random.default_rng(seed)
    v = torch.from_numpy((2.0 ** (top - rng.random(300) * spread)).astype(np.float32))
    m = torch.from_numpy(rng.standard_normal(300).astype(np.float32))
    codec = MomentCodec(SMALL)
    out = decoded(codec, codec.encode(Moments((m,), (v,))))
    # Only next to the smallest of fp32 has the product of table and block no room to be rounded up.
    assert bool(((out.v[0] >= v * (1 - 2.0**-22)) | (v < 2.0**-120)).all())
    assert bool((out.v[0] <= V_MAX).all())
    again = decoded(codec, codec.encode(out))
    assert torch.allclose(again.m[0], out.m[0], rtol=1e-6)


def test_codes_change_exactly_at_the_fourth_powers():
    """Where an inexact square root would guess the code next to the right one."""
    powers = np.array([c**4 / 255**4 for c in range(256)], np.float32)
    for values, codes in (
        (powers, np.arange(256)),
        (np.nextafter(powers[:-1], np.float32(1)), np.arange(1, 256)),
        (np.nextafter(powers[1:], np.float32(0)), np.arange(1, 256)),
    ):
        block = torch.from_numpy(np.append(values[values != 1.0], np.float32(1)))[:256]
        assert encode_v(block)[1].tolist() == [*codes[values != 1.0], 255][:256]


def test_zeros_stay_zero_and_too_large_ones_are_cut():
    codec = MomentCodec(SMALL)
    out = decoded(codec, codec.encode(Moments((torch.zeros(300),), (torch.zeros(300),))))
    assert not out.m[0].any()
    assert not out.v[0].any()
    huge = Moments((torch.full((300,), -1e30),), (torch.full((300,), 1e30),))
    out = decoded(codec, codec.encode(huge))
    assert out.m[0].unique().item() == pytest.approx(-M_MAX)
    assert out.v[0].unique().item() == V_MAX


def honest(seed, scale=1.0):
    """Moments that gradients of about this scale can have: m squared is at most v, which is much the same for all."""
    found = moments(seed)
    m = tuple(x * scale for x in found.m)
    return Moments(
        m, tuple((x * x + v) * 0.5 + x * x + 0.01 * scale**2 for x, v in zip(m, found.v, strict=True))
    )


@pytest.mark.parametrize("liar", range(4))
@pytest.mark.parametrize(
    "lie",
    [
        lambda x: Moments(tuple(torch.full_like(m, M_MAX) for m in x.m), x.v),
        lambda x: Moments(
            tuple(torch.full_like(m, -M_MAX) for m in x.m), tuple(torch.full_like(v, V_MAX) for v in x.v)
        ),
        lambda x: Moments(x.m, tuple(torch.zeros_like(v) for v in x.v)),
        lambda x: Moments(x.m, tuple(torch.full_like(v, V_MAX) for v in x.v)),
    ],
)
def test_one_of_four_can_neither_make_the_others_leap_nor_freeze_them(liar, lie):
    codec = MomentCodec(LAYOUT)
    told = [honest(10 * each) for each in range(4)]
    plain = codec.average([(1, to_uint8(codec.encode(each), CPU)) for each in told])
    told[liar] = lie(told[liar])
    out = codec.average([(1, to_uint8(codec.encode(each), CPU)) for each in told])
    for m, v, usual in zip(out.m, out.v, plain.v, strict=True):
        step = flat(m).__abs__() / np.sqrt(np.maximum(flat(v), 1e-12))
        assert step.max() <= M_OVER_ROOT_V_MAX
        assert flat(v).mean() <= 4 * flat(usual).mean()
        assert flat(v).mean() >= 0.3 * flat(usual).mean()


def test_the_first_version_of_the_checks_cuts_nothing():
    """So runs of before have the same states: their recipes say checks = 1."""
    codec = MomentCodec(LAYOUT, checks=1)
    payloads = [codec.encode(moments(10 * i)) for i in range(4)]
    parts = [decoded(codec, payload) for payload in payloads]
    out = codec.average([(1, to_uint8(payload, CPU)) for payload in payloads])
    for kind in "mv":
        for at, got in enumerate(getattr(out, kind)):
            each = [getattr(part, kind)[at] for part in parts]
            assert torch.equal(got, (((each[0] + each[1]) + each[2]) + each[3]) / torch.tensor(4.0))


def test_a_liar_that_keeps_sending_a_huge_v_does_not_let_it_grow():
    """Everybody's next v begins with the average: a little too much each round would freeze training for good."""
    codec, told = MomentCodec(SMALL), [moments(10 * each, SMALL) for each in range(3)]
    wild = Moments(told[0].m, tuple(torch.full_like(v, V_MAX) for v in told[0].v))
    for _ in range(20):
        out = codec.average([(1, to_uint8(codec.encode(each), CPU)) for each in (*told, wild)])
        told = [Moments(out.m, out.v)] * 3
    most = max(flat(moments(10 * each, SMALL).v[0]).mean() for each in range(3))
    assert flat(out.v[0]).mean() <= 1.5 * most  # rounding up adds a little


def test_without_second_moments_a_first_one_is_cut_down_to_the_others():
    """As Muon's are: v is 0."""
    codec = MomentCodec(SMALL)
    plain = moments(1, SMALL)
    none = tuple(torch.zeros_like(v) for v in plain.v)
    told = [Moments(plain.m, none)] * 3 + [Moments(tuple(torch.full_like(m, M_MAX) for m in plain.m), none)]
    out = codec.average([(1, to_uint8(codec.encode(each), CPU)) for each in told])
    for got, usual in zip(out.m, plain.m, strict=True):
        assert np.linalg.norm(flat(got)) <= 2 * np.linalg.norm(flat(usual))
        assert np.linalg.norm(flat(got)) > 0


@pytest.mark.parametrize("count", [3, 5, 7])
def test_the_average_is_the_weighted_mean_of_what_was_decoded(count):
    codec = MomentCodec(LAYOUT, checks=1)
    payloads = [codec.encode(honest(10 * i)) for i in range(count)]
    weighted = [(i + 1, to_uint8(payload, CPU)) for i, payload in enumerate(payloads)]
    out = codec.average(weighted)
    parts = [decoded(codec, payload) for payload in payloads]
    for at in range(len(LAYOUT.tensors)):
        for got, each in ((out.m[at], [p.m[at] for p in parts]), (out.v[at], [p.v[at] for p in parts])):
            expected = sum((i + 1) * flat(x) for i, x in enumerate(each)) / (count * (count + 1) / 2)
            np.testing.assert_allclose(flat(got), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        (0, float("nan"), NonFinitePayload),
        (8, float("inf"), NonFinitePayload),
        (0, -1.0, MomentsOutOfBounds),
        (4, M_MAX, MomentsOutOfBounds),
        (8, -1e-9, MomentsOutOfBounds),
        (12, V_MAX * 1.001, MomentsOutOfBounds),
    ],
)
def test_scales_out_of_bounds_are_refused(at, value, error):
    codec = MomentCodec(SMALL)
    payload = bytearray(codec.encode(moments(1, SMALL)))
    payload[at : at + 4] = struct.pack("<f", value)
    with pytest.raises(error):
        codec.check(to_uint8(bytes(payload), CPU))
    with pytest.raises(error):
        decoded(codec, bytes(payload))


def test_wrong_sizes_and_a_negative_v_are_refused():
    codec = MomentCodec(SMALL)
    for size in (0, codec.payload_size - 1, codec.payload_size + 1):
        with pytest.raises(WrongPayloadSize):
            codec.check(to_uint8(bytes(size), CPU))
    with pytest.raises(ValueError, match="negative"):
        codec.encode(Moments((torch.zeros(300),), (torch.full((300,), -1.0),)))


@settings(max_examples=40)
@given(st.binary(min_size=616, max_size=616))
def test_any_bytes_give_bounded_moments_or_are_refused(payload):
    codec = MomentCodec(SMALL)
    try:
        out = decoded(codec, payload)
    except PayloadError:
        return
    assert bool((out.m[0].abs() <= M_MAX * 129 / 127).all())
    assert bool(((out.v[0] >= 0) & (out.v[0] <= V_MAX)).all())

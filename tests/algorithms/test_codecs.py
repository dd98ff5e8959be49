import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import LAYOUT, algorithm, flat, largest, tensors, uniform
from distrai.algorithms import Layout
from distrai.algorithms.codecs import CODECS, Bf16, Dct, Fp4, Fp32, Int4, Int8, Mask, TopK
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.codecs.bits import pack1, pack2, pack4, pack12, unpack1, unpack2, unpack4, unpack12
from distrai.algorithms.codecs.gaps import GapTopK
from distrai.algorithms.errors import (
    IndexOutOfBounds,
    IndicesNotSorted,
    NonCanonicalCodes,
    NonFinitePayload,
    NonZeroPadding,
    PayloadError,
    WrongPayloadSize,
)

CPU = torch.device("cpu")
SHAPES = st.lists(st.lists(st.integers(1, 140), max_size=2).map(tuple), min_size=1, max_size=3)


def layout_of(*shapes):
    return Layout.from_pairs((str(i), shape) for i, shape in enumerate(shapes))


def decoded(codec, payload):
    return codec.decode(to_uint8(payload, CPU))


def every_codec(layout):
    return [
        Fp32(layout),
        Bf16(layout),
        Int8(layout),
        Int4(layout),
        Fp4(layout),
        TopK(layout),
        TopK(layout, k=300),
        TopK(layout, k=256, value_bits=1),
        TopK(layout, k=4096, value_bits=32),
        GapTopK(layout, k=256),
        Dct(layout),
        Dct(layout, k=200, value_bits=1),
        Mask(layout, per_mille=200).at(3),
    ]


@settings(max_examples=25)
@given(SHAPES, st.integers(0, 1000))
def test_round_trip_sizes_determinism_and_stability(shapes, seed):
    layout = layout_of(*shapes)
    x = tensors(seed, layout)
    for codec in every_codec(layout):
        payload = codec.encode(x)
        assert len(payload) == codec.payload_size
        assert codec.encode([t.clone() for t in x]) == payload
        out = decoded(codec, payload)
        assert [t.shape for t in out] == [t.shape for t in x]
        error = sum(float((a - b).double().square().sum()) for a, b in zip(x, out, strict=True))
        assert error <= sum(float(a.double().square().sum()) for a in x) * (1 + 1e-12)


def test_fp32_is_the_elements_in_order_and_turns_negative_zero_positive():
    codec = Fp32(layout_of((2, 2), ()))
    payload = codec.encode([torch.tensor([[1.0, -0.0], [2.5, -3.0]]), torch.tensor(7.0)])
    assert payload == struct.pack("<5f", 1, 0, 2.5, -3, 7)
    out = decoded(codec, struct.pack("<5f", 1, -0.0, 2.5, -3, 7))
    assert not torch.signbit(out[0][0, 1]).item()


@pytest.mark.parametrize("seed", range(3))
def test_int8_matches_the_float64_oracle(seed):
    layout = layout_of((90, 100), (2000,), (341,), (342,))
    x = tensors(seed, layout)
    for got, given_tensor in zip(decoded(Int8(layout), Int8(layout).encode(x)), x, strict=True):
        if given_tensor.numel() <= 341:
            assert torch.equal(got, given_tensor), "small pieces are sent as they are"
            continue
        position, expected = uniform(flat(given_tensor), 256, midpoints=False)
        sure = np.abs(position - np.floor(position) - 0.5) > 0.01
        np.testing.assert_allclose(flat(got)[sure], expected[sure], rtol=2e-3, atol=1e-6)
        assert sure.mean() > 0.9


def test_int8_payload_is_a_table_and_a_byte_per_element():
    assert Int8(layout_of((1000,))).payload_size == 1024 + 1000
    assert Int8(layout_of((341,))).payload_size == 4 * 341
    assert Int8(layout_of((1 << 20,), (3 << 20,))).payload_size == (4 << 20) + 4 * 1024


@pytest.mark.parametrize("k", [1, 64, 256])
def test_topk_sends_what_the_oracle_sends(k):
    x = tensors(k)
    out = decoded(TopK(LAYOUT, k=k, value_bits=32), TopK(LAYOUT, k=k, value_bits=32).encode(x))
    for got, given_tensor in zip(out, x, strict=True):
        where = largest(flat(given_tensor), tuple(given_tensor.shape), k)
        expected = np.zeros(given_tensor.numel())
        expected[where] = flat(given_tensor)[where]
        np.testing.assert_array_equal(flat(got), expected)


def test_topk_two_bit_values_match_the_oracle():
    for seed in range(3):
        x = tensors(seed)
        for got, given_tensor in zip(decoded(TopK(LAYOUT), TopK(LAYOUT).encode(x)), x, strict=True):
            where = largest(flat(given_tensor), tuple(given_tensor.shape), 64)
            _, expected = uniform(flat(given_tensor)[where], 4, midpoints=True)
            np.testing.assert_allclose(flat(got)[where], expected, rtol=1e-5, atol=1e-9)
            assert np.count_nonzero(flat(got)) <= len(where)


def test_topk_ties_take_the_lower_index_and_zeros_are_sent():
    layout = layout_of((100,))
    codec = TopK(layout, k=4096 * 3 // 100, value_bits=32)
    x = torch.zeros(100)
    x[[50, 20, 70, 90]] = torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert decoded(codec, codec.encode([x]))[0].nonzero().flatten().tolist() == [20, 50, 70]
    sent = list(codec.read(to_uint8(codec.encode([torch.zeros(100)]), CPU)))
    assert sent[0][1].where.tolist() == [0, 1, 2]


def test_topk_with_all_of_a_chunk_and_no_quantiser_loses_nothing():
    codec = TopK(LAYOUT, k=4096, value_bits=32)
    x = tensors(1)
    assert all(torch.equal(a, b) for a, b in zip(decoded(codec, codec.encode(x)), x, strict=True))


def test_big_tensors_are_cut_into_spans_that_agree_with_the_oracle():
    layout = layout_of((300, 9000), (1 << 21,))
    assert len(TopK(layout).spans) == 5 + 2, "one band of 64 x 9000 each, runs of a million elements"
    codec = TopK(layout, k=1, value_bits=32)
    x = tensors(0, layout)
    for got, given_tensor in zip(decoded(codec, codec.encode(x)), x, strict=True):
        where = largest(flat(given_tensor), tuple(given_tensor.shape), 1)
        assert got.view(-1).nonzero().flatten().tolist() == sorted(where.tolist())


@given(st.lists(st.integers(0, 4095), min_size=1, max_size=9))
def test_twelve_bit_packing_is_two_in_three_bytes_lowest_bits_first(numbers):
    packed = pack12(torch.tensor(numbers))
    assert packed.numel() == math.ceil(len(numbers) * 12 / 8)
    whole = sum(v << 12 * i for i, v in enumerate(numbers))
    assert bytes(packed.tolist()) == whole.to_bytes(packed.numel(), "little")
    assert unpack12(packed, len(numbers)).tolist() == numbers


@given(st.lists(st.integers(0, 15), min_size=1, max_size=19))
def test_four_bit_and_one_bit_packing_are_lowest_bits_first(numbers):
    for pack, unpack, bits in ((pack4, unpack4, 4), (pack1, unpack1, 1)):
        cut = [number & (1 << bits) - 1 for number in numbers]
        packed = pack(torch.tensor(cut, dtype=torch.uint8))
        assert packed.numel() == math.ceil(len(cut) * bits / 8)
        whole = sum(v << bits * i for i, v in enumerate(cut))
        assert bytes(packed.tolist()) == whole.to_bytes(packed.numel(), "little")
        assert unpack(packed, len(cut)).tolist() == cut


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_two_bit_packing_is_four_in_a_byte_lowest_bits_first(numbers):
    packed = pack2(torch.tensor(numbers, dtype=torch.uint8))
    assert bytes(packed.tolist()) == sum(v << 2 * i for i, v in enumerate(numbers)).to_bytes(
        packed.numel(), "little"
    )
    assert unpack2(packed, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("codec", every_codec(LAYOUT), ids=lambda codec: codec.id)
def test_wrong_sizes_are_refused(codec):
    payload = codec.encode(tensors(0))
    for wrong in (b"", payload[:-1], payload + b"\0"):
        with pytest.raises(WrongPayloadSize):
            decoded(codec, wrong)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_and_tables_that_are_not_finite_are_refused(bad):
    layout = layout_of((1000,))
    for codec, at in (
        (Fp32(layout), 0),
        (Int8(layout), 0),
        (TopK(layout), 0),
        (TopK(layout, value_bits=32), -4),
    ):
        payload = bytearray(codec.encode(tensors(0, layout)))
        at %= len(payload)
        payload[at : at + 4] = struct.pack("<f", bad)
        with pytest.raises(NonFinitePayload):
            decoded(codec, bytes(payload))


def topk_payload(numbers, count_bits=None):
    """A payload for a vector of 100 elements of which three are sent, with these indices."""
    codec = TopK(layout_of((100,)), k=122)
    indices = bytes(pack12(torch.tensor(numbers)).tolist())
    return codec, bytearray(struct.pack("<4f", -2, -1, 1, 2) + indices + bytes([0b00_11_10_01]))


def test_a_handmade_payload_decodes_as_described():
    codec, payload = topk_payload([3, 7, 99])
    out = decoded(codec, bytes(payload))[0]
    assert {i: out[i].item() for i in out.nonzero().flatten().tolist()} == {3: -1.0, 7: 1.0, 99: 2.0}


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ([7, 3, 99], IndicesNotSorted),
        ([3, 3, 99], IndicesNotSorted),
        ([3, 7, 100], IndexOutOfBounds),
        ([3, 7, 4095], IndexOutOfBounds),
    ],
)
def test_indices_that_repeat_descend_or_leave_the_tensor_are_refused(numbers, error):
    codec, payload = topk_payload(numbers)
    with pytest.raises(error):
        decoded(codec, bytes(payload))


def test_indices_at_the_edge_of_a_tile_are_refused():
    codec = TopK(layout_of((64, 96)), k=2)
    good = codec.encode([torch.ones(64, 96)])
    assert len(good) == 16 + 5 + 1, "two of the full tile and one of the half"
    for last in (32, 63):
        bad = good[:16] + bytes(pack12(torch.tensor([0, 1, last])).tolist()) + good[21:]
        with pytest.raises(IndexOutOfBounds):
            decoded(codec, bad)


def test_bits_that_carry_nothing_must_be_zero():
    for at in (-1, -2):
        codec, payload = topk_payload([3, 7, 99])
        payload[at] |= 0x80
        with pytest.raises(NonZeroPadding):
            decoded(codec, bytes(payload))


@settings(max_examples=60)
@given(st.data())
def test_any_bytes_of_the_right_size_decode_to_finite_tensors_or_are_refused(data):
    codec = data.draw(st.sampled_from(every_codec(layout_of((65, 66), (10,)))))
    payload = bytearray(codec.encode(tensors(0, codec.layout)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        out = decoded(codec, bytes(payload))
    except PayloadError:
        return
    assert all(bool(torch.isfinite(t).all()) for t in out)


@pytest.mark.parametrize("preset", ["diloco", "prime", "sparseloco"])
def test_encode_refuses_what_is_not_finite_or_of_another_shape_or_type(preset):
    algo = algorithm(preset, layout_of((30, 40)), inner_state="kept")
    for bad in (torch.full((30, 40), math.nan), torch.full((30, 40), math.inf)):
        with pytest.raises(ValueError, match="not finite"):
            algo.encode([bad])
    with pytest.raises(ValueError, match="layout"):
        algo.encode([])
    for bad in (torch.zeros(40, 30), torch.zeros(30, 40, dtype=torch.float64)):
        with pytest.raises(ValueError, match="float32"):
            algo.encode([bad])


@pytest.mark.parametrize(
    ("name", "options", "bits"),
    [
        ("fp32", {}, 32),
        ("bf16", {}, 16),
        ("int8", {}, 8 + 8192 / (1 << 20)),
        ("int4", {}, 4 + 512 / (1 << 20)),
        ("fp4", {}, 4 + 1 / 16),
        ("topk", {"k": 64, "value_bits": 2}, 64 / 4096 * 14 + 128 / (1 << 20)),
        ("topk", {"k": 64, "value_bits": 1}, 64 / 4096 * 13 + 64 / (1 << 20)),
        ("dct", {"k": 32, "value_bits": 32}, 32 / 4096 * 44),
        ("dct", {"k": 8, "value_bits": 1}, 8 / 4096 * 13 + 64 / (1 << 20)),
        ("mask", {}, 0.005 * 32),
    ],
)
def test_bits_per_parameter_are_those_of_the_design(name, options, bits):
    codec = CODECS[name](layout_of((1024, 1024)), **options)
    assert 8 * codec.payload_size / (1 << 20) == pytest.approx(bits, rel=5e-5)


def test_bf16_rounds_as_torch_does_but_never_to_infinity_or_negative_zero():
    rng = np.random.default_rng(4)
    bits = rng.integers(-(2**31), 2**31, 20_000).astype(np.int32)
    bits[:5000] = bits[:5000] & -0x10000 | 0x8000  # ties
    x = torch.from_numpy(bits).view(torch.float32)
    x = x[torch.isfinite(x)]
    x[:3] = torch.tensor([3.4028234e38, -3.4028234e38, -(2.0**-149)])
    codec = Bf16(layout_of((x.numel(),)))
    out, expected = decoded(codec, codec.encode([x]))[0], x.to(torch.bfloat16)
    top = torch.finfo(torch.bfloat16).max
    assert torch.equal(out, torch.clamp(expected.to(torch.float32), -top, top))
    assert not bool((torch.signbit(out) & (out == 0)).any())
    assert codec.encode([out]) == codec.encode([x])


def e3m0(x):
    """The format in Python floats, from its description: blocks of 128, logarithms to the nearest whole one."""
    out = []
    for at in range(0, len(x), 128):
        block = x[at : at + 128]
        top = max(round(math.log2(abs(v))) if v else -1000 for v in block)
        for v in block:
            power = max(round(math.log2(abs(v))), top - 6) if v else 0
            zero = v == 0 or abs(v) < 2.0 ** (top - 7)
            out.append(0.0 if zero else math.copysign(2.0**power, v))
    return out


@pytest.mark.parametrize("seed", range(4))
def test_fp4_matches_the_oracle(seed):
    layout = layout_of((37, 29), (5,), (256,))
    x = [t**3 for t in tensors(seed, layout)]
    x[2][128:] = 0
    x[2][7] = 0
    for got, given_tensor in zip(decoded(Fp4(layout), Fp4(layout).encode(x)), x, strict=True):
        assert got.view(-1).tolist() == e3m0(given_tensor.view(-1).tolist())


def test_fp4_turns_at_the_root_of_two_and_holds_at_both_ends_of_fp32():
    root = np.float32(math.sqrt(2))  # below the real one
    for numbers, expected in (
        ([1, root, np.nextafter(root, np.float32(2)), -root], [1, 1, 2, -1]),
        ([3.4e38, -1e38], [2.0**127, -(2.0**126)]),
        ([2.0**-126, 2.0**-149, 0, -(2.0**-126)], [2.0**-126, 0, 0, -(2.0**-126)]),
        ([2.0**-130, 0.0], [0, 0]),
        ([64, 1, 0.5, -0.49, 0], [64, 1, 1, 0, 0]),
    ):
        codec = Fp4(layout_of((len(numbers),)))
        x = torch.tensor([float(v) for v in numbers], dtype=torch.float32)
        assert decoded(codec, codec.encode([x]))[0].tolist() == [float(v) for v in expected]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (bytes([255, 0x07]), NonFinitePayload),
        (bytes([127, 0x87]), NonCanonicalCodes),
        (bytes([127, 0x06]), NonCanonicalCodes),
        (bytes([0, 0x07]), NonCanonicalCodes),
    ],
)
def test_fp4_refuses_bytes_that_no_encoder_writes(payload, error):
    codec = Fp4(layout_of((2,)))
    assert decoded(codec, bytes([127, 0xF7]))[0].tolist() == [1, -1]
    with pytest.raises(error):
        decoded(codec, payload)


def test_sign_values_are_the_means_of_the_negative_and_of_the_other_values_sent():
    layout = layout_of((4096,))
    x = tensors(3, layout)
    codec = TopK(layout, k=100, value_bits=1)
    out = flat(decoded(codec, codec.encode(x))[0])
    where = largest(flat(x[0]), (4096,), 100)
    sent = flat(x[0])[where]
    expected = np.where(sent < 0, sent[sent < 0].mean(), sent[sent >= 0].mean())
    np.testing.assert_allclose(out[where], expected, rtol=1e-6)
    assert np.count_nonzero(out) == 100


def test_gaps_hold_what_twelve_bits_hold_in_half_of_the_bits():
    x = tensors(9)
    short, long = GapTopK(LAYOUT, k=256), TopK(LAYOUT, k=256)
    assert all(
        torch.equal(a, b)
        for a, b in zip(decoded(short, short.encode(x)), decoded(long, long.encode(x)), strict=True)
    )
    matrix = layout_of((1024, 1024))
    assert GapTopK(matrix, k=256).payload_size == (1 << 20) // 16 + 16


def test_gaps_refuse_indices_that_are_too_many_out_of_order_or_of_another_chunk():
    codec = GapTopK(
        layout_of((8192,)), k=1
    )  # two indices: 16 bytes of table, 1 of lower bits, 65 of upper ones

    def payload(*keys):
        upper = [key // 16 + at for at, key in enumerate(keys)]
        lower = sum((key % 16) << 4 * at for at, key in enumerate(keys[:2]))
        bits = sum(1 << place for place in upper)
        return struct.pack("<4f", -2, -1, 1, 2) + bytes([lower]) + bits.to_bytes(65, "little") + b"\0"

    assert decoded(codec, payload(7, 5000))[0].nonzero().flatten().tolist() == [7, 5000]
    for keys, error in (
        ((7, 4095), IndexOutOfBounds),
        ((4096, 5000), IndexOutOfBounds),
        ((7, 5), IndicesNotSorted),
        ((7, 7), IndicesNotSorted),
        ((7,), NonCanonicalCodes),
        ((7, 100, 5000), NonCanonicalCodes),
    ):
        with pytest.raises(error):
            decoded(codec, payload(*keys))


def test_a_mask_is_the_same_for_all_of_a_round_and_covers_everything_in_time():
    layout = layout_of((100, 30), (7,))
    codec = Mask(layout, per_mille=100)
    seen, total = set(), 0
    for number in range(1, 101):
        bound, other = codec.at(number), Mask(layout, per_mille=100).at(number)
        for piece in (span.piece for span in bound.spans):
            where = bound.synchronised(piece)
            assert torch.equal(where, other.synchronised(piece))
            assert bool((where[1:] > where[:-1]).all())
            assert where.numel() == math.ceil(piece.numel / 10)
            seen |= {(piece.tensor, at) for at in where.tolist()}
            total += where.numel()
    assert len(seen) == 3007
    assert total == 100 * 301
    x = tensors(0, layout)
    bound = codec.at(5)
    out = decoded(bound, bound.encode(x))
    for got, given_tensor, span in zip(out, x, bound.spans, strict=True):
        where = bound.synchronised(span.piece)
        assert got.view(-1).nonzero().flatten().tolist() == where.tolist()
        assert torch.equal(got.view(-1)[where], given_tensor.view(-1)[where])

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import LAYOUT, flat, tensors
from distrai.algorithms import Layout, dct
from distrai.algorithms.codecs import Dct
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.errors import IndexOutOfBounds, IndicesNotSorted

CPU = torch.device("cpu")


def cosines(size):
    """The orthonormal DCT-II in float64."""
    u, i = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    table = np.cos(np.pi * (2 * i + 1) * u / (2 * size)) * math.sqrt(2 / size)
    table[0] /= math.sqrt(2)
    return table


@pytest.mark.parametrize("size", range(1, 65))
def test_the_table_is_the_cosines_to_half_a_unit_and_its_sums_fit_into_float64(size):
    table = np.array(dct.integer_table(size), dtype=np.float64) * 2.0**-dct.TABLE_BITS
    assert np.abs(table - cosines(size)).max() <= 0.5001 * 2.0**-dct.TABLE_BITS
    assert np.abs(table @ table.T - np.eye(size)).max() <= (1e-7 if size == 64 else 1.5e-7)
    sums = max(np.abs(table).sum(axis=0).max(), np.abs(table).sum(axis=1).max())
    first = 2**dct.BLOCK_BITS * int(sums * 2**dct.TABLE_BITS)
    second = -(-first // 2 ** (dct.TABLE_BITS + dct.BETWEEN_BITS)) * int(sums * 2**dct.TABLE_BITS)
    assert max(first, second) <= 2**53, "every partial sum is exact, so no order matters"


@settings(max_examples=40)
@given(st.integers(1, 64), st.integers(1, 64), st.integers(-120, 110), st.integers(0, 1000))
def test_forward_matches_float64_and_inverse_undoes_it(high, wide, exponent, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, high, wide)) * 2.0**exponent).astype(np.float32)
    found = dct.forward(torch.from_numpy(x))
    expected = cosines(high) @ x.astype(np.float64) @ cosines(wide).T
    room = np.abs(x).max() * 2.0**-19 + 2.0**-148
    assert np.abs(found.double().numpy() - expected).max() <= room
    assert np.abs(dct.inverse(found).numpy() - x).max() <= 4 * room


def test_no_order_of_sums_changes_a_bit():
    blocks = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 48, 64)).astype(np.float32))
    one_by_one = torch.cat([dct.forward(block.unsqueeze(0)) for block in blocks])
    assert torch.equal(dct.forward(blocks), one_by_one)
    backwards = dct.table(64, CPU).flip(1)
    integers = torch.randint(-(2**23), 2**23, (40, 64), generator=torch.Generator().manual_seed(1)).double()
    assert torch.equal(integers @ dct.table(64, CPU).T, integers.flip(1) @ backwards.T)


def test_zeros_and_both_ends_of_fp32_stay_finite():
    for value, first in ((0.0, 0.0), (3.4028234e38, 3.4028234e38), (2.0**-140, 2.0**-134)):
        found = dct.forward(torch.full((1, 64, 64), value))
        assert found[0, 0, 0].item() == pytest.approx(first, rel=1e-6)
        assert bool(torch.isfinite(found).all())
        assert not bool(torch.signbit(found[found == 0]).any())


def test_sides_are_the_largest_divisors_up_to_64():
    assert [dct.side(n) for n in (1, 7, 64, 65, 96, 97, 128, 130, 768)] == [1, 7, 64, 13, 48, 1, 64, 26, 64]


def blocks_of(x):
    """The blocks of a tensor, from the description of the codec, in float64."""
    if x.ndim < 2:
        wide = dct.side(x.numel())
        return list(flat(x).reshape(-1, 1, wide))
    rows = flat(x).reshape(-1, x.shape[-1])
    high, wide = dct.side(rows.shape[0]), dct.side(rows.shape[1])
    return [
        rows[r : r + high, c : c + wide]
        for r in range(0, rows.shape[0], high)
        for c in range(0, rows.shape[1], wide)
    ]


@pytest.mark.parametrize("k", [32, 700])
def test_the_codec_sends_the_largest_coefficients_of_every_block(k):
    codec = Dct(LAYOUT, k=k)
    x = tensors(k)
    out = codec.decode(to_uint8(codec.encode(x), CPU))
    for got, given_tensor in zip(out, x, strict=True):
        for block, sent in zip(blocks_of(given_tensor), blocks_of(got), strict=True):
            high, wide = cosines(block.shape[0]), cosines(block.shape[1])
            coefficients = high @ block @ wide.T
            count = math.ceil(block.size * k / 4096)
            least = np.sort(np.abs(coefficients).ravel())[-count]
            expected = high.T @ np.where(np.abs(coefficients) >= least, coefficients, 0) @ wide
            np.testing.assert_allclose(sent, expected, atol=1e-5 * np.abs(block).max() + 1e-12)


def test_with_all_coefficients_little_is_lost_also_in_tensors_of_several_spans():
    layout = Layout.from_pairs([("wide", (300, 9000)), ("long", (1 << 21,)), ("prime", (97, 3))])
    codec = Dct(layout, k=4096)
    assert len(codec.spans) > 5
    x = tensors(2, layout)
    for got, given_tensor in zip(codec.decode(to_uint8(codec.encode(x), CPU)), x, strict=True):
        assert float((got - given_tensor).abs().max()) <= 1e-5 * float(given_tensor.abs().max())


def test_the_norm_of_an_update_is_that_of_its_coefficients():
    codec = Dct(LAYOUT, k=64)
    data = to_uint8(codec.encode(tensors(1)), CPU)
    expected = math.sqrt(sum(float((t.double() ** 2).sum()) for t in codec.decode(data)))
    assert math.ldexp(math.isqrt(codec.squared_norm(data)), -200) == pytest.approx(expected, rel=1e-3)


def test_indices_outside_a_block_or_out_of_order_are_refused():
    codec = Dct(Layout.from_pairs([("a", (10, 10))]), k=82)  # three of a block of 100
    payload = bytearray(codec.encode([torch.ones(10, 10)]))
    for indices, error in (((1, 2, 100), IndexOutOfBounds), ((2, 1, 3), IndicesNotSorted)):
        packed = sum(index << 12 * at for at, index in enumerate(indices))
        payload[:5] = packed.to_bytes(5, "little")
        with pytest.raises(error):
            codec.decode(to_uint8(bytes(payload), CPU))

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distrai.algorithms import arithmetic

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NORMAL_RANGE = st.floats(min_value=-(2.0**60), max_value=2.0**60, width=32, allow_subnormal=False)


def fp32(numbers):
    return torch.tensor(numbers, dtype=torch.float32)


@settings(max_examples=60)
@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_fixed_point_is_as_fine_as_the_bits_allow_at_any_magnitude(numbers):
    x = fp32(numbers)
    shift = arithmetic.grid_shift(x, 15)
    integers = arithmetic.on_grid(x, shift)
    largest = max(abs(v) for v in x.tolist())
    assert int(integers.abs().max()) <= 2**15
    assert largest == 0 or int(integers.abs().max()) >= 2**14
    for value, integer in zip(x.tolist(), integers.tolist(), strict=True):
        assert abs(math.ldexp(value, shift) - integer) <= 0.5


@settings(max_examples=60)
@given(st.lists(NORMAL_RANGE, min_size=1, max_size=40), st.permutations(range(40)))
def test_norm_is_near_the_float64_one_and_blind_to_order(numbers, order):
    x = fp32(numbers)
    shuffled = x[[i for i in order if i < len(numbers)]]
    expected = math.sqrt(math.fsum(v * v for v in x.double().tolist()))
    assert arithmetic.squared_norm(x) == arithmetic.squared_norm(shuffled)
    assert arithmetic.norm(arithmetic.squared_norm(x)) == pytest.approx(expected, rel=1e-3)


def test_squared_norm_is_exact_where_the_grid_is():
    x = fp32([3.0, -4.0, 0.0, 12.0])
    assert arithmetic.squared_norm(x) == 169 << -arithmetic.NORM_UNIT_EXP
    assert not arithmetic.above_ceiling(arithmetic.squared_norm(x), 13.0)
    assert arithmetic.above_ceiling(arithmetic.squared_norm(x), math.nextafter(13.0, 0))


def test_norm_reaches_both_ends_of_fp32():
    for value in (2.0**-149, 3.4028234e38):
        assert arithmetic.norm(arithmetic.squared_norm(fp32([value]))) == pytest.approx(value, rel=1e-4)


def test_lower_median_and_clip_factor():
    assert [arithmetic.lower_median(v) for v in ([5], [5, 1], [3, 1, 2], [4, 3, 2, 1])] == [5, 1, 2, 2]
    assert arithmetic.clip_factor(1 << 400, 4 << 400) == 1.0
    assert arithmetic.clip_factor(9 << 400, 4 << 400) == 2 / 3
    assert arithmetic.clip_factor(9, 4) == 2 / 3, "also where the integers are small"


@pytest.mark.parametrize("bins", [4, 256])
def test_bin_means_match_float64_and_do_not_depend_on_order(bins):
    rng = np.random.default_rng(bins)
    x = torch.from_numpy(rng.standard_normal(3000).astype(np.float32))
    codes = torch.from_numpy(rng.integers(0, bins - 1, 3000).astype(np.uint8))
    means = arithmetic.bin_means(x, codes, bins)
    order = torch.from_numpy(rng.permutation(3000))
    assert torch.equal(means, arithmetic.bin_means(x[order], codes[order], bins))
    assert means[bins - 1] == 0, "no element has this code"
    expected = [
        math.fsum(x[codes == c].double().tolist()) / max(1, int((codes == c).sum())) for c in range(bins)
    ]
    np.testing.assert_allclose(means.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_working_in_blocks_changes_no_bit(monkeypatch):
    x = torch.from_numpy(np.random.default_rng(3).standard_normal(1001).astype(np.float32) ** 5)

    def everything():
        scale = arithmetic.quantiser_scale(x, 256, 6)
        codes = arithmetic.rounded_codes(x, scale, 256)
        table = arithmetic.bin_means(x, codes, 256)
        values = arithmetic.looked_up(table, codes)
        assert torch.equal(values, table[codes.long()])
        return arithmetic.squared_norm(x), [scale.tolist(), codes.tolist(), table.tolist(), values.tolist()]

    whole = everything()
    for block in (1, 7, 500, 1001):
        monkeypatch.setattr(arithmetic, "BLOCK_NUMEL", block)
        assert everything() == whole


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_element_is_enough_not_to_be_finite(bad):
    for at in (0, 500, 999):
        x = torch.ones(1000)
        x[at] = bad
        assert not arithmetic.is_finite(x)
    assert arithmetic.is_finite(fp32([3.4028234e38, -3.4028234e38]))
    assert arithmetic.is_finite(fp32([]))


def test_negative_zero_becomes_positive():
    signs = torch.signbit(arithmetic.positive_zero(fp32([-0.0, 0.0, -1.0])))
    assert signs.tolist() == [False, False, True]
    assert not torch.signbit(arithmetic.pseudo_gradient(fp32([-0.0]), fp32([0.0]))).item()


def test_scale_of_zeros_and_of_the_smallest_numbers_gives_codes_without_nan():
    for x in (torch.zeros(400), torch.full((400,), 2.0**-149)):
        scale = arithmetic.quantiser_scale(x, 256, 6)
        assert scale.item() > 0
        assert arithmetic.rounded_codes(x, scale, 256).unique().numel() == 1


def test_the_quantiser_scale_is_six_sigma_over_the_bins():
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(1000).astype(np.float32))
    sigma = math.sqrt(math.fsum(v * v for v in x.double().tolist()) / 999)
    assert arithmetic.quantiser_scale(x, 256, 6).item() == pytest.approx(6 * sigma / 256, rel=1e-4)


@settings(max_examples=40)
@given(st.lists(NORMAL_RANGE, min_size=1, max_size=40), st.randoms())
def test_the_mean_is_near_float64_and_blind_to_order(numbers, random):
    shuffled = random.sample(numbers, len(numbers))
    assert arithmetic.mean(fp32(numbers)) == arithmetic.mean(fp32(shuffled))
    expected = math.fsum(fp32(numbers).double().tolist()) / len(numbers)
    room = 2.0**-29 * max(abs(v) for v in numbers)
    assert arithmetic.mean(fp32(numbers)) == pytest.approx(expected, abs=room)

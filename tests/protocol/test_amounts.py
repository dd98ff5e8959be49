"""Amounts: exact whichever way, and an answer to every other spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.protocol.amounts import TEXT_MAX, BadAmount, format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("12.5", 18, 125 * 10**17),
        ("0", 18, 0),
        ("0.000001", 6, 1),
        ("7", 0, 7),
        ("7.000", 0, 7),
        ("007.10", 2, 710),
        ("340282366920938463463", 18, 340282366920938463463 * 10**18),
    ],
)
def test_whole_tokens_become_base_units(text: str, decimals: int, units: int) -> None:
    assert parse_amount(text, decimals) == units


@pytest.mark.parametrize(
    "text",
    ["", ".5", "5.", "-1", "+1", "1e3", "1,5", "1 000", "1_000", "\u0661", "0x10", "1.2.3", "1\n", "1" * 101],
)
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadAmount, match=r"write whole tokens, with decimals where there are, like 12\.5"):
        parse_amount(text, 18)


def test_more_decimals_than_the_token_has_are_refused() -> None:
    with pytest.raises(BadAmount, match=r"1\.0000001 has too many decimals; this token has 6"):
        parse_amount("1.0000001", 6)
    assert parse_amount("1.0000000", 6) == 10**6


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (0, 18, "0"),
        (1, 6, "0.000001"),
        (125 * 10**17, 18, "12.5"),
        (700, 0, "700"),
        (700, 2, "7"),
        (-5, 1, "-0.5"),
    ],
)
def test_base_units_are_shown_as_short_as_they_read_back(units: int, decimals: int, text: str) -> None:
    assert format_amount(units, decimals) == text


@given(st.integers(0, 2**128), st.integers(0, 36))
def test_what_is_shown_reads_back(units: int, decimals: int) -> None:
    text = format_amount(units, decimals)
    assert parse_amount(text, decimals) == units
    assert len(text) <= TEXT_MAX

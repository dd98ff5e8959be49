"""Amounts of a token: whole tokens with decimals for people, integers of base units for code. Exact, no floats."""

import re

from distrai.protocol.errors import ProtocolError

DECIMALS_MAX = 36
TEXT_MAX = 100
_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class BadAmount(ProtocolError):
    """A text that is no amount of the token, and what to write instead."""


def parse_amount(text: str, decimals: int) -> int:
    """Base units of an amount in whole tokens like "12.5". Raises BadAmount."""
    match = _AMOUNT.fullmatch(text) if len(text) <= TEXT_MAX else None
    if match is None:
        raise BadAmount(
            f"{text[:TEXT_MAX]!r} is no amount; write whole tokens, with decimals where there are, like 12.5"
        )
    whole, fraction = match[1], (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise BadAmount(f"{text} has too many decimals; this token has {decimals}")
    return int(whole + fraction.ljust(decimals, "0"))


def format_amount(units: int, decimals: int) -> str:
    """Base units as whole tokens, without zeros that say nothing: the shortest text that reads back."""
    sign, digits = "-" * (units < 0), str(abs(units)).rjust(decimals + 1, "0")
    cut = len(digits) - decimals
    fraction = digits[cut:].rstrip("0")
    return sign + digits[:cut] + (f".{fraction}" if fraction else "")

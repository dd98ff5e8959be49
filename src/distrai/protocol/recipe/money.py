"""What a recipe says about money: what a run pays, what a seat stakes, and the contracts that hold both."""

from dataclasses import dataclass
from typing import Annotated

from distrai.protocol.amounts import DECIMALS_MAX, BadAmount, parse_amount
from distrai.protocol.pot import EPOCH_ROUNDS_MAX
from distrai.protocol.primitives import Address
from distrai.protocol.recipe.reading import Range, RecipeError
from distrai.protocol.rewards import RewardTerms

AMOUNT_MAX = (1 << 96) - 1
"""Base units that the contracts have room for in one price, cap or stake."""


@dataclass(frozen=True, slots=True)
class _Amount:
    """Whole tokens as text, more than none."""

    def check(self, value: str, path: str) -> None:
        """Raises RecipeError for what is no amount."""
        try:
            units = parse_amount(value, DECIMALS_MAX)
        except BadAmount as error:
            raise RecipeError(
                path, str(error).partition(";")[0], 'write whole tokens in quotes, like "12.5"'
            ) from None
        if units == 0:
            raise RecipeError(path, "nothing", 'use more than "0"')


Amount = Annotated[str, _Amount()]


def _units(text: str, decimals: int, path: str) -> int:
    try:
        units = parse_amount(text, decimals)
    except BadAmount as error:
        raise RecipeError(path, str(error).partition(";")[0], f"use at most {decimals} decimals") from None
    if units > AMOUNT_MAX:
        raise RecipeError(path, f"{text} tokens are more than the contracts have room for", "use less")
    return units


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """What a run pays its members. Amounts are whole tokens."""

    price: Amount
    """For a million accepted tokens."""
    cap: Amount
    """For one member and round at most."""
    max_members: Annotated[int, Range(1, 1024)]
    """Members that may earn in one round."""
    min_round_seconds: Annotated[int, Range(1, 30 * 86400)] = 1
    """Rounds that come faster do not raise what may be earned."""
    epoch_rounds: Annotated[int, Range(1, EPOCH_ROUNDS_MAX)] = 16
    """Non-empty rounds until the seats settle what was earned."""
    funded_rounds: Annotated[int, Range(0, (1 << 32) - 1)] = 0
    """Rounds that the opener pays in for; 0: all of them."""
    finality_blocks: Annotated[int, Range(0, 1024)] = 0
    """Blocks on top of what the seats sign about."""

    def terms(self, decimals: int) -> RewardTerms:
        """The same in base units of a token. Raises RecipeError."""
        price = _units(self.price, decimals, "rewards.price")
        cap = _units(self.cap, decimals, "rewards.cap")
        return RewardTerms(price, cap, self.max_members, self.min_round_seconds)

    def escrow(self, decimals: int, rounds: int) -> int:
        """Base units that the opener pays in, for a run of so many rounds."""
        return self.terms(decimals).rate * (self.funded_rounds or rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """What a member stakes for its seat. Amounts are whole tokens."""

    minimum: Amount
    fault_max: Amount
    """What one fault costs at most."""

    def units(self, decimals: int) -> tuple[int, int]:
        """Minimum and ``fault_max`` in base units of a token. Raises RecipeError."""
        return (
            _units(self.minimum, decimals, "stake.minimum"),
            _units(self.fault_max, decimals, "stake.fault_max"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracts:
    """Where a run's money is, beside its registry; ``decimals`` are the token's."""

    token: Address
    stakes: Address
    rewards: Address
    records: Address
    decimals: int

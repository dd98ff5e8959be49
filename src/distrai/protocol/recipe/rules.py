"""What the keys of a recipe must be to each other."""

from collections.abc import Callable

from distrai.protocol.amounts import DECIMALS_MAX, parse_amount
from distrai.protocol.recipe.learning import LEARNING_RULES
from distrai.protocol.recipe.reading import RecipeError
from distrai.protocol.recipe.sections import Recipe, RoundsSection

SETTLE_D0 = 2.5
"""The settle time as a multiple of D0."""
ATTEMPTS_D0 = 8 / 3 * (1 + 1.5 + 1.5**2)
"""The first three attempts as a multiple of D0: no roll call while proposers still have their turn."""


def stall_seconds_min(rounds: RoundsSection) -> float:
    """Seconds that a slow but healthy round may take: the hard cut, the settle time and three attempts."""
    return rounds.hard_s + (SETTLE_D0 + ATTEMPTS_D0) * rounds.d0_s


def check_rules(recipe: Recipe) -> None:
    """Raises RecipeError for keys that contradict each other."""
    for rule in _RULES:
        rule(recipe)


def _deadlines(recipe: Recipe) -> None:
    rounds = recipe.rounds
    if rounds.cut_s <= rounds.d0_s:
        raise RecipeError("rounds.cut_s", f"{rounds.cut_s} s", f"use more than d0_s = {rounds.d0_s}")
    if rounds.hard_s <= rounds.cut_s:
        raise RecipeError("rounds.hard_s", f"{rounds.hard_s} s", f"use more than cut_s = {rounds.cut_s}")
    least = stall_seconds_min(rounds)
    if rounds.stall_seconds <= least:
        problem = f"a healthy round may take {least:.1f} s"
        raise RecipeError("rounds.stall_seconds", problem, f"use {int(least) + 1} or, better, twice that")


def _seats(recipe: Recipe) -> None:
    members = recipe.membership
    if members.min_seats > members.peers:
        hint = f"use at most peers = {members.peers}"
        raise RecipeError("membership.min_seats", f"{members.min_seats} seats", hint)
    if members.peers > members.max_seats:
        hint = f"use at most max_seats = {members.max_seats}"
        raise RecipeError("membership.peers", f"{members.peers} peers", hint)
    if recipe.rounds.min_updates > members.min_seats:
        hint = f"use at most membership.min_seats = {members.min_seats}, or rounds stay empty for ever"
        raise RecipeError("rounds.min_updates", f"{recipe.rounds.min_updates} updates", hint)
    share = members.roll_call_min
    if share[0] > share[1]:
        raise RecipeError(
            "membership.roll_call_min", f"{share[0]}/{share[1]} of the seats", "use [1, 2] for half"
        )


def _rewards(recipe: Recipe) -> None:
    rewards, rounds, peers = recipe.rewards, recipe.rounds.count, recipe.membership.peers
    if rewards is None:
        return
    if rewards.max_members < peers:
        hint = f"use at least membership.peers = {peers}, or somebody works for nothing"
        raise RecipeError("rewards.max_members", f"{rewards.max_members} members", hint)
    if rewards.funded_rounds > rounds:
        hint = f"use at most rounds.count = {rounds}, or 0 for all"
        raise RecipeError("rewards.funded_rounds", f"{rewards.funded_rounds} rounds", hint)


def _stake(recipe: Recipe) -> None:
    if recipe.stake is None:
        return
    if recipe.rewards is None:
        hint = "add a [rewards] table: its finality_blocks hold for stakes, too"
        raise RecipeError("stake", "asks for stakes in a run that pays nothing", hint)
    minimum = parse_amount(recipe.stake.minimum, DECIMALS_MAX)
    if parse_amount(recipe.stake.fault_max, DECIMALS_MAX) > minimum:
        hint = f'use at most stake.minimum = "{recipe.stake.minimum}"'
        raise RecipeError("stake.fault_max", f"{recipe.stake.fault_max} tokens", hint)


_RULES: tuple[Callable[[Recipe], None], ...] = (
    *LEARNING_RULES,
    _deadlines,
    _seats,
    _rewards,
    _stake,
)

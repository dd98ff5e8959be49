"""What recipes say about money: units, bounds, and that runs without it keep their bytes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Address
from distrai.protocol.recipe import Contracts, RecipeError, ResolvedRecipe, Rewards, Stake, parse_recipe
from distrai.protocol.rewards import RewardTerms
from helpers.recipes import minimal_mapping, resolved_example

REWARDS: dict[str, Any] = {"price": "1", "cap": "0.5", "max_members": 8}
STAKE: dict[str, Any] = {"minimum": "10", "fault_max": "1"}
CONTRACTS = Contracts(
    token=Address(b"\1" * 20),
    stakes=Address(b"\2" * 20),
    rewards=Address(b"\3" * 20),
    records=Address(b"\4" * 20),
    decimals=18,
)


def paying(**changes: Any) -> ResolvedRecipe:
    plain = resolved_example()
    recipe = replace(plain.recipe, rewards=Rewards(**REWARDS), stake=Stake(**STAKE))
    return replace(plain, **{"recipe": recipe, "contracts": CONTRACTS} | changes)


def read(rewards: dict[str, Any] | None = None, stake: dict[str, Any] | None = None) -> Any:
    tables = {"rewards": rewards, "stake": stake}
    return parse_recipe(
        minimal_mapping() | {name: table for name, table in tables.items() if table is not None}
    )


def test_amounts_are_whole_tokens_of_whatever_decimals() -> None:
    recipe = read(REWARDS, STAKE)
    assert recipe.rewards.terms(18) == RewardTerms(10**18, 5 * 10**17, 8, 1)
    assert recipe.rewards.terms(6) == RewardTerms(10**6, 5 * 10**5, 8, 1)
    assert recipe.rewards.escrow(6, 100) == 100 * 8 * 5 * 10**5
    assert replace(recipe.rewards, funded_rounds=3).escrow(6, 100) == 3 * 8 * 5 * 10**5
    assert recipe.stake.units(6) == (10**7, 10**6)
    assert (recipe.rewards.epoch_rounds, recipe.rewards.finality_blocks) == (16, 0)


def test_a_run_without_money_says_nothing_about_it() -> None:
    assert read().rewards is None
    assert read().stake is None
    table = json.loads(resolved_example().to_bytes())
    assert not {"rewards", "stake", "contracts"} & table.keys()


def test_a_resolved_recipe_with_money_reads_back() -> None:
    resolved = paying()
    again = ResolvedRecipe.from_bytes(resolved.to_bytes())
    assert again == resolved
    assert again.contracts == CONTRACTS
    table = json.loads(resolved.to_bytes())
    assert table["contracts"]["rewards"] == "0x" + "03" * 20
    assert table["rewards"]["epoch_rounds"] == 16
    assert replace(resolved, contracts=replace(CONTRACTS, stakes=CONTRACTS.token)).blob != resolved.blob


@pytest.mark.parametrize(
    ("rewards", "stake", "path"),
    [
        ({"price": "0"}, None, "rewards.price"),
        ({"price": "1e3"}, None, "rewards.price"),
        ({"price": 1}, None, "rewards.price"),
        ({"price": "0." + "0" * 36 + "1"}, None, "rewards.price"),
        ({"cap": "-1"}, None, "rewards.cap"),
        ({"max_members": 3}, None, "rewards.max_members"),
        ({"max_members": 0}, None, "rewards.max_members"),
        ({"min_round_seconds": 0}, None, "rewards.min_round_seconds"),
        ({"epoch_rounds": 0}, None, "rewards.epoch_rounds"),
        ({"funded_rounds": 5}, None, "rewards.funded_rounds"),
        ({"finality_blocks": -1}, None, "rewards.finality_blocks"),
        ({"prize": "1"}, None, "rewards.prize"),
        ({}, {"minimum": "0"}, "stake.minimum"),
        ({}, {"fault_max": "10.1"}, "stake.fault_max"),
        (None, {}, "stake"),
    ],
)
def test_impossible_settings_are_refused(rewards: Any, stake: Any, path: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        read(None if rewards is None else REWARDS | rewards, None if stake is None else STAKE | stake)
    assert refusal.value.path == path
    assert refusal.value.suggestion


def test_the_last_possible_settings_are_taken() -> None:
    assert (
        read(REWARDS | {"max_members": 4, "funded_rounds": 4}, STAKE | {"fault_max": "10.0"}).stake
        is not None
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"contracts": None}, "contracts"),
        ({"contracts": replace(CONTRACTS, rewards=Address(bytes(20)))}, "contracts.rewards"),
        ({"contracts": replace(CONTRACTS, token=Address(b"\1" * 19))}, "contracts.token"),
        ({"contracts": replace(CONTRACTS, decimals=37)}, "contracts.decimals"),
        ({"contracts": replace(CONTRACTS, decimals=0)}, "rewards.cap"),
        ({"contracts": replace(CONTRACTS, decimals=36)}, "rewards.price"),
    ],
)
def test_contracts_must_fit_the_recipe(change: dict[str, Any], path: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        paying(**change)
    assert refusal.value.path == path


def test_a_stake_must_fit_the_token() -> None:
    plain = paying()
    rewards = Rewards(**REWARDS | {"price": "1", "cap": "1"})
    recipe = replace(plain.recipe, rewards=rewards, stake=Stake(minimum="10", fault_max="0.1"))
    with pytest.raises(RecipeError, match=r"stake\.fault_max: .* too many decimals; use at most 0 decimals"):
        replace(plain, recipe=recipe, contracts=replace(CONTRACTS, decimals=0))


def test_contracts_alone_are_fine() -> None:
    """A run that pays nothing may still be in a training record."""
    resolved = replace(resolved_example(), contracts=CONTRACTS)
    assert ResolvedRecipe.from_bytes(resolved.to_bytes()) == resolved


def test_addresses_have_one_spelling() -> None:
    table = json.loads(paying().to_bytes())
    table["contracts"]["token"] = "0x" + "AB" * 20
    with pytest.raises(RecipeError, match="lower-case"):
        ResolvedRecipe.from_bytes(canonical_json(table))

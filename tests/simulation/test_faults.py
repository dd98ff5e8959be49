"""Honest members never sign what costs stake: whole networks under reorgs, crashes and churn, and the real contract.

Every simulated run looks for it (``simulation/signed.py``). Here is what it found, put before the contract.
"""

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from contracts.support.evm import Contract, Evm
from contracts.support.money import Economy, Staked, deploy_all
from contracts.support.players import Member, World, refused
from distrai.ledger.abi import load_artifact
from distrai.peer.engine import Engine
from distrai.protocol.faults import is_fault, place_of
from distrai.protocol.messages import Update
from distrai.simulation import SCENARIOS, Report, simulate
from distrai.simulation.disk import Disk
from distrai.simulation.scenario import LedgerFaults, Scenario
from distrai.simulation.signed import SignedWatch
from distrai.simulation.watch import Watch

SEEDS = int(os.environ.get("DISTRAI_SEEDS", "100")) // 5
NAMES = [
    "reorgs",
    "deep-reorgs",
    "reorgs-and-crashes",
    "reorgs-and-power-cuts",
    "power-cuts",
    "rotations",
    "reorgs-and-liars",
    "churn-and-reorgs",
    "too-deep",
    "lost-logs-and-reorgs",
    "stale-slow",
    "stale-reorgs",
    "stale-deep-reorgs",
    "stale-churn-and-reorgs",
    "stale-crashes",
    "overlap",
    "overlap-reorgs-and-crashes",
    "stale-fragments-and-reorgs",
]
FAULT = "sent two Updates for one place"


class Runs:
    """Simulated runs, and what their members signed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.watches: list[SignedWatch] = []

        def kept(world: Any) -> Watch:
            watch = Watch(world)
            self.watches.append(watch.signed)
            return watch

        monkeypatch.setitem(simulate.__globals__, "Watch", kept)

    def run(self, scenario: Scenario, seed: int) -> Report:
        return simulate(scenario, seed)

    def honest(self) -> list[list[Update]]:
        """What honest members signed in each run."""
        return [
            [
                update
                for place, known in watch.places.items()
                for update in known.values()
                if not watch.world.is_liar(place.member)
            ]
            for watch in self.watches
        ]

    def faults(self) -> list[tuple[Update, Update]]:
        return [pair for watch in self.watches for pair in watch.faults]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


@pytest.fixture(scope="module")
def economy() -> Economy:
    evm, artifact = Evm(), load_artifact("RunRegistry")
    registry = Contract(evm, artifact.abi, artifact.bytecode, b"\xdd" * 20)
    return Economy(deploy_all(evm, registry), World(evm, registry))


@pytest.fixture
def staked(economy: Economy) -> Iterator[Staked]:
    point = economy.evm.snapshot()
    yield economy.staked(3)
    economy.evm.revert(point)


def under_two_heads(updates: list[Update]) -> list[tuple[Update, Update]]:
    """Pairs of one member and round that follow two heads: what a reorg leaves behind."""
    found: dict[tuple[bytes, int], Update] = {}
    pairs = []
    for update in updates:
        first = found.setdefault((update.member, update.round), update)
        if first.previous_head != update.previous_head:
            pairs.append((first, update))
    return pairs


def moved(staked: Staked, member: Member, update: Update) -> Update:
    """The same Update, of a member of a run that has staked."""
    return msgspec.structs.replace(update, run=staked.run, member=member.id)


def test_no_two_updates_of_an_honest_member_are_a_fault(runs: Runs) -> None:
    for number in range(max(SEEDS, len(NAMES))):
        report = runs.run(SCENARIOS[NAMES[number % len(NAMES)]], number)
        assert not report.violations, str(report)
    everything = [update for updates in runs.honest() for update in updates]
    assert len(everything) > 400
    assert {update.fragment for update in everything} == {0, 1, 2}
    assert {update.tau for update in everything} == {0, 2}
    for updates in runs.honest():
        assert len({place_of(update) for update in updates}) == len(updates)


def test_the_contract_takes_nothing_for_what_honest_members_sign_before_and_after_a_reorg(
    runs: Runs, staked: Staked
) -> None:
    for seed in (1, 8, 11):
        runs.run(SCENARIOS["stale-churn-and-reorgs"], seed)
    pairs = [pair for updates in runs.honest() for pair in under_two_heads(updates)]
    assert len(pairs) > 5
    member = staked.running.seats[0]
    for pair in pairs:
        for first, second in (pair, pair[::-1]):
            assert not is_fault(first, second)
            with refused("NotMembersKey"):
                staked.slash(
                    moved(staked, member, first), moved(staked, member, second), (member.key, member.key)
                )


@pytest.mark.parametrize("name", ["equivocation", "stale-many-at-once", "not-finite"])
def test_the_contract_takes_stake_for_what_liars_signed(name: str, runs: Runs, economy: Economy) -> None:
    report = runs.run(SCENARIOS[name], 1)
    assert not report.violations, str(report)
    faults = runs.faults()
    assert bool(faults) == (name != "not-finite"), "who signs one worthless update loses nothing"
    assert bool(report.faults) == bool(faults), "who sees both reports them"
    for first, second in faults[:5]:
        assert is_fault(first, second)
        point = economy.evm.snapshot()
        staked = economy.staked(1)
        liar = staked.running.seats[0]
        pair = moved(staked, liar, first), moved(staked, liar, second)
        outcome = staked.slash(*pair, (liar.key, liar.key))
        assert outcome.log.arguments["place"] == place_of(pair[0]).id
        economy.evm.revert(point)


# That it can fail


def broken(scenario: Scenario, *seeds: int) -> str:
    return "\n".join("\n".join(simulate(scenario, seed).violations) for seed in seeds)


def test_an_engine_that_forgets_what_it_signed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "own_records", lambda disk: [])
    assert FAULT in broken(SCENARIOS["power-cuts"], 0, 1)


def test_an_engine_that_forgets_what_it_signed_before_a_reorg_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Engine, "_keep_record", lambda engine, record: None)
    assert FAULT in broken(SCENARIOS["reorgs"], *range(6))


def test_who_lost_its_log_stays_silent_for_what_a_reorg_may_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = SCENARIOS["lost-logs-and-reorgs"]
    assert not broken(scenario, 1692)
    monkeypatch.setattr(LedgerFaults, "depth", 0)
    assert FAULT in broken(scenario, 1692)

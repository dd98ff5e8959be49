"""``protocol/faults.py`` and ``StakeManager.slash`` decide the same about any two Updates."""

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.support.evm import Contract, Evm
from contracts.support.money import Economy, Staked, deploy_all, work_of
from contracts.support.money import place_of as place_on_the_ledger
from contracts.support.players import World
from distrai.ledger.abi import load_artifact
from distrai.ledger.errors import LedgerRefused
from distrai.protocol.faults import is_fault, place_of
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Hash

HASHES = st.sampled_from([Hash(bytes(32)), keccak(b"one"), keccak(b"two"), Hash(b"\xff" * 32)])


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 2, (1 << bits) - 1])


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "run": numbers(64),
    "round": st.sampled_from([1, 2, (1 << 64) - 1]),
    "previous_head": HASHES,
    "member": st.sampled_from([0, 1, 2]),
    "base_round": numbers(64),
    "fragment": numbers(32),
    "version": numbers(16),
    "base_state_root": HASHES,
    "tau": numbers(32),
    "inner_steps": numbers(32),
    "tokens": numbers(64),
    "codec": st.sampled_from(["", "int8", "int\u00df", "x" * 64]),
    "blob_hash": HASHES,
    "blob_size": numbers(64),
    "key_hash": HASHES,
    "trace_root": HASHES,
}
"""Few values of each field, so that two draws are often equal; a member is a seat of the run."""


@cache
def staked() -> Staked:
    evm, artifact = Evm(), load_artifact("RunRegistry")
    registry = Contract(evm, artifact.abi, artifact.bytecode, b"\xdd" * 20)
    return Economy(deploy_all(evm, registry), World(evm, registry)).staked(3)


def changed(update: Update, changes: dict[str, Any]) -> Update:
    values = dict(changes)
    if "member" in values:
        values["member"] = staked().running.seats[values["member"]].id
    return replace(update, **values)


def drawn(names: st.SearchStrategy[set[str]]) -> st.SearchStrategy[dict[str, Any]]:
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({name: CHANGES[name] for name in sorted(chosen)})
    )


ANYWHERE = drawn(st.sets(st.sampled_from(sorted({*CHANGES} - {"run"}))))
OTHERWISE = drawn(st.sets(st.sampled_from(sorted(CHANGES)), max_size=3))


def taken(place: Update, first: Update, second: Update) -> bytes | None:
    """The place that the contract punishes two signed Updates for; None if it refuses."""
    run = staked()
    keys = {member.id: member.key for member in run.running.seats}
    signatures = [run.sign(update, keys[update.member]) for update in (first, second)]
    arguments = (place_on_the_ledger(place), work_of(first), work_of(second), *signatures)
    point = run.economy.evm.snapshot()
    try:
        outcome = run.economy.stakes.send(bytes(20), "slash", *arguments)
    except LedgerRefused:
        return None
    finally:
        run.economy.evm.revert(point)
    return bytes(outcome.log.arguments["place"])


@settings(max_examples=150)
@given(ANYWHERE, OTHERWISE)
def test_the_contract_decides_as_the_predicate(base: dict[str, Any], other: dict[str, Any]) -> None:
    run = staked()
    first = changed(run.update(run.running.seats[0]), base)
    second = changed(first, other)
    decisions = {
        taken(place, *pair) for place in (first, second) for pair in ((first, second), (second, first))
    }
    if is_fault(first, second):
        assert decisions == {place_of(first).id}
    else:
        assert decisions == {None}

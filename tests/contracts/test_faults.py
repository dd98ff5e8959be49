"""The objective fault: two different signed Updates for one place, and nothing less."""

import pytest
from msgspec.structs import replace

from contracts.support.evm import CHAIN_ID
from contracts.support.money import (
    CHALLENGER,
    FAULT,
    MINIMUM,
    SLASH,
    TREASURY,
    UNBOND,
    Economy,
    Staked,
    place_id,
)
from contracts.support.players import NOBODY, Key, refused
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address
from distrai.protocol.typed_data import Domain

OTHERS = {
    "version": 2,
    "base_state_root": keccak(b"other"),
    "tau": 1,
    "inner_steps": 9,
    "tokens": 1,
    "codec": "topk",
    "blob_hash": keccak(b"other"),
    "blob_size": 9,
    "key_hash": keccak(b"other"),
    "trace_root": keccak(b"other"),
}
PLACE = {
    "run": 77,
    "round": 9,
    "previous_head": keccak(b"other head"),
    "member": keccak(b"another"),
    "base_round": 3,
    "fragment": 1,
}


@pytest.fixture
def staked(economy: Economy) -> Staked:
    return economy.staked(3)


@pytest.mark.parametrize("what", OTHERS)
def test_two_updates_that_differ_in_anything_are_a_fault(staked: Staked, what: str):
    liar = staked.running.seats[0]
    first = staked.update(liar)
    outcome = staked.slash(first, replace(first, **{what: OTHERS[what]}), (liar.key, liar.key))
    assert outcome.log.arguments == {
        "run": staked.run,
        "member": liar.id,
        "place": place_id(first),
        "challenger": CHALLENGER,
        "fromStaked": FAULT,
        "fromUnbonding": 0,
        "reward": FAULT // 10,
        "active": False,
    }
    assert staked.held(liar) == (MINIMUM - FAULT, 0, 0, 0)
    assert not staked.is_active(liar)


@pytest.mark.parametrize("what", PLACE)
def test_updates_for_two_places_are_no_fault(staked: Staked, what: str):
    """An honest member signs the like: in every round, under every head after a reorg, for every base and fragment."""
    honest = staked.running.seats[0]
    first = staked.update(honest)
    second = replace(first, blob_hash=keccak(b"other"), **{what: PLACE[what]})
    with refused("NotMembersKey"):
        staked.slash(first, second, (honest.key, honest.key))
    with refused("NotMembersKey"):
        staked.slash(second, first, (honest.key, honest.key))


def test_the_same_update_twice_is_no_fault(staked: Staked):
    honest = staked.running.seats[0]
    update = staked.update(honest)
    with refused("SameUpdate", update.identity(b"")):
        staked.slash(update, update, (honest.key, honest.key))


def test_both_are_signed_by_the_member(staked: Staked):
    honest, other = staked.running.seats[:2]
    first = staked.update(honest)
    second = replace(first, tokens=1)
    for keys in ((honest.key, other.key), (other.key, honest.key), (other.key, other.key)):
        with refused("NotMembersKey", honest.id, other.key.address):
            staked.slash(first, second, keys)
    nobodys = Key("nobody's")
    with refused("NotMembersKey", honest.id, nobodys.address):
        staked.slash(first, second, (honest.key, nobodys))
    nobody = replace(first, member=bytes(32))
    with refused("NotMembersKey", bytes(32), nobodys.address):
        staked.slash(nobody, replace(nobody, tokens=1), (nobodys, nobodys))


@pytest.mark.parametrize("where", ["chain", "registry"])
def test_what_was_signed_elsewhere_is_no_fault(staked: Staked, where: str):
    """The same keys may take part on another chain, and in another registry."""
    honest = staked.running.seats[0]
    registry = staked.economy.world.registry.address
    there = (
        Domain(CHAIN_ID + 1, Address(registry)) if where == "chain" else Domain(CHAIN_ID, Address(b"\1" * 20))
    )
    first, second = staked.update(honest), staked.update(honest, tokens=1)
    foreign = honest.key.sign(there.digest(second.identity(b"")))
    with refused("NotMembersKey"):
        staked.submit(first, second, staked.sign(first, honest.key), foreign)


def test_a_signature_has_one_form(staked: Staked):
    """Its twin with a high s proves nothing, but it would be refused in any case: the Updates must differ."""
    liar = staked.running.seats[0]
    first, second = staked.update(liar), staked.update(liar, tokens=1)
    good = staked.sign(second, liar.key)
    s = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 - int.from_bytes(
        good[32:64], "big"
    )
    twin = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
    with refused("ECDSAInvalidSignatureS"):
        staked.submit(first, second, staked.sign(first, liar.key), twin)
    with refused("ECDSAInvalidSignatureLength", 64):
        staked.submit(first, second, staked.sign(first, liar.key), good[:64])
    with refused("ECDSAInvalidSignature"):
        staked.submit(first, second, staked.sign(first, liar.key), bytes(65))


def test_a_fault_is_punished_once(staked: Staked):
    liar = staked.running.seats[0]
    first, second, third = (staked.update(liar, tokens=tokens) for tokens in (1, 2, 3))
    staked.slash(first, second, (liar.key, liar.key))
    for pair in ((first, second), (second, first), (first, third)):
        with refused("AlreadyPunished", place_id(first)):
            staked.slash(*pair, (liar.key, liar.key))
    assert staked.economy.stakes.read("caseOf", place_id(first)) == (CHALLENGER, FAULT // 10)


def test_every_place_is_a_fault_of_its_own_until_nothing_is_left(staked: Staked):
    liar = staked.running.seats[0]
    lost = []
    for fragment in range(4):
        first = staked.update(liar, fragment=fragment)
        if sum(lost) == MINIMUM:
            with refused("NothingToSlash", staked.run, liar.id):
                staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
            break
        outcome = staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
        lost.append(outcome.log.arguments["fromStaked"])
    assert lost == [FAULT, FAULT, MINIMUM - 2 * FAULT]


def test_the_challenger_gets_a_tenth_and_the_treasury_the_rest(staked: Staked):
    liar, economy = staked.running.seats[0], staked.economy
    first = staked.update(liar)
    staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
    assert economy.stakes.read("seized") == FAULT - FAULT // 10
    logs = economy.stakes.send(NOBODY, "collectReward", place_id(first)).logs
    assert logs[0].arguments == {"place": place_id(first), "challenger": CHALLENGER, "amount": FAULT // 10}
    with refused("NothingToCollect"):
        economy.stakes.send(NOBODY, "collectReward", place_id(first))
    economy.stakes.send(NOBODY, "collectSeized")
    assert (economy.balance(CHALLENGER), economy.balance(TREASURY)) == (FAULT // 10, FAULT - FAULT // 10)
    assert economy.balance(economy.stakes.address) == 3 * MINIMUM - FAULT
    with refused("AlreadyPunished"):
        staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))


def test_a_member_below_the_minimum_tops_up_or_leaves_whole(staked: Staked):
    liar = staked.running.seats[0]
    first = staked.update(liar)
    staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
    with refused("BelowMinimum", MINIMUM - 1, MINIMUM):
        staked.stake(liar, FAULT - 1)
    staked.stake(liar, FAULT)
    assert staked.is_active(liar)
    first = staked.update(liar, fragment=1)
    staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
    staked.drop(liar)
    staked.unbond(liar)
    staked.wait(UNBOND)
    before = staked.economy.balance(liar.controller)
    staked.withdraw(liar)
    assert staked.economy.balance(liar.controller) - before == MINIMUM - FAULT


def test_what_is_on_its_way_out_can_be_lost_until_it_is_out(staked: Staked):
    liar = staked.running.seats[0]
    first = staked.update(liar)
    staked.drop(liar)
    staked.unbond(liar)
    staked.wait(UNBOND - 1)
    outcome = staked.slash(first, replace(first, tokens=1), (liar.key, liar.key))
    assert outcome.log.arguments["fromUnbonding"] == FAULT
    staked.wait(1)
    staked.withdraw(liar)
    assert staked.economy.balance(liar.controller) == MINIMUM - FAULT
    other = replace(first, fragment=1)
    with refused("NothingToSlash"):
        staked.slash(other, replace(other, tokens=1), (liar.key, liar.key))


def test_a_fault_takes_from_both(staked: Staked):
    liar = staked.running.seats[0]
    first = staked.update(liar)
    for fragment in (5, 6):
        place = replace(first, fragment=fragment)
        staked.slash(place, replace(place, tokens=1), (liar.key, liar.key))
    staked.drop(liar)
    staked.unbond(liar)
    staked.stake(liar, MINIMUM)
    for fragment, parts in ((1, (FAULT, 0)), (2, (FAULT, 0)), (3, (2_000, 2_000))):
        place = replace(first, fragment=fragment)
        said = staked.slash(place, replace(place, tokens=1), (liar.key, liar.key)).log.arguments
        assert (said["fromStaked"], said["fromUnbonding"]) == parts


def test_any_key_of_the_member_counts(staked: Staked):
    """Otherwise a rotation between two Updates would be a way out."""
    liar = staked.running.seats[0]
    first, second = staked.update(liar), staked.update(liar, tokens=1)
    rotated = staked.economy.world.rotate(liar, Key("rotated"))
    staked.slash(first, second, (liar.key, rotated.key))


def test_a_round_is_reported_within_a_window(staked: Staked):
    liar, economy = staked.running.seats[0], staked.economy
    old = staked.update(liar)
    staked.running.certify()
    outcome = economy.stakes.send(NOBODY, "mark", staked.run)
    assert outcome.log.arguments["round"] == 1
    staked.wait(SLASH - 1)
    assert economy.stakes.send(NOBODY, "mark", staked.run).logs == []
    point = economy.evm.snapshot()
    staked.slash(old, replace(old, tokens=1), (liar.key, liar.key))
    economy.evm.revert(point)
    staked.wait(1)
    economy.stakes.send(NOBODY, "mark", staked.run)
    with refused("RoundTooOld", 1, 1):
        staked.slash(old, replace(old, tokens=1), (liar.key, liar.key))
    now = staked.update(liar)
    staked.slash(now, replace(now, tokens=1), (liar.key, liar.key))


def test_marking_often_does_not_close_the_window_early(staked: Staked):
    economy, liar = staked.economy, staked.running.seats[0]
    for _ in range(5):
        staked.wait(SLASH // 3)
        economy.stakes.send(NOBODY, "mark", staked.run)
    old = staked.update(liar)
    staked.running.certify()
    for _ in range(2):
        staked.wait(SLASH // 3)
        economy.stakes.send(NOBODY, "mark", staked.run)
    staked.slash(old, replace(old, tokens=1), (liar.key, liar.key))


def test_a_key_that_was_replaced_long_ago_harms_nobody(staked: Staked):
    """Whoever finds it on an old disk could sign anything, for the rounds of now."""
    honest, economy = staked.running.seats[0], staked.economy
    economy.world.rotate(honest, Key("rotated"))
    until = economy.evm.number - 1
    economy.stakes.send(NOBODY, "mark", staked.run)
    first, second = staked.update(honest), staked.update(honest, tokens=1)
    point = economy.evm.snapshot()
    staked.slash(first, second, (honest.key, honest.key))
    economy.evm.revert(point)
    staked.wait(SLASH)
    economy.stakes.send(NOBODY, "mark", staked.run)
    with refused("KeyTooOld", honest.key.address, until):
        staked.slash(first, second, (honest.key, honest.key))
    with refused("KeyTooOld", honest.key.address, until):
        staked.slash(first, second, (Key("rotated"), honest.key))


def test_the_clock_is_told(staked: Staked):
    economy = staked.economy
    economy.stakes.send(NOBODY, "mark", staked.run)
    first = (0, economy.evm.number - 1, economy.evm.now)
    assert economy.stakes.read("clockOf", staked.run) == ((0, 0, 0), first)
    staked.running.certify()
    staked.wait(SLASH)
    economy.stakes.send(NOBODY, "mark", staked.run)
    second = (1, economy.evm.number - 1, economy.evm.now)
    assert economy.stakes.read("clockOf", staked.run) == (first, second)


def test_a_reorg_makes_no_fault(staked: Staked):
    """An honest member signs under each head that it sees; the same head again gets the same Update again."""
    honest, economy = staked.running.seats[0], staked.economy
    point = economy.evm.snapshot()
    staked.running.certify()
    here = staked.update(honest, blob_hash=keccak(b"trained after the first"))
    economy.evm.revert(point)
    staked.running.certify(staked.running.body(updates_root=keccak(b"another list")))
    there = staked.update(honest, blob_hash=keccak(b"trained after the second"))
    assert here.round == there.round
    with refused("NotMembersKey"):
        staked.slash(here, there, (honest.key, honest.key))

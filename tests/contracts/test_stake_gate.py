"""Runs that only let in who has a stake."""

import pytest

from contracts.support.money import FAULT, MINIMUM, Economy, Staked
from contracts.support.players import NOBODY, Key, Running, refused
from distrai.protocol.keccak import keccak

STRANGER = Key("stranger").address


def gated(economy: Economy, **limits: object) -> Staked:
    """A run that nobody joined yet and that asks for a stake."""
    run = economy.world.open(**limits)
    owner = economy.world.owner.address
    economy.stakes.send(owner, "setTerms", run, (MINIMUM, FAULT))
    economy.world.send(owner, "requireStake", run, economy.stakes.address)
    return Staked(economy, Running(economy.world, run, []))


def test_who_has_a_stake_joins_and_nobody_else(economy):
    staked, world = gated(economy), economy.world
    member, poor = world.members(2)
    staked.stake(member, MINIMUM)
    assert world.join(staked.run, member).log.arguments["seat"] is True
    with refused("NotStaked", staked.run, poor.id):
        world.join(staked.run, poor)
    with refused("NotStaked", staked.run, poor.id):
        world.join(staked.run, poor, sender=poor.key.address)
    staked.stake(poor, MINIMUM)
    world.join(staked.run, poor)


def test_a_stake_in_another_run_opens_no_door(economy):
    staked, other = gated(economy), gated(economy)
    member = economy.world.member()
    staked.stake(member, MINIMUM)
    with refused("NotStaked", other.run, member.id):
        economy.world.join(other.run, member)


def test_an_open_run_asks_too_and_also_once_it_is_started(economy):
    staked, world = gated(economy, open_admission=True), economy.world
    member, late = world.members(2)
    with refused("NotStaked"):
        world.send(member.key.address, "join", staked.run, member.id, b"", b"")
    staked.stake(member, MINIMUM)
    world.send(member.key.address, "join", staked.run, member.id, b"", b"")
    world.start(staked.run, [member])
    with refused("NotStaked", staked.run, late.id):
        world.send(late.key.address, "join", staked.run, late.id, b"", b"")
    staked.stake(late, MINIMUM)
    world.send(late.key.address, "join", staked.run, late.id, b"", b"")


def test_who_wanted_out_or_was_slashed_comes_back_with_a_whole_stake_only(economy):
    staked, world = gated(economy), economy.world
    member, other = world.members(2)
    for each in (member, other):
        staked.stake(each, MINIMUM)
        world.join(staked.run, each)
    staked.running.seats = [member, other]
    world.start(staked.run, [member, other])
    first = staked.update(member, blob_hash=keccak(b"first"))
    second = staked.update(member, blob_hash=keccak(b"second"))
    outcome = staked.slash(first, second, (member.key, member.key))
    assert outcome.log.arguments["active"] is False
    staked.leave(member)
    with refused("NotStaked", staked.run, member.id):
        world.join(staked.run, member, sender=member.key.address)
    staked.stake(member, FAULT)
    world.join(staked.run, member, sender=member.key.address)
    staked.leave(member)
    assert staked.unbond(member).log.name == "ExitAsked"
    with refused("NotStaked", staked.run, member.id):
        world.join(staked.run, member, sender=member.key.address)


@pytest.mark.parametrize(("amount", "active"), [(MINIMUM + FAULT, True), (MINIMUM + FAULT - 1, False)])
def test_a_slash_says_whether_what_is_left_is_enough(economy, amount, active):
    staked, world = gated(economy), economy.world
    member = world.member()
    staked.stake(member, amount)
    world.join(staked.run, member)
    staked.running.seats = [member]
    world.start(staked.run, [member])
    update = staked.update(member)
    other = staked.update(member, blob_hash=keccak(b"other"))
    outcome = staked.slash(update, other, (member.key, member.key))
    assert outcome.log.arguments["active"] is active is staked.is_active(member)


def test_a_slash_of_who_wants_out_says_that_it_is_inactive(economy):
    staked = economy.staked(2, amount=MINIMUM + 2 * FAULT)
    member = staked.running.seats[0]
    staked.leave(member)
    staked.unbond(member)
    first, second = staked.update(member), staked.update(member, blob_hash=keccak(b"other"))
    assert staked.slash(first, second, (member.key, member.key)).log.arguments["active"] is False


def test_the_owner_says_once_and_before_anybody_joins_that_a_stake_is_needed(economy):
    world, stakes = economy.world, economy.stakes.address
    run, owner = world.open(max_seats=1), world.owner.address
    assert world.read("stakesOf", run) == NOBODY
    with refused("NotOwner", run, STRANGER):
        world.send(STRANGER, "requireStake", run, stakes)
    with refused("NoStakes", STRANGER):
        world.send(owner, "requireStake", run, STRANGER)
    with refused("UnknownRun", run + 1):
        world.send(owner, "requireStake", run + 1, stakes)
    outcome = world.send(owner, "requireStake", run, stakes)
    assert (outcome.log.name, outcome.log.arguments) == ("StakeRequired", {"run": run, "stakes": stakes})
    assert world.read("stakesOf", run) == stakes
    with refused("StakeAlreadyRequired", run, stakes):
        world.send(owner, "requireStake", run, economy.token.address)


@pytest.mark.parametrize("left", [False, True], ids=["who is in", "who was in"])
def test_who_came_in_before_was_not_asked_so_it_is_too_late(economy, left):
    """Also if all seats are free again: a trainer without a seat may still be in."""
    world, stakes = economy.world, economy.stakes.address
    run, (first, second) = world.open(max_seats=1), world.members(2)
    world.join(run, first)
    world.join(run, second)
    if left:
        world.send(first.controller, "leaveRun", run, first.id)
    with refused("MembersEntered", run):
        world.send(world.owner.address, "requireStake", run, stakes)


def test_a_started_run_asks_for_nothing_new(economy):
    running = economy.world.started(1)
    with refused("RunNotOpen", running.run):
        economy.world.send(economy.world.owner.address, "requireStake", running.run, economy.stakes.address)


def test_a_run_without_terms_lets_nobody_in(economy):
    world = economy.world
    run, member = world.open(), world.member()
    world.send(world.owner.address, "requireStake", run, economy.stakes.address)
    with refused("NotStaked", run, member.id):
        world.join(run, member)
    with refused("NoTerms", run):
        economy.stakes.send(member.controller, "stake", run, member.id, MINIMUM)

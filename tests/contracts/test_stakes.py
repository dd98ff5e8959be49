"""Stakes: coming in, counting, going out."""

import pytest

from contracts.support.money import BANK, DEAD, FAULT, MINIMUM, UNBOND, Economy
from contracts.support.players import NOBODY, Key, refused

STRANGER = Key("stranger").address


def test_the_owner_says_what_a_seat_stakes(economy: Economy):
    run, owner = economy.world.open(), economy.world.owner.address
    with refused("NotRunOwner", run, STRANGER):
        economy.stakes.send(STRANGER, "setTerms", run, (MINIMUM, FAULT))
    with refused("NotRunOwner", 99, owner):
        economy.stakes.send(owner, "setTerms", 99, (MINIMUM, FAULT))
    for bad in ((MINIMUM, 0), (MINIMUM, MINIMUM + 1), (0, 0)):
        with refused("BadTerms", *bad):
            economy.stakes.send(owner, "setTerms", run, bad)
    outcome = economy.stakes.send(owner, "setTerms", run, (MINIMUM, MINIMUM))
    assert outcome.log.arguments == {"run": run, "minimum": MINIMUM, "faultMax": MINIMUM}
    assert economy.stakes.read("termsOf", run) == (MINIMUM, MINIMUM)


def test_terms_never_change(economy: Economy):
    run, owner = economy.world.open(), economy.world.owner.address
    economy.stakes.send(owner, "setTerms", run, (MINIMUM, FAULT))
    with refused("TermsFixed", run):
        economy.stakes.send(owner, "setTerms", run, (MINIMUM, FAULT))
    started = economy.world.started(1)
    with refused("TermsFixed", started.run):
        economy.stakes.send(owner, "setTerms", started.run, (MINIMUM, FAULT))


def test_a_stake_counts_from_the_minimum_on(economy: Economy):
    staked = economy.staked(1, MINIMUM)
    (member,) = staked.running.seats
    assert staked.is_active(member)
    outcome = staked.stake(member, 5)
    said = {"run": staked.run, "member": member.id, "amount": 5, "staked": MINIMUM + 5}
    assert (outcome.log.name, outcome.log.arguments) == ("Staked", said)
    assert staked.held(member) == (MINIMUM + 5, 0, 0, 0)
    assert economy.balance(economy.stakes.address) == MINIMUM + 5
    newcomer = economy.world.member()
    assert not staked.is_active(newcomer)
    with refused("BelowMinimum", MINIMUM - 1, MINIMUM):
        staked.stake(newcomer, MINIMUM - 1)


def test_only_the_controller_moves_a_stake(economy: Economy):
    staked = economy.staked(1)
    (member,) = staked.running.seats
    for sender in (STRANGER, member.key.address):
        with refused("NotMemberController", member.id, sender):
            staked.stake(member, MINIMUM, sender)
        with refused("NotMemberController", member.id, sender):
            staked.send(sender, "unbond", staked.run, member.id)
    with refused("NotMemberController", b"\1" * 32, STRANGER):
        staked.send(STRANGER, "stake", staked.run, b"\1" * 32, MINIMUM)


def test_a_run_without_terms_takes_no_stakes(economy: Economy):
    run, member = economy.world.open(), economy.world.member()
    with refused("NoTerms", run):
        economy.stakes.send(member.controller, "stake", run, member.id, MINIMUM)
    assert not economy.stakes.read("isActive", run, member.id)


def test_a_stake_needs_tokens(economy: Economy):
    staked, newcomer = economy.staked(1), economy.world.member()
    with refused("ERC20InsufficientAllowance"):
        staked.send(newcomer.controller, "stake", staked.run, newcomer.id, MINIMUM)


def test_a_stake_goes_out_whole_after_the_wait(economy: Economy):
    staked = economy.staked(3, MINIMUM + 3)
    member = staked.running.seats[0]
    with refused("StillJoined", staked.run, member.id):
        staked.unbond(member)
    staked.drop(member)
    with refused("NothingUnbonding", staked.run, member.id):
        staked.withdraw(member)
    released = economy.evm.now + UNBOND
    outcome = staked.unbond(member)
    assert [log.name for log in outcome.logs] == ["Marked", "Unbonding"]
    assert outcome.logs[1].arguments["releaseAt"] == released
    assert staked.held(member) == (0, MINIMUM + 3, released, 0)
    assert not staked.is_active(member)
    with refused("NothingStaked", staked.run, member.id):
        staked.unbond(member)
    staked.wait(UNBOND - 1)
    with refused("NotReleased", released):
        staked.withdraw(member)
    staked.wait(1)
    said = {"run": staked.run, "member": member.id, "to": member.controller, "amount": MINIMUM + 3}
    assert staked.withdraw(member).log.arguments == said
    assert economy.balance(member.controller) == MINIMUM + 3
    with refused("NothingUnbonding", staked.run, member.id):
        staked.withdraw(member)


def test_it_goes_to_the_payout_address_of_then(economy: Economy):
    staked = economy.staked(2)
    member = staked.running.seats[0]
    staked.drop(member)
    staked.unbond(member)
    vault = Key("vault").address
    economy.world.send(member.controller, "setAttributes", member.id, member.controller, vault)
    staked.wait(UNBOND)
    staked.withdraw(member)
    assert (economy.balance(vault), economy.balance(member.controller)) == (MINIMUM, 0)


def test_keys_have_no_part_in_it(economy: Economy):
    """A rotation neither loses a stake nor frees it."""
    staked = economy.staked(2)
    member = economy.world.rotate(staked.running.seats[0], Key("new key"))
    assert staked.is_active(member)
    with refused("StillJoined"):
        staked.unbond(member)


def test_who_left_before_the_start_unbonds_at_once(economy: Economy):
    run, member = economy.world.open(), economy.world.member()
    economy.stakes.send(economy.world.owner.address, "setTerms", run, (MINIMUM, FAULT))
    economy.world.join(run, member)
    economy.give(member.controller, MINIMUM, economy.stakes)
    economy.stakes.send(member.controller, "stake", run, member.id, MINIMUM)
    with refused("StillJoined"):
        economy.stakes.send(member.controller, "unbond", run, member.id)
    economy.world.send(member.controller, "leaveRun", run, member.id)
    economy.stakes.send(member.controller, "unbond", run, member.id)


def test_seats_that_never_drop_hold_no_hostage(economy: Economy):
    staked = economy.staked(3)
    member = staked.running.seats[0]
    staked.leave(member)
    due = economy.evm.now + DEAD
    outcome = staked.unbond(member)
    assert outcome.log.arguments == {"run": staked.run, "member": member.id, "unbondAt": due}
    assert not staked.is_active(member)
    assert staked.held(member) == (MINIMUM, 0, 0, due - DEAD)
    for _ in range(2):
        staked.wait(DEAD // 2 - 1)
        staked.running.certify(signers=staked.running.seats[1:])
    with refused("SeatNotGivenUp", due):
        staked.unbond(member)
    staked.wait(2)
    staked.unbond(member)
    assert staked.held(member) == (0, MINIMUM, economy.evm.now + UNBOND, 0)


def test_an_asked_exit_is_taken_back_by_staking(economy: Economy):
    """Otherwise an old wish would let a seat out at once, much later."""
    staked = economy.staked(3)
    member = staked.running.seats[0]
    staked.leave(member)
    staked.unbond(member)
    staked.stake(member, 0)
    assert staked.is_active(member)
    assert staked.held(member) == (MINIMUM, 0, 0, 0)


def test_a_dead_run_lets_everybody_go(economy: Economy):
    staked = economy.staked(3)
    for left in (1, 0):
        staked.wait(DEAD - 1 if left else 1)
        for member in staked.running.seats:
            if left:
                with refused("StillJoined", staked.run, member.id):
                    staked.unbond(member)
            else:
                staked.unbond(member)
    staked.wait(UNBOND)
    for member in staked.running.seats:
        staked.withdraw(member)
    assert economy.balance(economy.stakes.address) == 0


def test_a_run_that_never_started_is_not_dead(economy: Economy):
    run, member = economy.world.open(), economy.world.member()
    economy.stakes.send(economy.world.owner.address, "setTerms", run, (MINIMUM, FAULT))
    economy.world.join(run, member)
    economy.give(member.controller, MINIMUM, economy.stakes)
    economy.stakes.send(member.controller, "stake", run, member.id, MINIMUM)
    economy.evm.now += 10 * DEAD
    with refused("StillJoined"):
        economy.stakes.send(member.controller, "unbond", run, member.id)


def test_staking_anew_keeps_what_is_on_its_way(economy: Economy):
    staked = economy.staked(2)
    member = staked.running.seats[0]
    staked.drop(member)
    staked.unbond(member)
    released = staked.held(member)[2]
    staked.stake(member, MINIMUM)
    assert staked.held(member) == (MINIMUM, MINIMUM, released, 0)
    staked.wait(UNBOND)
    staked.withdraw(member)
    assert staked.held(member) == (MINIMUM, 0, 0, 0)
    staked.unbond(member)
    assert staked.held(member) == (0, MINIMUM, economy.evm.now + UNBOND, 0)


def test_runs_do_not_share_stakes(economy: Economy):
    first, second = economy.staked(1), economy.staked(1)
    (member,) = first.running.seats
    with refused("NothingStaked", second.run, member.id):
        economy.stakes.send(member.controller, "unbond", second.run, member.id)


def test_tokens_that_arrive_by_themselves_change_nothing(economy: Economy):
    staked = economy.staked(1)
    economy.token.send(BANK, "transfer", economy.stakes.address, 99)
    with refused("NothingToCollect"):
        economy.stakes.send(NOBODY, "collectSeized")
    assert staked.held(staked.running.seats[0])[0] == MINIMUM


@pytest.mark.parametrize("function", ["collectSeized"])
def test_there_is_nothing_to_collect_at_first(economy: Economy, function: str):
    with refused("NothingToCollect"):
        economy.stakes.send(NOBODY, function)

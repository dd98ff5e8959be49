"""What nobody can exceed: the rate, the time after which everything is back, and the cost of a round."""

import pytest

from contracts.support.money import (
    ACTIVATION,
    CAP,
    DEAD,
    FAULT,
    MEMBERS,
    MINIMUM,
    RATE,
    SECONDS,
    SETTLE,
    UNBOND,
    Economy,
    Paying,
    Staked,
)
from contracts.support.players import Key, Running, refused
from distrai.ledger.errors import LedgerRefused
from distrai.protocol.keccak import keccak

STRANGER = Key("stranger").address
PENDING = 1_000


def _most(paying: Paying) -> int:
    """The greatest total that the next epoch may have, as the contract says it when it refuses a greater one."""
    epoch = paying.epoch(root=keccak(b"root"), total=10**6 * RATE)
    with pytest.raises(LedgerRefused) as caught:
        paying.submit(epoch, paying.signatures(epoch))
    assert caught.value.name == "AboveRate"
    return int(caught.value.arguments[1])


def test_captured_seats_take_the_rate_and_no_more_at_one_round_per_block(economy: Economy):
    """They hold two thirds of the seats, sign whatever is accepted, and give all of it to two of their own."""
    paying = economy.paying(4)
    captured, began = paying.running.seats[:3], paying.running.state.progress[1]
    for seconds in (1, 2, 0, 5):
        for _ in range(7):
            paying.wait(seconds)
            paying.running.certify(signers=captured)
        if seconds:
            paying.mark()
            most = _most(paying)
            paying.earned = {captured[0].id: most // 2, captured[1].id: most - most // 2}
            paying.settle()
    paying.wait(ACTIVATION)
    for member in captured[:2]:
        paying.claim(member)
    elapsed = paying.running.state.progress[1] - began
    taken = sum(economy.balance(member.controller) for member in captured)
    assert 0 < taken == paying.pot["paid"] <= MEMBERS * CAP * (elapsed // SECONDS)


def test_inflated_leaves_of_an_older_root_take_nothing_from_newer_ones(economy: Economy):
    """An old root pays what it declared in all, also once a newer one was paid from."""
    paying = economy.paying(2)
    first, second = paying.running.seats
    paying.work(1)
    paying.settle({first.id: RATE, second.id: 100}, total=RATE)
    inflated = dict(paying.amounts)
    paying.work(1)
    paying.settle({second.id: 100})
    paying.wait(ACTIVATION)
    paying.claim(first, 2)
    with refused("AboveTotal", RATE + 100, RATE):
        paying.claim(second, 1, inflated)
    paying.claim(second, 2)
    assert paying.pot["paid"] == RATE + 200


def test_an_older_root_pays_as_long_as_its_total_lasts(economy: Economy):
    paying = economy.paying(3)
    first, second, third = paying.running.seats
    paying.work(1)
    paying.settle({first.id: 100, second.id: 200, third.id: 300})
    older = dict(paying.amounts)
    paying.work(1)
    paying.settle({first.id: 400})
    paying.wait(ACTIVATION)
    paying.claim(second, 1, older)
    paying.claim(first, 2)
    assert paying.pot["paid"] == 700
    with refused("AboveTotal", 1_000, 600):
        paying.claim(third, 1, older)
    paying.claim(third, 2)
    assert paying.pot["paid"] == 1_000


def test_after_a_kill_the_epochs_that_were_paid_go_on(economy: Economy):
    """The next epoch has the number of the one that was killed, and another total."""
    paying = economy.paying(2)
    first, second = paying.running.seats
    paying.work(1)
    paying.settle({first.id: 10, second.id: 20})
    paying.wait(ACTIVATION)
    paying.claim(first)
    paying.work(1)
    paying.settle({first.id: 900, second.id: 900})
    economy.rewards.send(Key("guardian").address, "kill", paying.run, 2)
    paying.earned = {first.id: 10, second.id: 20}
    paying.claim(second)
    paying.settle({first.id: 1})
    paying.wait(ACTIVATION)
    paying.claim(first)
    assert paying.pot["paid"] == 31


def test_a_dead_run_returns_everything_within_a_bound(economy: Economy):
    """Nobody but strangers acts for it: no seat signs any more, and its owner has lost its key."""
    world, stakes = economy.world, economy.stakes
    run, members = world.open(), world.members(3)
    stakes.send(world.owner.address, "setTerms", run, (MINIMUM, FAULT))
    world.send(world.owner.address, "requireStake", run, stakes.address)
    staked = Staked(economy, Running(world, run, members))
    for member in members:
        staked.stake(member, MINIMUM)
        world.join(run, member)
    world.start(run, members)
    paying = Paying(economy, staked.running)
    paying.open()
    paying.fund(100 * RATE)
    for member in members:
        paying.allow(member)
    paying.work(2)
    paying.settle({member.id: CAP for member in members})
    paying.work(1)
    died = economy.evm.now

    paying.wait(DEAD)
    paying.send("close", sender=STRANGER)
    for member in members:
        staked.unbond(member)
    paying.wait(max(SETTLE + ACTIVATION, UNBOND))
    paying.send("refund", sender=STRANGER)
    for member in members:
        staked.withdraw(member)
        paying.claim(member)

    assert economy.evm.now - died == DEAD + max(SETTLE + ACTIVATION, UNBOND)
    assert economy.balance(paying.owner) == 100 * RATE - 3 * CAP
    assert [economy.balance(member.controller) for member in members] == [MINIMUM + CAP] * 3
    assert economy.balance(economy.rewards.address) == economy.balance(stakes.address) == 0


@pytest.mark.parametrize("chain", ["embedded"], indirect=True, scope="session")  # a minute on anvil
def test_a_round_costs_the_same_whoever_waits_or_is_silent(economy: Economy):
    """1,000 members that joined and wait for a seat, and seats of which a third says nothing."""
    world, gas = economy.world, {}
    for waiting in (0, PENDING):
        running = world.started(6, open_admission=True)
        running.certify()
        for number in range(waiting):
            member = world.member(Key(f"waiting {running.run} {number}"))
            world.send(member.key.address, "join", running.run, member.id, b"", b"")
        signers = running.seats[:4]
        gas[waiting] = [running.certify(signers=signers).gas for _ in range(3)]
    # Signatures differ in how many bytes are zero, which cost less: at most a few in a round.
    differences = [abs(few - many) for few, many in zip(*gas.values(), strict=True)]
    assert max(differences) < 200

"""Pots: terms, money that comes in, who may earn, and what goes back to the owner."""

import pytest

from contracts.support.money import (
    ACTIVATION,
    BANK,
    CAP,
    DEAD,
    GUARDIAN,
    MEMBERS,
    RATE,
    SECONDS,
    SETTLE,
    Economy,
    Paying,
)
from contracts.support.players import NOBODY, Key, Running, refused

STRANGER = Key("stranger").address
REFUND = ACTIVATION + SETTLE


def bare(economy: Economy, seats: int = 1) -> Paying:
    return Paying(economy, economy.world.started(seats))


def test_the_owner_opens_one_pot(economy: Economy):
    paying = bare(economy)
    with refused("NotRunOwner", paying.run, STRANGER):
        economy.rewards.send(STRANGER, "openPot", paying.run, (1, 1, 1, 1))
    with refused("NotRunOwner", 99, paying.owner):
        economy.rewards.send(paying.owner, "openPot", 99, (1, 1, 1, 1))
    for missing in ("price", "cap", "members", "seconds"):
        with refused("BadTerms"):
            paying.open(**{missing: 0})
    paying.running.certify()
    logs = paying.open().logs
    assert [log.name for log in logs] == ["HeadMarked", "PotOpened"]
    assert logs[1].arguments["afterRound"] == 1
    assert paying.pot["terms"] == (2_000_000, CAP, MEMBERS, SECONDS)
    assert paying.read("rateOf") == RATE
    assert paying.read("markOf", 1) == (paying.running.state.head, 1, economy.evm.now)
    with refused("PotExists", paying.run):
        paying.open()


def test_a_pot_may_be_opened_before_the_start(economy: Economy):
    run = economy.world.open()
    paying = Paying(economy, Running(economy.world, run, []))
    paying.open()
    with refused("NotStarted", run):
        paying.mark()
    paying.fund(5)
    paying.send("close")
    paying.wait(REFUND)
    paying.send("refund")
    assert economy.balance(paying.owner) == 5


def test_anyone_funds_an_open_pot(economy: Economy):
    paying = bare(economy)
    with refused("NoPot", paying.run):
        paying.fund(1)
    paying.open()
    with refused("NothingSent"):
        paying.fund(0)
    outcome = paying.fund(3 * RATE, STRANGER)
    said = {"run": paying.run, "from": STRANGER, "amount": 3 * RATE, "funded": 3 * RATE}
    assert outcome.log.arguments == said
    paying.fund(1)
    assert (paying.pot["funded"], economy.balance(economy.rewards.address)) == (3 * RATE + 1,) * 2


def test_until_which_round_there_is_money_is_public(economy: Economy):
    paying = bare(economy)
    with refused("NoPot", paying.run):
        paying.read("fundedUntil")
    paying.work(2)
    paying.open()
    paying.allow(paying.running.seats[0])
    assert paying.read("fundedUntil") == 2
    paying.fund(3 * RATE - 1)
    assert paying.read("fundedUntil") == 4
    paying.work(2)
    paying.settle({paying.running.seats[0].id: CAP})
    assert paying.read("fundedUntil") == 4 + 2


def test_the_owner_says_who_earns(economy: Economy):
    paying, member = bare(economy), economy.world.member()
    with refused("NoPot", paying.run):
        paying.allow(member)
    paying.open()
    with refused("NotPotOwner", paying.run, STRANGER):
        paying.send("allow", member.id, sender=STRANGER)
    with refused("NotPotOwner", paying.run, STRANGER):
        paying.send("disallow", member.id, sender=STRANGER)
    with refused("NoSuchMember", b"\1" * 32):
        paying.send("allow", b"\1" * 32)
    with refused("NotAllowed", paying.run, member.id):
        paying.send("disallow", member.id)
    said = {"run": paying.run, "member": member.id}
    assert paying.allow(member).log.arguments == {**said, "firstRound": 2}
    assert paying.read("accountOf", member.id) == (1, 0)
    with refused("AlreadyAllowed", paying.run, member.id):
        paying.allow(member)
    paying.running.certify()
    assert paying.send("disallow", member.id).log.arguments == {**said, "lastRound": 2}
    assert paying.read("accountOf", member.id) == (2, 0)
    with refused("NotAllowed", paying.run, member.id):
        paying.send("disallow", member.id)
    assert paying.allow(member).log.arguments == {**said, "firstRound": 3}


def test_before_the_start_no_round_is_going_on(economy: Economy):
    """Who is allowed then earns from the first round on."""
    paying, member = Paying(economy, Running(economy.world, economy.world.open(), [])), economy.world.member()
    paying.open()
    assert paying.allow(member).log.arguments["firstRound"] == 1
    assert paying.send("disallow", member.id).log.arguments["lastRound"] == 0
    assert paying.send("close").log.arguments == {"run": paying.run, "lastRound": 0, "workedMax": 0}


def test_no_more_members_than_the_rate_covers(economy: Economy):
    paying = bare(economy)
    paying.open(members=2)
    first, second, third = economy.world.members(3)
    paying.allow(first)
    paying.allow(second)
    with refused("TooManyMembers", 2):
        paying.allow(third)
    last = paying.send("disallow", first.id).log.arguments["lastRound"]
    assert paying.allow(third).log.arguments["firstRound"] == last + 1
    assert paying.pot["members"] == 2


def test_a_closed_pot_takes_nothing(economy: Economy):
    paying = economy.paying(1)
    outcome = paying.send("close")
    assert outcome.log.arguments == {"run": paying.run, "lastRound": 1, "workedMax": 1}
    with refused("PotIsClosed", paying.run):
        paying.fund(1)
    with refused("PotIsClosed", paying.run):
        paying.send("close")
    with refused("PotIsClosed", paying.run):
        paying.allow(economy.world.member())
    with refused("NoPot", 99):
        economy.rewards.send(paying.owner, "close", 99)


def test_only_a_dead_run_is_closed_by_others(economy: Economy):
    paying = economy.paying(1)
    due = paying.running.state.progress[1] + DEAD
    paying.wait(DEAD - 1)
    with refused("StillAlive", due):
        paying.send("close", sender=STRANGER)
    paying.wait(1)
    paying.send("close", sender=STRANGER)
    paying.wait(REFUND)
    paying.send("refund", sender=STRANGER)
    assert economy.balance(paying.owner) == 100 * RATE


def test_a_run_that_never_started_is_closed_by_its_owner_only(economy: Economy):
    paying = Paying(economy, Running(economy.world, economy.world.open(), []))
    paying.open()
    paying.wait(10 * DEAD)
    with refused("StillAlive", 2**256 - 1):
        paying.send("close", sender=STRANGER)


def test_what_nobody_earned_goes_back(economy: Economy):
    paying = economy.paying(3)
    with refused("NotRefundable", 0):
        paying.send("refund")
    with refused("NoPot", 99):
        economy.rewards.send(NOBODY, "refund", 99)
    paying.work(4)
    earned = {member.id: CAP + at for at, member in enumerate(paying.running.seats)}
    paying.settle(earned)
    paying.send("close")
    due = economy.evm.now + REFUND
    assert paying.read("refundableAt") == due
    paying.wait(REFUND - 1)
    with refused("NotRefundable", due):
        paying.send("refund")
    paying.wait(1)
    left = 100 * RATE - sum(earned.values())
    assert paying.send("refund").log.arguments == {"run": paying.run, "to": paying.owner, "amount": left}
    with refused("NothingToRefund"):
        paying.send("refund")
    for member in paying.running.seats:
        paying.claim(member)
    assert economy.balance(economy.rewards.address) == 0


@pytest.mark.parametrize("at", range(6))
def test_closing_takes_nobodys_earnings(economy: Economy, at: int):
    """Whenever the owner closes: what was worked until then, and in the round that goes on, is settled and paid."""
    paying = economy.paying(1)
    (member,) = paying.running.seats
    steps = [
        lambda: paying.work(2),
        lambda: paying.settle({member.id: 2 * CAP}),
        lambda: paying.wait(ACTIVATION),
        lambda: paying.work(1),
        lambda: paying.claim(member),
    ]
    for step in steps[:at]:
        step()
    paying.send("close")
    for step in steps[at:]:
        step()
    before = sum(paying.earned.values())
    if paying.running.state.round == 3:
        paying.settle({member.id: CAP if at >= 3 else 0})
    paying.wait(REFUND)
    paying.send("refund")
    paying.wait(ACTIVATION)
    if paying.pot["live"] > 1 and sum(paying.earned.values()) > before:
        paying.claim(member)
    assert economy.balance(member.controller) == sum(paying.earned.values())
    assert economy.balance(economy.rewards.address) == 0


def test_captured_seats_earn_nothing_after_the_end(economy: Economy):
    paying = economy.paying(1)
    (member,) = paying.running.seats
    paying.work(2)
    paying.send("close")
    paying.work(20)
    paying.earn({member.id: 4 * RATE})
    paying.mark()
    epoch = paying.epoch()
    with refused("AboveRate", 4 * RATE, 3 * RATE):
        paying.submit(epoch, paying.signatures(epoch))
    paying.settle({member.id: -RATE})


def test_a_late_epoch_gets_what_is_left(economy: Economy):
    """After the refund nothing is."""
    paying = economy.paying(1)
    (member,) = paying.running.seats
    paying.work(1)
    paying.send("close")
    paying.wait(REFUND)
    paying.send("refund")
    paying.earn({member.id: 1})
    paying.mark()
    epoch = paying.epoch()
    with refused("AboveEscrow", 1, 0):
        paying.submit(epoch, paying.signatures(epoch))


def test_after_a_kill_the_seats_have_their_time_again(economy: Economy):
    """Otherwise guardian and owner together could take what was earned."""
    paying = economy.paying(1)
    (member,) = paying.running.seats
    paying.work(1)
    paying.send("close")
    paying.wait(REFUND - 1)
    paying.settle({member.id: 5})
    paying.send("kill", 1, sender=GUARDIAN)
    due = economy.evm.now + REFUND
    paying.wait(1)
    with refused("NotRefundable", due):
        paying.send("refund")
    paying.settle()
    paying.wait(REFUND)
    paying.send("refund")
    paying.claim(member)
    assert economy.balance(member.controller) == 5


def test_pots_do_not_share_money(economy: Economy):
    rich, poor = economy.paying(1), economy.paying(1, funded=0)
    (member,) = poor.running.seats
    poor.work(1)
    poor.earn({member.id: 1})
    poor.mark()
    epoch = poor.epoch()
    with refused("AboveEscrow", 1, 0):
        poor.submit(epoch, poor.signatures(epoch))
    poor.send("close")
    poor.wait(REFUND)
    with refused("NothingToRefund"):
        poor.send("refund")
    assert economy.balance(economy.rewards.address) == rich.pot["funded"]


def test_tokens_that_arrive_by_themselves_belong_to_nobody(economy: Economy):
    paying = economy.paying(1, funded=RATE)
    economy.token.send(BANK, "transfer", economy.rewards.address, 99)
    paying.send("close")
    paying.wait(REFUND)
    paying.send("refund")
    assert economy.balance(economy.rewards.address) == 99

"""Claims: each amount once, to the right address, from an active root of this run only."""

import pytest

from contracts.support.money import ACTIVATION, CAP, GUARDIAN, RATE, Economy, Paying
from contracts.support.players import NOBODY, Key, refused
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.rewards import rewards_proof, rewards_root
from distrai.protocol.typed_data import Domain


@pytest.fixture
def paying(economy: Economy) -> Paying:
    """A run with an active epoch in which three members earned."""
    paying = economy.paying(3)
    paying.work(3)
    paying.settle({member.id: CAP + at for at, member in enumerate(paying.running.seats)})
    paying.wait(ACTIVATION)
    return paying


def test_anyone_sends_a_claim_and_the_member_is_paid(paying: Paying, economy: Economy):
    for at, member in enumerate(paying.running.seats):
        said = paying.claim(member).log.arguments
        assert said == {
            "run": paying.run,
            "member": member.id,
            "epoch": 1,
            "to": member.controller,
            "amount": CAP + at,
            "claimed": CAP + at,
        }
        assert economy.balance(member.controller) == CAP + at
        assert paying.read("accountOf", member.id) == (1, CAP + at)
    assert paying.pot["paid"] == 3 * CAP + 3


def test_nothing_is_claimed_twice(paying: Paying, economy: Economy):
    """A repeated transaction, a second machine, a claimer that crashed and does not know: all the same."""
    member = paying.running.seats[0]
    paying.claim(member)
    with refused("NothingToClaim", CAP):
        paying.claim(member)
    economy.world.rotate(member, Key("rotated"))
    economy.world.send(
        member.controller, "setAttributes", member.id, Key("heir").address, Key("vault").address
    )
    with refused("NothingToClaim", CAP):
        paying.claim(member)


def test_one_claim_pays_many_epochs(paying: Paying, economy: Economy):
    member = paying.running.seats[0]
    paying.claim(member)
    for _ in range(2):
        paying.work(1)
        paying.settle({member.id: 7})
    paying.wait(ACTIVATION)
    said = paying.claim(member).log.arguments
    assert (said["epoch"], said["amount"], said["claimed"]) == (3, 14, CAP + 14)
    assert economy.balance(member.controller) == CAP + 14
    with refused("NothingToClaim", CAP + 14):
        paying.claim(member)


def test_an_older_root_pays_what_it_says(paying: Paying):
    member, first = paying.running.seats[0], dict(paying.amounts)
    paying.work(1)
    paying.settle({member.id: 7})
    paying.claim(member, 1, first)
    paying.wait(ACTIVATION)
    assert paying.claim(member).log.arguments["amount"] == 7
    with refused("NothingToClaim", CAP + 7):
        paying.claim(member, 1, first)


def test_money_goes_to_the_payout_address_of_then(paying: Paying, economy: Economy):
    member, vault = paying.running.seats[0], Key("vault").address
    economy.world.send(member.controller, "setAttributes", member.id, member.controller, vault)
    paying.claim(member)
    assert (economy.balance(vault), economy.balance(member.controller)) == (CAP, 0)


def test_nothing_before_activation(paying: Paying, economy: Economy):
    member = paying.running.seats[0]
    paying.work(1)
    paying.settle({member.id: 7})
    active_from = economy.evm.now + ACTIVATION
    with refused("NotActive", active_from):
        paying.claim(member)
    paying.wait(ACTIVATION - 1)
    with refused("NotActive", active_from):
        paying.claim(member)
    paying.wait(1)
    paying.claim(member)


def test_nothing_from_a_dead_root(paying: Paying):
    member = paying.running.seats[0]
    paying.work(1)
    paying.settle({member.id: 7})
    paying.send("kill", 2, sender=GUARDIAN)
    paying.wait(ACTIVATION)
    for epoch in (0, 2, 3):
        with refused("NotLive", paying.run, epoch):
            paying.claim(member, epoch)
    paying.earned[member.id] -= 7
    paying.claim(member, 1)


def test_nothing_beyond_the_leaf(paying: Paying, economy: Economy):
    first, second, _ = paying.running.seats
    proof = rewards_proof(economy.domain, paying.run, paying.amounts, MemberId(first.id))
    root = paying.read("epochOf", 1)[0]
    for member, amount, given in (
        (first, CAP + 1, proof),
        (first, CAP - 1, proof),
        (second, CAP, proof),
        (first, CAP, proof[:-1]),
        (first, CAP, [*proof, bytes(32)]),
        (first, CAP, []),
    ):
        with refused("NotInRoot", root):
            paying.send("claim", 1, member.id, amount, given)


@pytest.mark.parametrize("foreign", ["run", "chain", "distributor"])
def test_nothing_from_a_foreign_root(economy: Economy, foreign: str):
    """Seats that signed leaves of elsewhere, by mistake or not: nobody is paid here by them."""
    paying = economy.paying(1)
    (member,) = paying.running.seats
    paying.work(1)
    domain = economy.domain
    if foreign == "chain":
        domain = Domain(domain.chain_id + 1, domain.registry)
    elif foreign == "distributor":
        domain = Domain(domain.chain_id, Address(b"\1" * 20))
    amounts = {MemberId(member.id): CAP}
    run = paying.run + (foreign == "run")
    root = rewards_root(domain, run, amounts)
    paying.settle({member.id: CAP}, root=root)
    paying.wait(ACTIVATION)
    with refused("NotInRoot", root):
        paying.claim(member)


def test_a_proof_of_one_run_pays_in_no_other(economy: Economy):
    mine, other = economy.paying(1), economy.paying(1)
    (member,) = other.running.seats
    mine.allow(member)
    for paying in (mine, other):
        paying.work(1)
        paying.settle({paying.running.seats[0].id: CAP})
    mine.wait(ACTIVATION)
    other.claim(member)
    proof = rewards_proof(economy.domain, other.run, other.amounts, MemberId(member.id))
    with refused("NotInRoot"):
        mine.send("claim", 1, member.id, CAP, proof)


def test_whom_the_owner_never_let_in_is_not_paid(paying: Paying, economy: Economy):
    """Captured seats can put anybody into a root."""
    sybil = economy.world.member()
    paying.work(1)
    paying.settle({sybil.id: CAP})
    paying.wait(ACTIVATION)
    with refused("NotAllowed", paying.run, sybil.id):
        paying.claim(sybil)


def test_who_may_earn_no_longer_keeps_what_it_earned(paying: Paying, economy: Economy):
    member = paying.running.seats[0]
    paying.send("disallow", member.id)
    paying.claim(member)
    assert economy.balance(member.controller) == CAP
    paying.allow(member)
    with refused("NothingToClaim", CAP):
        paying.claim(member)


def test_leaves_that_add_up_to_more_than_the_total_are_not_all_paid(economy: Economy):
    """What the contract cannot see in a root, it sees at the till."""
    paying = economy.paying(2)
    first, second = paying.running.seats
    paying.work(1)
    paying.earn({first.id: RATE, second.id: RATE})
    paying.settle(total=RATE)
    paying.wait(ACTIVATION)
    paying.claim(first)
    with refused("AboveTotal", 2 * RATE, RATE):
        paying.claim(second)
    assert paying.pot["paid"] == RATE


def test_after_a_reorg_a_claim_counts_again_and_once(paying: Paying, economy: Economy):
    member = paying.running.seats[0]
    point = economy.evm.snapshot()
    paying.claim(member)
    economy.evm.revert(point)
    paying.claim(member)
    with refused("NothingToClaim", CAP):
        paying.claim(member)
    assert economy.balance(member.controller) == CAP


def test_a_child_run_pays_for_its_own_rounds(economy: Economy):
    parent = economy.paying(1)
    (member,) = parent.running.seats
    parent.work(1)
    parent.settle({member.id: CAP})
    state = parent.running.state
    run = economy.world.open(parent=(parent.run, state.round, state.head))
    economy.world.join(run, member)
    economy.world.start(run, [member])
    child = Paying(economy, type(parent.running)(economy.world, run, [member]))
    child.open()
    child.fund(RATE)
    child.allow(member)
    child.work(1)
    child.settle({member.id: 5})
    child.wait(ACTIVATION)
    child.claim(member)
    parent.claim(member)
    for paying in (parent, child):
        with refused("NothingToClaim"):
            paying.claim(member)
    assert economy.balance(member.controller) == CAP + 5


def test_a_claim_needs_a_pot(economy: Economy):
    with refused("NotLive", 99, 1):
        economy.rewards.send(NOBODY, "claim", 99, 1, b"\1" * 32, 1, [])

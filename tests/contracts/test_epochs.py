"""Epochs: what the seats may settle, and what the guardian may kill."""

import msgspec
import pytest

from contracts.support.money import ACTIVATION, CAP, GUARDIAN, RATE, SECONDS, Economy, Paying
from contracts.support.players import NOBODY, Key, promotion, refused
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH

STRANGER = Key("stranger").address


@pytest.fixture
def paying(economy: Economy) -> Paying:
    return economy.paying(3)


def landed(paying: Paying, **changes):
    epoch = paying.epoch(**changes)
    return paying.submit(epoch, paying.signatures(epoch))


def test_two_thirds_of_the_seats_settle(paying: Paying, economy: Economy):
    paying.work(2)
    paying.earn({member.id: 10 for member in paying.running.seats})
    said = paying.mark().log.arguments
    state = paying.running.state
    assert said == {"run": paying.run, "round": 2, "head": state.head, "worked": 2, "time": economy.evm.now}
    epoch = paying.epoch()
    assert economy.rewards.read("epochDigest", msgspec.structs.astuple(epoch)) == economy.domain.digest(
        epoch.id
    )
    with refused("NotEnoughSignatures", 1, 3):
        paying.submit(epoch, paying.signatures(epoch, paying.running.seats[:1]))
    outcome = paying.submit(epoch, paying.signatures(epoch))
    assert outcome.log.arguments == {
        "run": paying.run,
        "epoch": 1,
        "root": epoch.root,
        "total": 30,
        "lastRound": 2,
        "head": state.head,
        "dataHash": epoch.data_hash,
        "activeFrom": economy.evm.now + ACTIVATION,
    }
    assert paying.read("epochOf", 1) == (epoch.root, 30, economy.evm.now + ACTIVATION, 2)
    assert paying.pot["live"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("last_round", 9),
        ("root", b"\1" * 32),
        ("total", 1),
        ("data_hash", b"\1" * 32),
        ("run", 9),
        ("epoch", 2),
        ("kills", 1),
    ],
)
def test_a_signature_is_for_one_epoch(paying: Paying, field, value):
    paying.work(1)
    paying.mark()
    epoch = paying.epoch(root=keccak(b"root"))
    wrong = msgspec.structs.replace(epoch, **{field: value})
    with refused("NotASeatKey"):
        paying.submit(epoch, paying.signatures(wrong))


def test_only_the_seats_of_now_sign(paying: Paying):
    *staying, leaving = paying.running.seats
    paying.work(1)
    paying.running.certify(paying.running.body(drops=(leaving.id,)))
    paying.running.seats = staying
    paying.mark()
    epoch = paying.epoch(root=keccak(b"root"))
    with refused("NotASeatKey", leaving.key.address):
        paying.submit(epoch, paying.signatures(epoch, [leaving, staying[0]]))
    paying.submit(epoch, paying.signatures(epoch, staying))


def test_a_seat_signs_with_the_key_of_its_seat(paying: Paying, economy: Economy):
    old = paying.running.seats[0]
    new = economy.world.rotate(old, Key("new key"))
    paying.work(1)
    paying.mark()
    epoch = paying.epoch(root=keccak(b"root"))
    with refused("NotASeatKey", new.key.address):
        paying.submit(epoch, paying.signatures(epoch, [new, *paying.running.seats[1:]]))
    paying.running.certify(paying.running.body(promotions=(promotion(new),)))
    with refused("NotASeatKey", old.key.address):
        paying.submit(epoch, paying.signatures(epoch, paying.running.seats))
    paying.submit(epoch, paying.signatures(epoch, [new, *paying.running.seats[1:]]))


def test_epochs_follow_one_another(paying: Paying):
    (first, *_) = paying.running.seats
    paying.work(2)
    paying.settle({first.id: 10})
    paying.work(1)
    paying.mark()
    previous = paying.read("epochOf", 1)[0]
    for field, value, name, arguments in (
        ("epoch", 1, "WrongEpoch", (1, 2)),
        ("epoch", 3, "WrongEpoch", (3, 2)),
        ("kills", 1, "WrongKills", (1, 0)),
        ("previous_root", ZERO_HASH, "WrongPreviousRoot", (ZERO_HASH, previous)),
        ("root", ZERO_HASH, "MissingRoot", ()),
        ("head", b"\1" * 32, "NotMarked", (3, b"\1" * 32)),
        ("last_round", 1, "NotMarked", ()),
        ("total", 9, "TotalFalls", (9, 10)),
        ("run", 99, "NoPot", (99,)),
    ):
        with refused(name, *arguments):
            landed(paying, **{field: value})
    with refused("NoNewRounds", 2, 2):
        landed(paying, last_round=2, head=paying.read("markOf", 2)[0])
    with refused("NotMarked", 7, ZERO_HASH):
        landed(paying, last_round=7, head=ZERO_HASH)
    landed(paying)


def test_only_the_head_of_now_is_marked_and_once(paying: Paying):
    paying.work(1)
    paying.mark()
    with refused("AlreadyMarked", paying.run, 1):
        paying.mark()
    paying.work(2)
    paying.mark()
    assert paying.read("markOf", 2) == (ZERO_HASH, 0, 0)
    with refused("NoPot", 99):
        paying.economy.rewards.send(NOBODY, "markHead", 99)


def test_after_a_reorg_an_epoch_of_the_other_fork_is_worth_nothing(paying: Paying, economy: Economy):
    point = economy.evm.snapshot()
    paying.work(1)
    paying.mark()
    epoch = paying.epoch(root=keccak(b"root"))
    signatures = paying.signatures(epoch)
    economy.evm.revert(point)
    paying.running.wait(SECONDS)
    paying.running.certify(paying.running.body(updates_root=keccak(b"another list")))
    with refused("NotMarked", 1, epoch.head):
        paying.submit(epoch, signatures)
    paying.mark()
    with refused("NotMarked", 1, epoch.head):
        paying.submit(epoch, signatures)


def test_no_more_than_the_rate(paying: Paying):
    (first, *_) = paying.running.seats
    paying.work(3)
    paying.mark()
    paying.earn({first.id: 3 * RATE + 1})
    with refused("AboveRate", 3 * RATE + 1, 3 * RATE):
        landed(paying)
    paying.settle({first.id: -1})


def test_empty_rounds_are_not_paid(paying: Paying):
    (first, *_) = paying.running.seats
    paying.work(2)
    paying.work(5, empty=True)
    paying.earn({first.id: 2 * RATE + 1})
    paying.mark()
    with refused("AboveRate", 2 * RATE + 1, 2 * RATE):
        landed(paying)


def test_rounds_that_rush_earn_by_time(paying: Paying):
    """One round per block: captured seats get what honest ones would have got in that time."""
    (first, *_) = paying.running.seats
    paying.work(40, seconds=1)
    paying.mark()
    paying.earn({first.id: 40 * RATE})
    with refused("AboveRate", 40 * RATE, 4 * RATE):
        landed(paying)


def test_many_rounds_in_one_block_earn_nothing(paying: Paying):
    paying.work(9, seconds=0)
    paying.mark()
    paying.earn({paying.running.seats[0].id: 1})
    with refused("AboveRate", 1, 0):
        landed(paying)


def test_what_honest_epochs_left_is_not_saved_up(paying: Paying):
    """Slow rounds, and members that earned less than the cap, leave nothing for captured seats to take later."""
    (first, *_) = paying.running.seats
    paying.work(10, seconds=100)
    paying.settle({first.id: 1})
    paying.work(1)
    paying.mark()
    paying.earn({first.id: RATE + 1})
    with refused("AboveRate", RATE + 2, RATE + 1):
        landed(paying)


def test_no_more_than_the_escrow(economy: Economy):
    paying = economy.paying(3, funded=RATE)
    (first, *_) = paying.running.seats
    paying.work(2)
    paying.mark()
    paying.earn({first.id: RATE + 1})
    with refused("AboveEscrow", RATE + 1, RATE):
        landed(paying)
    paying.fund(1)
    landed(paying)


def test_the_guardian_kills_before_activation_only(paying: Paying, economy: Economy):
    (first, *_) = paying.running.seats
    paying.work(1)
    paying.settle({first.id: 10})
    active_from = economy.evm.now + ACTIVATION
    for epoch in (0, 2):
        with refused("NotLive", paying.run, epoch):
            paying.send("kill", epoch, sender=GUARDIAN)
    with refused("NotGuardian", paying.owner):
        paying.send("kill", 1)
    paying.wait(ACTIVATION)
    with refused("AlreadyActive", active_from):
        paying.send("kill", 1, sender=GUARDIAN)
    paying.claim(first)


def test_killing_an_epoch_kills_later_ones(paying: Paying, economy: Economy):
    (first, *_) = paying.running.seats
    for _ in range(4):
        paying.work(1)
        paying.settle({first.id: 10})
        paying.wait(ACTIVATION // 3)
    amounts = {first.id: 10}
    outcome = paying.send("kill", 3, sender=GUARDIAN)
    assert outcome.log.arguments == {"run": paying.run, "epoch": 3, "live": 2, "kills": 1}
    assert economy.balance(economy.rewards.address) == 100 * RATE
    paying.wait(ACTIVATION)
    for epoch in (3, 4):
        with refused("NotLive", paying.run, epoch):
            paying.claim(first, epoch)
    paying.claim(first, 1, amounts)
    with refused("NotLive", paying.run, 3):
        paying.send("kill", 3, sender=GUARDIAN)


def test_a_killed_epoch_is_replaced_and_never_comes_back(paying: Paying, economy: Economy):
    (first, second, _) = paying.running.seats
    paying.work(1)
    false = paying.settle({first.id: RATE})
    signatures = paying.signatures(false)
    paying.send("kill", 1, sender=GUARDIAN)
    with refused("WrongKills", 0, 1):
        paying.submit(false, signatures)
    paying.earned = {}
    right = paying.settle({first.id: CAP, second.id: CAP})
    assert right.kills == 1
    with refused("WrongEpoch", 1, 2):
        paying.submit(right, paying.signatures(right))
    paying.wait(ACTIVATION)
    paying.claim(first)
    assert economy.balance(first.controller) == CAP


def test_the_same_rounds_may_be_settled_again_after_a_wrong_kill(paying: Paying):
    (first, *_) = paying.running.seats
    paying.work(1)
    right = paying.settle({first.id: CAP})
    paying.send("kill", 1, sender=GUARDIAN)
    again = paying.settle()
    assert msgspec.structs.replace(again, kills=0) == right


def test_two_runs_and_two_distributors_do_not_mix(economy: Economy):
    """The domain names the distributor, the epoch names the run."""
    mine, other = economy.paying(1), economy.paying(1)
    for paying in (mine, other):
        paying.work(1)
        paying.mark()
    epoch = other.epoch(root=keccak(b"root"))
    stolen = msgspec.structs.replace(epoch, run=mine.run, head=mine.running.state.head)
    with refused("NotASeatKey"):
        mine.submit(stolen, other.signatures(epoch))
    digest = economy.world.domain.digest(epoch.id)
    with refused("NotASeatKey"):
        other.submit(epoch, other.running.seats[0].key.sign(digest))

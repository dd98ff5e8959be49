"""Certificates: quorum, signers, succession; the first valid one wins."""

import pytest

from contracts.support.players import Key, encoded, refused
from distrai.protocol.body import has_quorum, quorum
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
STRANGER = Key("stranger")


def by_address(members):
    return sorted(members, key=lambda member: member.key.address)


def test_a_certificate_moves_the_run(world):
    running = world.started(4)
    running.wait(33)
    before, body = running.state, running.body()
    outcome = running.certify(body)
    state = running.state
    assert outcome.log.name == "Certified"
    assert outcome.log.arguments == {
        "run": running.run,
        "round": 1,
        "head": body.head,
        "previousHead": before.head,
        "updatesRoot": body.updates_root,
        "stateRoot": body.state_root,
        "trainersRoot": body.trainers_root,
        "promotions": (),
        "drops": (),
    }
    assert (state.head, state.state_root, state.round) == (body.head, body.state_root, 1)
    assert state.progress[1] == world.evm.now


@pytest.mark.parametrize("seats", [1, 2, 3, 4, 5, 7])
def test_the_quorum_is_two_thirds(world, seats):
    """As in Python, where the same expression decides."""
    running = world.started(seats)
    needed = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 7: 5}[seats]
    assert needed == quorum(seats)
    for count in range(needed):
        assert not has_quorum(count, seats)
        with refused("NotEnoughSignatures", count, seats):
            running.certify(signers=running.seats[:count])
    for count in range(needed, seats + 1):
        running.certify(signers=running.seats[-count:])


def test_any_two_thirds_will_do_and_the_head_does_not_say_which(world):
    heads = set()
    for absent in range(4):
        point = world.evm.snapshot()
        running = world.started(4)
        running.certify(signers=[seat for at, seat in enumerate(running.seats) if at != absent])
        heads.add(running.state.head)
        world.evm.revert(point)
        world.made = 0
    assert len(heads) == 1


def test_the_first_valid_certificate_wins(world):
    running = world.started(3)
    first, second = running.body(), running.body(state_root=keccak(b"another"))
    signatures = [running.signatures(body, running.seats) for body in (first, second)]
    running.submit(first, signatures[0])
    for body, signature in zip((first, second), signatures, strict=True):
        with refused("WrongRound", 1, 2):
            running.submit(body, signature)
    assert running.state.head == first.head


def test_a_repeated_signer_does_not_count(world):
    running = world.started(4)
    body = running.body()
    first, second, *_ = by_address(running.seats)
    with refused("UnsortedSigners", second.key.address, second.key.address):
        running.submit(body, running.signatures(body, [first, second, second]))


def test_signers_are_sorted(world):
    running = world.started(3)
    body = running.body()
    first, second, _ = by_address(running.seats)
    swapped = running.signatures(body, [second]) + running.signatures(body, [first])
    with refused("UnsortedSigners", second.key.address, first.key.address):
        running.submit(body, swapped)


def test_a_stranger_is_no_seat(world):
    running, member = world.started(3), world.member()
    world.join(running.run, member)
    with refused("NotASeatKey", member.key.address):
        running.certify(signers=[running.seats[0], member])


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_one_bad_signature_is_too_many_wherever_it_is(world, bad):
    """Also if the others are enough: a certificate is what it says."""
    running = world.started(3)
    body, other = running.body(), running.body(trainers_root=keccak(b"other"))
    signers = by_address(running.seats)
    parts = [running.signatures(other if at == bad else body, [seat]) for at, seat in enumerate(signers)]
    with pytest.raises(Exception, match="NotASeatKey|UnsortedSigners"):
        running.submit(body, b"".join(parts))
    assert running.state.round == 0


def test_a_high_s_is_refused(world):
    running = world.started(3)
    body = running.body()
    good = running.signatures(body, running.seats[:2])
    s = ORDER - int.from_bytes(good[32:64], "big")
    twin = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
    with refused("ECDSAInvalidSignatureS", s.to_bytes(32, "big")):
        running.submit(body, twin + good[65:])
    running.submit(body, good)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_v_is_27_or_28(world, v):
    running = world.started(1)
    body = running.body()
    signature = running.signatures(body, running.seats)
    with refused("ECDSAInvalidSignature"):
        running.submit(body, signature[:64] + bytes([v]))


@pytest.mark.parametrize("position", [0, 1])
def test_signatures_of_nobody_are_refused(world, position):
    """The precompile answers nothing then; what it answered before must not count again."""
    running = world.started(2)
    body = running.body()
    parts = [running.signatures(body, [seat]) for seat in by_address(running.seats)]
    parts[position] = bytes(64) + b"\x1b"
    with refused("ECDSAInvalidSignature"):
        running.submit(body, b"".join(parts))


@pytest.mark.parametrize("length", [1, 64, 66, 129])
def test_signatures_have_65_bytes_each(world, length):
    running = world.started(1)
    with refused("BadSignaturesLength", length):
        running.submit(running.body(), bytes(length))


def test_no_signatures_certify_nothing(world):
    with refused("NotEnoughSignatures", 0, 1):
        running = world.started(1)
        running.submit(running.body(), b"")


def test_a_signature_counts_for_one_body_only(world):
    running = world.started(1)
    body = running.body()
    signature = running.signatures(body, running.seats)
    for changes in (
        {"updates_root": keccak(b"x")},
        {"state_root": keccak(b"x")},
        {"trainers_root": keccak(b"x")},
        {"drops": (running.seats[0].id,)},
    ):
        with refused("NotASeatKey"):
            running.submit(running.body(**changes), signature)


def test_a_certificate_of_another_run_is_refused(world):
    mine, other = world.started(1), world.started(1)
    body = other.body()
    signatures = other.signatures(body, other.seats)
    with refused("WrongPreviousHead", body.previous_head, mine.state.head):
        mine.submit(mine.body(previous_head=body.previous_head), signatures)
    with refused("RunNotStarted", 77):
        mine.submit(mine.body(run=77), signatures)


def test_an_open_run_has_no_rounds(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    running = type(world.started(1))(world, run, [member])
    with refused("RunNotStarted", run):
        running.certify()


@pytest.mark.parametrize("given", [0, 1, 3, 2**64 - 1])
def test_rounds_have_no_gaps(world, given):
    running = world.started(1)
    running.certify()
    with refused("WrongRound", given, 2):
        running.certify(running.body(round=given))


def test_a_round_follows_its_head(world):
    running = world.started(1)
    start = running.state.head
    running.certify()
    with refused("WrongPreviousHead", start, running.state.head):
        running.certify(running.body(previous_head=start))


def test_an_empty_round_leaves_the_state(world):
    running = world.started(1)
    running.certify()
    root = running.state.state_root
    with refused("EmptyRoundChangesState", b"\7" * 32, root):
        running.certify(running.body(updates_root=ZERO_HASH, state_root=b"\7" * 32))
    running.certify(running.empty())
    assert (running.state.state_root, running.state.round) == (root, 2)


def test_a_round_may_leave_the_state_as_it_was(world):
    """All weights may be zero."""
    running = world.started(1)
    running.certify(running.body(state_root=running.state.state_root))
    assert running.state.round == 1


def test_the_beacon_is_drawn_with_every_head(world):
    running = world.started(1)
    beacon = keccak(bytes(32) + running.state.head + world.evm.block_hash(world.evm.number - 2))
    assert running.state.beacon == beacon
    for _ in range(3):
        running.certify()
        beacon = keccak(beacon + running.state.head + world.evm.block_hash(world.evm.number - 2))
        assert running.state.beacon == beacon


def test_anyone_submits(world):
    running = world.started(1)
    body = running.body()
    world.send(STRANGER.address, "certify", encoded(body), running.signatures(body, running.seats))
    assert running.state.head == body.head


def test_a_reorg_takes_a_round_back_and_the_same_certificate_lands_again(world):
    running = world.started(3)
    point, body = world.evm.snapshot(), running.body()
    signatures = running.signatures(body, running.seats)
    running.submit(body, signatures)
    head = running.state.head
    world.evm.revert(point)
    assert running.state.round == 0
    world.evm.number += 3
    running.submit(body, signatures)
    assert running.state.head == head

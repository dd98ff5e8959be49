"""Joining, leaving, announcing, starting."""

from contracts.support.players import NOBODY, Key, Running, World, refused
from distrai.protocol.body import start_head

STRANGER = Key("stranger").address
JOINED, LEFT = 1, 2


def test_joining_an_open_run_gives_a_seat_at_once(world):
    run, member = world.open(), world.member()
    outcome = world.join(run, member)
    assert outcome.log.name == "Joined"
    assert outcome.log.arguments == {"run": run, "member": member.id, "key": member.key.address, "seat": True}
    assert world.read("membership", run, member.id) == (member.key.address, JOINED, 0)
    assert world.read("seatOf", run, member.key.address) == member.id
    assert Running(world, run, []).state.seats == 1


def test_beyond_the_seats_one_is_a_trainer(world):
    run = world.open(max_seats=1)
    first, second = world.members(2)
    world.join(run, first)
    assert world.join(run, second).log.arguments["seat"] is False
    assert world.read("membership", run, second.id) == (NOBODY, JOINED, 0)
    assert world.read("seatOf", run, second.key.address) == bytes(32)


def test_joining_a_started_run_gives_no_seat(world):
    running, member = world.started(2), world.member()
    assert world.join(running.run, member).log.arguments["seat"] is False
    assert running.state.seats == 2


def test_joining_needs_the_owners_invitation(world):
    run, member = world.open(), world.member()
    joining = world.signed(member.key, "Join", run, member.id)
    for inviter, invited in [
        (Key("eve"), (run, member.id)),
        (world.owner, (run + 1, member.id)),
        (world.owner, (run, b"\1" * 32)),
    ]:
        with refused("WrongSigner"):
            world.send(NOBODY, "join", run, member.id, joining, world.signed(inviter, "Invitation", *invited))
    with refused("ECDSAInvalidSignatureLength", 0):
        world.send(NOBODY, "join", run, member.id, joining, b"")


def test_nobody_is_entered_against_its_will(world):
    run, member = world.open(open_admission=True), world.member()
    with refused("WrongSigner", member.key.address, Key("eve").address):
        world.send(NOBODY, "join", run, member.id, world.signed(Key("eve"), "Join", run, member.id), b"")
    with refused("WrongSigner"):
        world.send(NOBODY, "join", run, member.id, world.signed(member.key, "Join", run + 1, member.id), b"")
    with refused("ECDSAInvalidSignatureLength", 0):
        world.send(member.controller, "join", run, member.id, b"", b"")
    world.send(NOBODY, "join", run, member.id, world.signed(member.key, "Join", run, member.id), b"")


def test_a_key_that_sends_needs_no_signature(world):
    run, member = world.open(open_admission=True), world.member()
    assert world.send(member.key.address, "join", run, member.id, b"", b"").log.arguments["seat"] is True


def test_one_joins_once_and_as_somebody(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    with refused("AlreadyJoined", run, member.id):
        world.join(run, member)
    with refused("UnknownMember", b"\1" * 32):
        world.send(NOBODY, "join", run, b"\1" * 32, b"", b"")


def test_leaving_an_open_run_frees_the_seat(world):
    run = world.open(max_seats=1)
    first, second = world.members(2)
    world.join(run, first)
    outcome = world.send(first.key.address, "leaveRun", run, first.id)
    assert (outcome.log.name, outcome.log.arguments) == ("Left", {"run": run, "member": first.id})
    assert world.read("membership", run, first.id) == (NOBODY, LEFT, 0)
    assert world.read("seatOf", run, first.key.address) == bytes(32)
    assert world.join(run, second).log.arguments["seat"] is True


def test_a_trainer_without_a_seat_leaves_an_open_run(world):
    run = world.open(max_seats=1)
    first, second = world.members(2)
    world.join(run, first)
    world.join(run, second)
    world.send(second.controller, "leaveRun", run, second.id)
    assert Running(world, run, []).state.seats == 1


def test_leaving_a_started_run_keeps_the_seat_until_it_is_dropped(world):
    running = world.started(3, min_seats=2)
    leaver = running.seats[0]
    world.send(leaver.controller, "leaveRun", running.run, leaver.id)
    assert world.read("membership", running.run, leaver.id) == (leaver.key.address, LEFT, 0)
    running.certify(running.body(), [leaver, running.seats[1]])
    running.certify(running.body(drops=(leaver.id,)))
    assert world.read("membership", running.run, leaver.id) == (NOBODY, LEFT, 0)


def test_only_the_member_leaves_and_announces_and_only_while_in(world):
    running = world.started(1)
    (member,) = running.seats
    for function, rest in (("leaveRun", ()), ("announce", ("http://peer",))):
        with refused("NotMember", member.id, STRANGER):
            world.send(STRANGER, function, running.run, member.id, *rest)
        with refused("UnknownMember", b"\1" * 32):
            world.send(STRANGER, function, running.run, b"\1" * 32, *rest)
        with refused("NotJoined", 9, member.id):
            world.send(member.controller, function, 9, member.id, *rest)
    world.send(member.controller, "leaveRun", running.run, member.id)
    for function, rest in (("leaveRun", ()), ("announce", ("http://peer",))):
        with refused("NotJoined", running.run, member.id):
            world.send(member.controller, function, running.run, member.id, *rest)


def test_an_old_signature_brings_nobody_back(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    world.send(member.controller, "leaveRun", run, member.id)
    with refused("RejoinOnlyByKey", run, member.id):
        world.join(run, member)
    assert world.join(run, member, sender=member.key.address).log.arguments["seat"] is True


def test_announcing_is_an_event(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    outcome = world.send(member.key.address, "announce", run, member.id, "http://[::1]:80/ü")
    assert outcome.log.name == "Announced"
    assert outcome.log.arguments == {"run": run, "member": member.id, "endpoint": "http://[::1]:80/ü"}
    world.send(member.controller, "announce", run, member.id, "x" * 256)
    with refused("EndpointTooLong", 257, 256):
        world.send(member.controller, "announce", run, member.id, "x" * 257)


def test_the_start_makes_the_first_head(world):
    run, members = world.open(), world.members(3)
    for member in reversed(members):
        world.join(run, member)
    genesis = Running(world, run, members).state.head
    outcome = world.start(run, members)
    state = Running(world, run, members).state
    head = start_head(genesis, [(member.id, member.key.address) for member in members])
    assert outcome.log.name == "Started"
    assert outcome.log.arguments == {
        "run": run,
        "head": head,
        "seats": tuple(member.id for member in members),
        "keys": tuple(member.key.address for member in members),
    }
    assert state.head == head
    assert state.progress == (0, world.evm.now, 3, 3, 8, 2)


def test_only_the_owner_starts_and_once(world):
    run, member = world.open(), world.member()
    world.join(run, member)
    with refused("NotOwner", run, STRANGER):
        world.send(STRANGER, "start", run, [member.id])
    world.start(run, [member])
    with refused("RunNotOpen", run):
        world.start(run, [member])


def test_a_start_names_all_seats_sorted(world):
    run, members = world.open(min_seats=2), world.members(3)
    owner = world.owner.address
    for member in members:
        world.join(run, member)
    first, second, third = (member.id for member in members)
    stranger = world.member()
    with refused("SeatsDiffer", 2, 3):
        world.send(owner, "start", run, [first, second])
    with refused("UnsortedMembers", third, second):
        world.send(owner, "start", run, [first, third, second])
    with refused("UnsortedMembers", first, first):
        world.send(owner, "start", run, [first, first, second])
    with refused("NotASeat", run, stranger.id):
        world.send(owner, "start", run, sorted([first, second, stranger.id]))


def test_a_start_needs_enough_seats(world):
    run, members = world.open(min_seats=3), world.members(2)
    for member in members:
        world.join(run, member)
    with refused("TooFewSeats", 2, 3):
        world.start(run, members)


def test_a_key_that_was_rotated_before_the_start_counts(world):
    run, members = world.open(), world.members(2)
    for member in members:
        world.join(run, member)
    rotated = [world.rotate(members[0], Key("rotated")), members[1]]
    assert world.start(run, rotated).log.arguments["keys"] == tuple(m.key.address for m in rotated)
    assert world.read("seatOf", run, members[0].key.address) == bytes(32)
    running = Running(world, run, rotated)
    assert running.state.seats == 2
    with refused("NotASeatKey", members[0].key.address):
        running.certify(
            signers=[members[0]] * 2 if members[0].key.address < members[1].key.address else members
        )
    running.certify(signers=rotated)


def test_runs_do_not_share_seats(world: World):
    first, second = world.started(1), world.started(1)
    with refused("NotASeatKey", first.seats[0].key.address):
        second.certify(signers=first.seats)

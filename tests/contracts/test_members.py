"""Members: nobody takes another's id or key, only the controller changes anything, keys are never forgotten."""

import pytest
from eth_abi.abi import encode

from contracts.support.players import NOBODY, Key, World, refused
from distrai.protocol.keccak import keccak

ANN, BOB, EVE = (Key(name).address for name in ("ann", "bob", "eve"))
NODE = Key("node")


def register(
    world: World, sender: bytes = ANN, nonce: int = 0, key: Key = NODE, signer: Key | None = None, **claims
):
    controller, payout = claims.get("controller", ANN), claims.get("payout", BOB)
    signature = world.signed(signer or key, "Registration", sender, nonce, controller, payout)
    return world.send(sender, "register", nonce, controller, key.address, payout, signature)


def test_a_member_has_the_id_of_its_creator_and_nonce(world):
    outcome = register(world, nonce=7)
    member = keccak(encode(["address", "address", "uint256"], [world.registry.address, ANN, 7]))
    assert outcome.returned == (member,) == (world.read("memberId", ANN, 7),)
    assert outcome.log.name == "MemberRegistered"
    assert outcome.log.arguments == {
        "member": member, "controller": ANN, "key": NODE.address, "payout": BOB
    }  # fmt: skip
    block = world.evm.number - 1
    assert world.read("getMember", member) == (ANN, 0, NODE.address, block, BOB)
    assert world.read("keyRecord", NODE.address) == (member, block, 0)


def test_nobody_registers_for_another(world):
    """The same nonce by another sender is another id: ids cannot be squatted."""
    first, second = register(world), register(world, sender=EVE, key=Key("eve's node"))
    assert first.returned != second.returned


def test_a_nonce_is_used_once(world):
    (member,) = register(world).returned
    with refused("MemberExists", member):
        register(world, key=Key("another"))


def test_a_key_must_agree_to_everything(world):
    with refused("WrongSigner", NODE.address, Key("eve").address):
        register(world, signer=Key("eve"))
    good = world.signed(NODE, "Registration", ANN, 0, ANN, BOB)
    for sender, nonce, controller, payout in [
        (EVE, 0, ANN, BOB),
        (ANN, 1, ANN, BOB),
        (ANN, 0, EVE, BOB),
        (ANN, 0, ANN, EVE),
    ]:
        with refused("WrongSigner"):
            world.send(sender, "register", nonce, controller, NODE.address, payout, good)


def test_a_key_belongs_to_one_member_for_ever(world):
    (member,) = register(world).returned
    with refused("KeyTaken", NODE.address, member):
        register(world, sender=EVE)
    signature = world.signed(Key("new"), "Rotation", member, Key("new").address, 0)
    world.send(ANN, "rotateKey", member, Key("new").address, signature)
    with refused("KeyTaken", NODE.address, member):
        register(world, sender=EVE)


@pytest.mark.parametrize("length", [0, 64, 66])
def test_a_signature_has_65_bytes(world, length):
    with refused("ECDSAInvalidSignatureLength", length):
        world.send(ANN, "register", 0, ANN, NODE.address, BOB, bytes(length))


def test_a_signature_that_nobody_made_is_refused(world):
    with refused("ECDSAInvalidSignature"):
        world.send(ANN, "register", 0, ANN, NODE.address, BOB, bytes(64) + b"\x1b")


def test_neither_controller_nor_key_may_be_zero(world):
    with refused("ZeroAddress"):
        register(world, controller=NOBODY)
    with refused("ZeroAddress"):
        world.send(ANN, "register", 0, ANN, NOBODY, BOB, bytes(65))
    (member,) = register(world).returned
    with refused("ZeroAddress"):
        world.send(ANN, "setAttributes", member, NOBODY, BOB)


def test_attributes_belong_to_the_controller(world):
    (member,) = register(world).returned
    for stranger in (EVE, NODE.address, BOB):
        with refused("NotController", member, stranger):
            world.send(stranger, "setAttributes", member, EVE, EVE)
    assert world.send(ANN, "setAttributes", member, BOB, EVE).log.arguments == {
        "member": member, "controller": BOB, "payout": EVE
    }  # fmt: skip
    assert world.read("getMember", member)[0] == BOB
    assert world.read("getMember", member)[4] == EVE
    with refused("NotController", member, ANN):
        world.send(ANN, "setAttributes", member, ANN, ANN)


def test_what_does_not_exist_cannot_be_changed(world):
    with refused("UnknownMember", b"\5" * 32):
        world.send(ANN, "setAttributes", b"\5" * 32, ANN, ANN)
    with refused("UnknownMember", b"\5" * 32):
        world.send(ANN, "rotateKey", b"\5" * 32, EVE, bytes(65))
    assert world.read("getMember", b"\5" * 32) == (NOBODY, 0, NOBODY, 0, NOBODY)
    assert world.read("keyRecord", EVE) == (bytes(32), 0, 0)


def test_a_rotation_keeps_the_old_key_on_record(world):
    member = world.member()
    born = world.evm.number - 1
    world.evm.number += 5
    rotated = world.rotate(member, Key("second"))
    second = world.evm.number - 1
    assert world.read("keyRecord", member.key.address) == (member.id, born, second)
    assert world.read("keyRecord", rotated.key.address) == (member.id, second, 0)
    world.evm.number += 5
    third = world.rotate(rotated, Key("third"))
    assert world.read("keyRecord", rotated.key.address) == (member.id, second, world.evm.number - 1)
    assert world.read("getMember", member.id)[1:3] == (2, third.key.address)


def test_a_rotation_needs_controller_and_new_key(world):
    member, new = world.member(), Key("new")
    good = world.signed(new, "Rotation", member.id, new.address, 0)
    with refused("NotController", member.id, new.address):
        world.send(new.address, "rotateKey", member.id, new.address, good)
    with refused("WrongSigner"):
        stale = world.signed(new, "Rotation", member.id, new.address, 1)
        world.send(member.controller, "rotateKey", member.id, new.address, stale)
    with refused("WrongSigner", new.address, member.key.address):
        by_old = world.signed(member.key, "Rotation", member.id, new.address, 0)
        world.send(member.controller, "rotateKey", member.id, new.address, by_old)
    outcome = world.send(member.controller, "rotateKey", member.id, new.address, good)
    assert (outcome.log.name, outcome.log.arguments) == (
        "NodeKeyChanged", {"member": member.id, "key": new.address}
    )  # fmt: skip


def test_a_key_never_comes_back(world):
    member = world.member()
    world.rotate(member, Key("second"))
    signature = world.signed(member.key, "Rotation", member.id, member.key.address, 1)
    with refused("KeyTaken", member.key.address, member.id):
        world.send(member.controller, "rotateKey", member.id, member.key.address, signature)

"""The keys of a home: which one signs, and what is known of those before."""

from pathlib import Path

import pytest

from distrai.ledger.keys import create_key
from distrai.peer.keyring import Keyring
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.typed_data import Domain

DOMAIN = Domain(31337, Address(b"\x11" * 20))
MEMBER = MemberId(b"\x22" * 32)


def test_a_home_makes_its_first_key_and_finds_the_later_ones_in_order(tmp_path: Path) -> None:
    first = Keyring.open(tmp_path).first
    second = create_key(tmp_path / "node-2.json")
    create_key(tmp_path / "node-4.json")  # not one that follows
    ring = Keyring.open(tmp_path)
    assert [key.address for key in ring.keys] == [first.address, second.address]
    identity = ring.identity(MEMBER, second.address, DOMAIN)
    assert identity.address == second.address
    assert identity.owns(first.address) and identity.owns(second.address) and not identity.owns(None)
    assert identity.signs_with(first.address)[0] == first.address
    assert identity.signs_with(None)[0] == second.address


def test_a_key_that_is_elsewhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0x3333.*not in"):
        Keyring.open(tmp_path).identity(MEMBER, Address(b"\x33" * 20), DOMAIN)

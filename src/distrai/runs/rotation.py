"""A new node key for a member: from the next head on for a trainer, from its promotion with it for a seat."""

from dataclasses import dataclass
from pathlib import Path

from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import key_lock
from distrai.ledger.locks import FileLock
from distrai.peer.keyring import FIRST, Keyring
from distrai.peer.link import Link
from distrai.protocol.primitives import Address, MemberId


class CannotRotate(ValueError):
    """There is no member whose key could be changed; the message says what to do."""


@dataclass(frozen=True)
class Rotated:
    """What came of a rotation."""

    member: MemberId
    key: Address
    keys: int
    """How many keys the home has now; a peer needs all of them for a while, and the first for ever."""


async def rotate(home: Path, link: Link) -> Rotated:
    """Make a new key in ``home`` and tell the ledger. The peer there must not run.

    Raises CannotRotate, InUse, a KeyFileError or a LedgerError; asked again after one, it goes on with the same key.
    """
    if not (home / FIRST).exists():
        raise CannotRotate(f"{home} is no peer's home: give the --home that `distrai join` said")
    with FileLock(home / "peer.lock", "this peer's home"), key_lock(home / FIRST):
        keyring = Keyring.open(home)
        ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, keyring.first)
        try:
            member = await ledger.member_of_key(keyring.first.address)
            if member is None:
                raise CannotRotate(f"the key of {home} is no member's on this ledger: join the run first")
            key = await keyring.rotate(ledger, member)
        finally:
            await ledger.close()
    return Rotated(member, key.address, len(Keyring.open(home).keys))

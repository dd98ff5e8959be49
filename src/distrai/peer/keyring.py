"""The node keys of a home: the one that made the member, and those that it was rotated to."""

from dataclasses import dataclass
from pathlib import Path

from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import NodeKey, create_key, load_key
from distrai.peer.identity import Identity
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain

FIRST = "node.json"


@dataclass(frozen=True)
class Keyring:
    """All node keys of one member, in the order in which they were made.

    The first controls the member on the ledger and makes the secret that seals updates: it is needed for ever.
    """

    home: Path
    keys: tuple[NodeKey, ...]

    @classmethod
    def open(cls, home: Path) -> "Keyring":
        """The keys of a home, whose first is made where there is none. Raises a KeyFileError."""
        first = home / FIRST
        keys = [load_key(first) if first.exists() else create_key(first)]
        while (path := home / _name(len(keys) + 1)).exists():
            keys.append(load_key(path))
        return cls(home, tuple(keys))

    @property
    def first(self) -> NodeKey:
        """The controller's."""
        return self.keys[0]

    def key(self, address: Address) -> NodeKey:
        """The key at this address. Raises ValueError if it is not in this home."""
        for key in self.keys:
            if key.address == address:
                return key
        raise ValueError(
            f"the ledger says that this member signs with key 0x{address.hex()}, which is not in {self.home}: use "
            "the home that has it"
        )

    def identity(self, member: MemberId, current: Address, domain: Domain) -> Identity:
        """How the member signs: with its key on the ledger, and with earlier ones where a head still names them."""
        key = self.key(current)
        also = tuple((other.address, other.sign) for other in self.keys if other is not key)
        return Identity(member, key.address, domain, key.sign, recover, also)

    async def rotate(self, ledger: LedgerClient, member: MemberId) -> NodeKey:
        """Make a new key, and sign with it from the next head on; ``ledger`` is connected with the first key.

        The file is there before the ledger is told: asked again after a crash, the same key is told.
        """
        current = (await ledger.member(member)).key
        newest = self.keys[-1]
        if newest.address == current:
            newest = create_key(self.home / _name(len(self.keys) + 1))
        await ledger.rotate_key(member, newest)
        return newest


def _name(number: int) -> str:
    return FIRST if number == 1 else f"node-{number}.json"

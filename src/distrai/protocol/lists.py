"""The list behind a certificate: the trainers of the round, and each signed update that counts with its key.

A body commits to it through its updates root and trainers root; a replayer needs nothing else but the ciphertexts.
"""

from collections.abc import Sequence
from functools import cached_property

import msgspec

from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.cipher import KEY_SIZE
from distrai.protocol.errors import MalformedMessage, UnsortedList, WrongTrainersRoot, WrongUpdatesRoot
from distrai.protocol.keccak import keccak
from distrai.protocol.merkle import trainers_root, updates_root
from distrai.protocol.primitives import ADDRESS_SIZE, HASH_SIZE, Address, Hash, MemberId


class Trainer(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Whose updates may count in a round, and the key that signs them."""

    member: MemberId
    key: Address


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One update of a certificate: its envelope as signed, and its key."""

    update: bytes
    key: bytes


class CertifiedList(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The trainers of the round, sorted, and the entries in the order of their members."""

    trainers: tuple[Trainer, ...]
    entries: tuple[Entry, ...]

    @cached_property
    def updates_root(self) -> Hash:
        """The root that a body names; zero for no entry."""
        return updates_root([(keccak(entry.update), entry.key) for entry in self.entries])

    @cached_property
    def trainers_root(self) -> Hash:
        """The root over the trainers."""
        return root_of_trainers(self.trainers)

    def to_bytes(self) -> bytes:
        """The bytes of the list blob."""
        return encode_canonical(self)


def root_of_trainers(trainers: Sequence[Trainer]) -> Hash:
    """The trainers root of a body."""
    return trainers_root([(trainer.member, trainer.key) for trainer in trainers])


def decode_list(data: bytes) -> CertifiedList:
    """Decode a list blob that came from outside. Raises MalformedMessage, NotCanonical or UnsortedList."""
    certified = decode_canonical(data, CertifiedList)
    if any(len(item.member) != HASH_SIZE or len(item.key) != ADDRESS_SIZE for item in certified.trainers):
        raise MalformedMessage("a trainer is a member of 32 bytes and a key of 20")
    if any(len(entry.key) != KEY_SIZE for entry in certified.entries):
        raise MalformedMessage(f"the key of an update has {KEY_SIZE} bytes")
    members = [trainer.member for trainer in certified.trainers]
    if any(first >= second for first, second in zip(members, members[1:], strict=False)):
        raise UnsortedList("the trainers of a list are sorted by member, each once")
    return certified


def check_list(certified: CertifiedList, body: Body) -> None:
    """Raise unless ``certified`` is the list that ``body`` commits to."""
    if certified.updates_root != body.updates_root:
        raise WrongUpdatesRoot(f"the list of round {body.round} is not the one that was certified")
    if certified.trainers_root != body.trainers_root:
        raise WrongTrainersRoot(f"the trainers of round {body.round} are not those that were certified")

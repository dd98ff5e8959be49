"""The list behind a certificate: each signed update that counts with its key, and who trains in the next round.

A body commits to it through its updates root and trainers root; a replayer needs nothing else but the ciphertexts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import msgspec

from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.cipher import KEY_SIZE
from distrai.protocol.errors import (
    BadSignature,
    MalformedMessage,
    UnsortedList,
    WrongTrainersRoot,
    WrongUpdatesRoot,
)
from distrai.protocol.merkle import trainers_root, updates_root
from distrai.protocol.messages import Envelope, Update, decode_body, open_envelope
from distrai.protocol.primitives import ADDRESS_SIZE, HASH_SIZE, Address, Hash, MemberId
from distrai.protocol.typed_data import Domain

Recover = Callable[[Hash, bytes], Address]


class Trainer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """Whose updates may count in a round, and the key that signs them."""

    member: MemberId
    key: Address


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One update of a certificate: its envelope as signed, and its key."""

    update: bytes
    key: bytes


class CertifiedList(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """The entries, in the order of their members, and what the head fixes for the round that follows it.

    ``trainers`` (sorted) train in that round, from position ``cursor`` of the data on.
    """

    cursor: int
    trainers: tuple[Trainer, ...]
    entries: tuple[Entry, ...]

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """What the entries' updates say. Raises MalformedMessage or NotCanonical."""
        return tuple(_decode_update(entry.update) for entry in self.entries)

    @cached_property
    def updates_root(self) -> Hash:
        """The root that a body names; zero for no entry."""
        names = (update.identity(b"") for update in self.updates)
        return updates_root([(name, entry.key) for name, entry in zip(names, self.entries, strict=True)])

    @cached_property
    def trainers_root(self) -> Hash:
        """The root over cursor and trainers of the round that follows."""
        return root_of_trainers(self.cursor, self.trainers)

    def to_bytes(self) -> bytes:
        """The bytes of the list blob."""
        return encode_canonical(self)


def _decode_update(raw: bytes) -> Update:
    envelope = decode_canonical(raw, Envelope)
    message = decode_body(envelope.kind, envelope.body)
    if not isinstance(message, Update):
        raise MalformedMessage(f"an entry of a list is an update, not a {message.kind}")
    return message


def root_of_trainers(cursor: int, trainers: Sequence[Trainer]) -> Hash:
    """The trainers root of a body."""
    return trainers_root(cursor, [(trainer.member, trainer.key) for trainer in trainers])


def check_signatures(
    certified: CertifiedList, keys: Mapping[MemberId, Address], domain: Domain, recover: Recover
) -> None:
    """Raise unless every update of the list is signed by its member's key; ``keys`` are the round's trainers."""
    for entry in certified.entries:
        signed = open_envelope(entry.update, domain, recover)
        if keys.get(signed.message.member) != signed.signer:
            raise BadSignature(
                f"the update of member {signed.message.member.hex()[:12]} is not signed by its key"
            )


def decode_list(data: bytes) -> CertifiedList:
    """Decode a list blob that came from outside. Raises MalformedMessage, NotCanonical or UnsortedList."""
    certified = decode_canonical(data, CertifiedList)
    if any(len(item.member) != HASH_SIZE or len(item.key) != ADDRESS_SIZE for item in certified.trainers):
        raise MalformedMessage("a trainer is a member of 32 bytes and a key of 20")
    if any(len(entry.key) != KEY_SIZE for entry in certified.entries):
        raise MalformedMessage(f"the key of an update has {KEY_SIZE} bytes")
    members = [trainer.member for trainer in certified.trainers]
    if any(first >= second for first, second in pairwise(members)):
        raise UnsortedList("the trainers of a list are sorted by member, each once")
    authors = [update.member for update in certified.updates]
    if any(first >= second for first, second in pairwise(authors)):
        raise UnsortedList("the updates of a list are sorted by member, one of each")
    if certified.cursor < 0:
        raise MalformedMessage("the data cursor of a list is negative")
    return certified


def check_list(certified: CertifiedList, body: Body) -> None:
    """Raise unless ``certified`` is the list that ``body`` commits to."""
    if certified.updates_root != body.updates_root:
        raise WrongUpdatesRoot(f"the list of round {body.round} is not the one that was certified")
    if certified.trainers_root != body.trainers_root:
        raise WrongTrainersRoot(
            f"trainers or cursor beside round {body.round} are not those that were certified"
        )

"""What a liar needs: its own words in what it is about to send, and other words in their place."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from distrai.peer.events import Effect, Send
from distrai.protocol.cipher import binding, key_hash
from distrai.protocol.messages import Message, Signed, Update
from distrai.protocol.primitives import MemberId
from distrai.protocol.standing import Standing
from distrai.simulation.peer import SimulatedPeer
from distrai.simulation.toy import Sealed, seal_payload

M = TypeVar("M", bound=Message)


def announced(peer: SimulatedPeer, effect: Effect, kind: type[M]) -> tuple[Send, M] | None:
    """The Send and the own message of this kind that it announces; None if it does something else."""
    if not isinstance(effect, Send) or len(effect.raws) != 1 or len(effect.to) < 2:
        return None  # what goes to one member answers its digest
    message = peer.world.opened(effect.raws[0]).message
    own = message.member == peer.member and isinstance(message, kind)
    return (effect, message) if own and isinstance(message, kind) else None


def without(peer: SimulatedPeer, effect: Effect, kind: type[Message]) -> Iterator[Effect]:
    """The effect without the own messages of a kind, also where it answers a digest."""
    if not isinstance(effect, Send):
        yield effect
        return
    messages = {raw: peer.world.opened(raw).message for raw in effect.raws}
    kept = [raw for raw, said in messages.items() if not isinstance(said, kind) or said.member != peer.member]
    if kept:
        yield Send(effect.to, tuple(kept), effect.blob)


def header_of(message: Message) -> dict[str, Any]:
    """What every message begins with."""
    return {name: getattr(message, name) for name in ("run", "round", "previous_head", "member")}


def forge(peer: SimulatedPeer, message: Message, **changes: Any) -> Signed:
    """An own message with other content, signed."""
    return peer.identity.seal(msgspec.structs.replace(message, **changes))


def standing_of(peer: SimulatedPeer) -> Standing:
    """The head that the peer is at."""
    assert peer.engine is not None and peer.engine.standing is not None
    return peer.engine.standing


def in_two(peer: SimulatedPeer, members: Iterable[MemberId]) -> list[tuple[MemberId, ...]]:
    """Two halves, drawn anew."""
    drawn = list(members)
    peer.random.shuffle(drawn)
    return [tuple(drawn[::2]), tuple(drawn[1::2])]


def commitment(update: Update, key: bytes) -> bytes:
    """The key hash that an update with this key has."""
    return key_hash(key, binding(update.run, update.round, update.previous_head, update.member))


def other_update(peer: SimulatedPeer, update: Update, payload: bytes) -> tuple[Signed, Sealed]:
    """Another update from the same base, with this payload; its ciphertext is stored."""
    standing = standing_of(peer)
    base = standing.base_at(update.round - 1) or standing.base  # after a reorg it may be gone
    sealed = seal_payload(payload, peer.random.randbytes(32), base, peer.member)
    peer.disk.blobs[sealed.blob.hash] = sealed.data
    hashes = {"blob_hash": sealed.blob.hash, "key_hash": commitment(update, sealed.key)}
    return forge(peer, update, **hashes), sealed

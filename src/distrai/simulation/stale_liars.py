"""Byzantine members that attack how updates may be listed late: with several at once, and with the same one again."""

from collections.abc import Iterator

from distrai.peer.events import Effect, Send
from distrai.protocol.bases import Base
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Key, Signed, Update
from distrai.simulation.forging import announced, commitment, forge, other_update, standing_of
from distrai.simulation.peer import SimulatedPeer
from distrai.simulation.toy import PAYLOAD_SIZE, Sealed


def many_at_once(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Announces updates from all heads that one may start from, and reveals all of them."""
    yield effect
    if own := announced(peer, effect, Update):
        send, update = own
        peer.memory["more"] = more = [_from(peer, update, base) for base in standing_of(peer).bases]
        for signed, sealed in more:
            yield Send(send.to, (signed.raw,), sealed.blob)
    if revealed := announced(peer, effect, Key):
        send, key = revealed
        for signed, sealed in peer.memory.get("more", ()):
            place = {"round": signed.message.round, "previous_head": signed.message.previous_head}
            yield Send(send.to, (forge(peer, key, **place, update=signed.id, key=sealed.key).raw,))


def _from(peer: SimulatedPeer, update: Update, base: Base) -> tuple[Signed, Sealed]:
    place = {"round": base.round + 1, "previous_head": base.head}
    moved = forge(peer, update, **place, base_round=base.round, base_state_root=base.state_root).message
    assert isinstance(moved, Update)
    payload = (keccak(b"more" + update.blob_hash + base.head) * 2)[:PAYLOAD_SIZE]
    made = other_update(peer, moved, payload)
    assert isinstance(made[0].message, Update) and made[0].message.key_hash == commitment(moved, made[1].key)
    return made


def lists_again(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """When its update is about to be listed it announces another one from the same base, and its key at once."""
    yield effect
    if revealed := announced(peer, effect, Key):
        send, key = revealed
        assert peer.engine is not None and peer.engine.round is not None
        own = peer.engine.round.book.updates.get(key.update)
        if own is None or not isinstance(own.message, Update):
            return
        payload = (keccak(b"again" + key.update) * 2)[:PAYLOAD_SIZE]
        again, sealed = other_update(peer, own.message, payload)
        told = forge(peer, key, update=again.id, key=sealed.key)
        yield Send(send.to, (again.raw, told.raw), sealed.blob)

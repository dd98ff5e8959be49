"""Byzantine members: each runs the honest engine and twists what it does. Fewer than a third of the seats may."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from distrai.peer.events import Effect, Send, Submit
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.cipher import binding, key_hash
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import BodySignature, Have, Key, Message, Proposal, Signed, Update, seal_envelope
from distrai.protocol.primitives import ZERO_HASH, Hash, MemberId
from distrai.protocol.standing import Standing
from distrai.simulation.peer import SimulatedPeer, Twist
from distrai.simulation.toy import DOMAIN, NOT_FINITE, WORK, Sealed, seal_payload, signer

HEADER = ("run", "round", "previous_head", "member")


def own_message(peer: SimulatedPeer, effect: Effect) -> Signed | None:
    """The own message that a Send announces, or None if it relays."""
    if not isinstance(effect, Send) or len(effect.raws) != 1:
        return None
    signed = peer.world.opened(effect.raws[0])
    return signed if signed.message.member == peer.member else None


def forge(peer: SimulatedPeer, message: Message, **changes: Any) -> Signed:
    """An own message with other content, signed."""
    return peer.identity.seal(msgspec.structs.replace(message, **changes))


def standing_of(peer: SimulatedPeer) -> Standing:
    """The head that the peer is at."""
    assert peer.engine is not None and peer.engine.standing is not None
    return peer.engine.standing


def in_two(peer: SimulatedPeer, members: Iterable[MemberId]) -> tuple[tuple[MemberId, ...], tuple[MemberId, ...]]:
    """Two halves, drawn anew."""
    drawn = list(members)
    peer.random.shuffle(drawn)
    return tuple(drawn[::2]), tuple(drawn[1::2])


def sealed_update(peer: SimulatedPeer, update: Update, payload: bytes) -> tuple[Signed, Sealed]:
    """Another update of this round, with this payload; its ciphertext is stored."""
    sealed = seal_payload(payload, peer.random.randbytes(32), standing_of(peer), peer.member)
    peer.disk.blobs[sealed.blob.hash] = sealed.data
    bound = binding(update.run, update.round, update.previous_head, update.member)
    signed = forge(peer, update, blob_hash=sealed.blob.hash, key_hash=key_hash(sealed.key, bound))
    return signed, sealed


def silent(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Listens, and never says a word."""
    if not isinstance(effect, Send | Submit):
        yield effect


def without(peer: SimulatedPeer, effect: Effect, kind: type[Message]) -> Iterator[Effect]:
    """The effect without the own messages of a kind, also where it answers a digest."""
    if not isinstance(effect, Send):
        yield effect
        return
    opened = [peer.world.opened(raw) for raw in effect.raws]
    kept = [signed.raw for signed in opened if not _is_own(peer, signed, kind)]
    if kept:
        yield Send(effect.to, tuple(kept), effect.blob)


def _is_own(peer: SimulatedPeer, signed: Signed, kind: type[Message]) -> bool:
    return isinstance(signed.message, kind) and signed.message.member == peer.member


def never_reveals(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Keeps its key to itself."""
    return without(peer, effect, Key)


def equivocates(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Sends two different updates to two halves, and reveals both."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Update):
        payload = keccak(b"other" + signed.id) + bytes(8)
        other, sealed = sealed_update(peer, signed.message, payload)
        peer.memory["other"] = (other.id, sealed.key)
        first, second = in_two(peer, effect.to)
        yield Send(first, effect.raws, effect.blob)
        yield Send(second, (other.raw,), sealed.blob)
        return
    yield effect
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Key):
        identity, key = peer.memory["other"]  # type: ignore[misc]
        yield Send(effect.to, (forge(peer, signed.message, update=identity, key=key).raw,))


def signs_twice(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Sends one update under two valid signatures (as ECDSA allows) to two halves."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Update):
        sign = signer(peer.identity.address, salt=1)
        other = seal_envelope(signed.message, DOMAIN, sign, peer.identity.address)
        first, second = in_two(peer, effect.to)
        yield Send(first, effect.raws, effect.blob)
        yield Send(second, (other.raw,), effect.blob)
    else:
        yield effect


def two_haves(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Tells every member another Have."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Have):
        for target in effect.to:
            named = tuple(name for name in signed.message.updates if peer.random.random() < 0.5)
            yield Send((target,), (forge(peer, signed.message, updates=named).raw,))
    else:
        yield effect


def not_finite(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Contributes a payload that fails the absolute checks."""
    yield from _other_payload(peer, effect, lambda update: sealed_update(peer, update, NOT_FINITE))


def copies(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Announces the ciphertext of another as its own."""
    yield from _other_payload(peer, effect, lambda update: _copied(peer, update))


def _copied(peer: SimulatedPeer, update: Update) -> tuple[Signed, Sealed] | None:
    assert peer.engine is not None and peer.engine.round is not None
    key = peer.random.randbytes(32)
    bound = binding(update.run, update.round, update.previous_head, update.member)
    for signed in peer.engine.round.book.updates.values():
        message = signed.message
        if isinstance(message, Update) and message.member != peer.member:
            data = peer.disk.blobs.get(message.blob_hash)
            if data is not None:
                own = forge(peer, update, blob_hash=message.blob_hash, key_hash=key_hash(key, bound))
                return own, Sealed(BlobRef(message.blob_hash, message.blob_size), data, key)
    return None


def _other_payload(peer: SimulatedPeer, effect: Effect, make: Any) -> Iterator[Effect]:
    """Replace the own update, and later its key."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Update):
        made = make(signed.message)
        peer.memory["instead"] = made
        if made is not None:
            yield Send(effect.to, (made[0].raw,), made[1].blob)
            return
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Key):
        made = peer.memory.get("instead")
        if made is not None:
            update, sealed = made  # type: ignore[misc]
            yield Send(effect.to, (forge(peer, signed.message, update=update.id, key=sealed.key).raw,))
            return
    yield effect


def withholds(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Announces to everybody, but gives the bytes to two thirds only, and late."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Update):
        peer.memory["withheld"] = signed.message.blob_hash
        given = effect.to[: (2 * len(peer.world.peers)) // 3]
        yield Send(given, effect.raws, effect.blob)
        yield Send(effect.to[len(given) :], effect.raws)
    else:
        yield effect


def garbage(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Behaves, and sends nonsense beside every message."""
    yield effect
    signed = own_message(peer, effect)
    if signed is None or not isinstance(effect, Send):
        return
    message = signed.message
    nonsense = [
        peer.random.randbytes(100),
        effect.raws[0][:-1],
        forge(peer, message, run=message.run + 1).raw,
        forge(peer, message, round=message.round + peer.random.randint(-1, 3)).raw,
        forge(peer, message, previous_head=Hash(peer.random.randbytes(32))).raw,
        forge(peer, message, member=effect.to[0] if effect.to else ZERO_HASH).raw,
    ]
    if isinstance(message, Update):
        nonsense += [
            forge(peer, message, blob_size=WORK.sealed_bytes + 1).raw,
            forge(peer, message, inner_steps=1000).raw,
            forge(peer, message, tokens=1).raw,
            forge(peer, message, codec="other").raw,
            forge(peer, message, base_round=message.base_round + 1).raw,
            *(forge(peer, message, key_hash=Hash(peer.random.randbytes(32))).raw for _ in range(5)),
        ]
    if isinstance(message, Key):
        nonsense.append(forge(peer, message, key=peer.random.randbytes(32)).raw)
    yield Send(effect.to, tuple(nonsense))


def proposes_badly(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Keeps its Have, so that there are proposals; then proposes out of turn, and falsehoods; signs all of it."""
    signed = own_message(peer, effect)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Proposal):
        yield from _bad_proposal(peer, effect, signed.message)
        return
    yield from without(peer, effect, Have)
    if signed is not None and isinstance(effect, Send) and isinstance(signed.message, Key):
        attempt = peer.random.randint(0, 5)
        header = {name: getattr(signed.message, name) for name in HEADER}
        content: dict[str, Any] = {"body": b"nonsense", "updates": (), "haves": (), "keys": ()}
        yield Send(effect.to, (peer.identity.seal(Proposal(**header, attempt=attempt, **content)).raw,))


def _bad_proposal(peer: SimulatedPeer, effect: Send, proposal: Proposal) -> Iterator[Effect]:
    body = decode_canonical(proposal.body, Body)
    false_body = msgspec.structs.replace(body, state_root=keccak(b"false"))
    kinds: list[dict[str, Any]] = [
        {"body": encode_canonical(false_body)},
        {"updates": proposal.updates[1:], "keys": proposal.keys[1:]},
        {"updates": proposal.updates[::-1]},
        {"updates": (), "keys": (), "body": encode_canonical(_emptied(peer, body))},
        {"body": encode_canonical(msgspec.structs.replace(body, drops=(peer.member,)))},
        {"body": b"nonsense"},
        {"attempt": proposal.attempt + 1},
    ]
    yield Send(effect.to, (forge(peer, proposal, **peer.random.choice(kinds)).raw,))
    attestation = peer.identity.sign(DOMAIN.digest(false_body.id))
    header = {name: getattr(proposal, name) for name in HEADER}
    signature = peer.identity.seal(BodySignature(**header, body_id=false_body.id, attestation=attestation))
    yield Send(effect.to, (signature.raw,))
    yield Submit(false_body, (attestation,))


def _emptied(peer: SimulatedPeer, body: Body) -> Body:
    return msgspec.structs.replace(body, updates_root=ZERO_HASH, state_root=standing_of(peer).state_root)


LIARS: dict[str, Twist] = {
    "silent": silent,
    "never-reveals": never_reveals,
    "equivocates": equivocates,
    "signs-twice": signs_twice,
    "two-haves": two_haves,
    "not-finite": not_finite,
    "copies": copies,
    "withholds": withholds,
    "garbage": garbage,
    "proposes-badly": proposes_badly,
}

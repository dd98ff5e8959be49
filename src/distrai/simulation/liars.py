"""Byzantine members: each runs the honest engine and twists what it does. Fewer than a third of the seats may."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from distrai.peer.events import Effect, Send, Submit
from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import (
    BodySignature,
    Have,
    Key,
    Message,
    Proposal,
    Signed,
    Update,
    seal_envelope,
)
from distrai.protocol.primitives import ZERO_HASH, Hash
from distrai.simulation.disagreeing import (
    censors,
    checks_in,
    false_haves,
    hides_until_revealed,
    many_bodies,
    never_signs,
    omits,
)
from distrai.simulation.forging import (
    announced,
    commitment,
    forge,
    header_of,
    in_two,
    other_update,
    standing_of,
    without,
)
from distrai.simulation.peer import SimulatedPeer, Twist
from distrai.simulation.stale_liars import lists_again, many_at_once
from distrai.simulation.toy import DOMAIN, NOT_FINITE, PAYLOAD_SIZE, WORK, Sealed, signer

Made = tuple[Signed, Sealed]


def silent(_: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Listens, and never says a word."""
    if not isinstance(effect, Send | Submit):
        yield effect


def never_reveals(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Keeps its key to itself."""
    return without(peer, effect, Key)


def equivocates(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Sends two different updates to two halves, and reveals both."""
    if own := announced(peer, effect, Update):
        send, update = own
        payload = (keccak(b"other" + update.blob_hash) * 2)[:PAYLOAD_SIZE]
        other, sealed = other_update(peer, update, payload)
        peer.memory["other"] = {"update": other.id, "key": sealed.key}
        first, second = in_two(peer, send.to)
        yield Send(first, send.raws, send.blob)
        yield Send(second, (other.raw,), sealed.blob)
        return
    yield effect
    if revealed := announced(peer, effect, Key):
        send, key = revealed
        yield Send(send.to, (forge(peer, key, **peer.memory["other"]).raw,))


def signs_twice(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Sends one update under two valid signatures (as ECDSA allows) to two halves."""
    if own := announced(peer, effect, Update):
        send, update = own
        sign = signer(peer.identity.address, salt=1)
        other = seal_envelope(update, DOMAIN, sign, peer.identity.address)
        first, second = in_two(peer, send.to)
        yield Send(first, send.raws, send.blob)
        yield Send(second, (other.raw,), send.blob)
    else:
        yield effect


def two_haves(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Tells every member another Have."""
    if own := announced(peer, effect, Have):
        send, have = own
        for target in send.to:
            named = tuple(name for name in have.updates if peer.random.random() < 0.5)
            yield Send((target,), (forge(peer, have, updates=named).raw,))
    else:
        yield effect


def not_finite(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Contributes a payload that fails the absolute checks."""
    return _instead(peer, effect, lambda update: other_update(peer, update, NOT_FINITE))


def copies(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Announces the ciphertext of another as its own."""
    return _instead(peer, effect, lambda update: _copied(peer, update))


def _copied(peer: SimulatedPeer, update: Update) -> Made | None:
    assert peer.engine is not None and peer.engine.round is not None
    key = peer.random.randbytes(32)
    for signed in peer.engine.round.book.updates.values():
        seen = signed.message
        if isinstance(seen, Update) and seen.member != peer.member and seen.blob_hash in peer.disk.blobs:
            sealed = Sealed(seen.blob, peer.disk.blobs[seen.blob_hash], key)
            hashes = {"blob_hash": seen.blob_hash, "key_hash": commitment(update, key)}
            return forge(peer, update, **hashes), sealed
    return None


def _instead(peer: SimulatedPeer, effect: Effect, make: Callable[[Update], Made | None]) -> Iterator[Effect]:
    """Replace the own update, and later its key."""
    if own := announced(peer, effect, Update):
        made = peer.memory["instead"] = make(own[1])
        if made is not None:
            yield Send(own[0].to, (made[0].raw,), made[1].blob)
            return
    made = peer.memory.get("instead")
    if made is None:
        yield effect
    elif revealed := announced(peer, effect, Key):
        send, key = revealed
        yield Send(send.to, (forge(peer, key, update=made[0].id, key=made[1].key).raw,))
    else:  # nor does it tell of the true one when asked
        for kept in without(peer, effect, Update):
            yield from without(peer, kept, Key)


def withholds(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Announces to everybody, but gives the bytes to two thirds only."""
    if own := announced(peer, effect, Update):
        send, update = own
        peer.memory["withheld"] = update.blob_hash
        given = send.to[: (2 * len(peer.world.peers)) // 3]
        yield Send(given, send.raws, send.blob)
        yield Send(send.to[len(given) :], send.raws)
    else:
        yield effect


def garbage(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Behaves, and sends nonsense beside every message."""
    yield effect
    own = announced(peer, effect, Message)
    if own is None:
        return
    send, message = own
    random = peer.random
    changes: list[dict[str, Any]] = [
        {"run": message.run + 1},
        {"round": message.round + random.randint(0, 3)},
        {"previous_head": Hash(random.randbytes(32))},
        {"member": send.to[0] if send.to else ZERO_HASH},
    ]
    if isinstance(message, Update):
        changes += [
            {"blob_size": WORK.sealed_bytes[0] + 1},
            {"inner_steps": 1000},
            {"tokens": 1},
            {"codec": "other"},
        ]
        changes += [{"base_round": message.base_round + 1}]
        changes += [{"key_hash": Hash(random.randbytes(32))} for _ in range(12)]
    if isinstance(message, Key):
        changes.append({"key": random.randbytes(32)})
    forged = [forge(peer, message, **change).raw for change in changes]
    yield Send(send.to, (random.randbytes(100), send.raws[0][:-1], *forged))


def proposes_badly(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Keeps its Have, so that there are proposals; then proposes out of turn, and falsehoods; signs all of it."""
    if own := announced(peer, effect, Proposal):
        yield from _bad_proposal(peer, *own)
        return
    yield from without(peer, effect, Have)
    if revealed := announced(peer, effect, Key):
        content: dict[str, Any] = {"body": b"nonsense", "updates": (), "haves": (), "keys": ()}
        attempt = peer.random.randint(0, 5)
        proposal = Proposal(**header_of(revealed[1]), attempt=attempt, **content)
        yield Send(revealed[0].to, (peer.identity.seal(proposal).raw,))


def _bad_proposal(peer: SimulatedPeer, send: Send, proposal: Proposal) -> Iterator[Effect]:
    body = decode_canonical(proposal.body, Body)
    false = msgspec.structs.replace(body, state_root=keccak(b"false"))
    dropping = msgspec.structs.replace(body, drops=(peer.member,))
    before = standing_of(peer).state_root
    empty = msgspec.structs.replace(body, updates_root=ZERO_HASH, state_root=before)
    kinds: list[dict[str, Any]] = [
        {"body": encode_canonical(false)},
        {"body": encode_canonical(dropping)},
        {"body": encode_canonical(empty), "updates": (), "keys": ()},
        {"body": b"nonsense"},
        {"updates": proposal.updates[1:], "keys": proposal.keys[1:]},
        {"updates": proposal.updates[::-1]},
        {"attempt": proposal.attempt + 1},
    ]
    yield Send(send.to, (forge(peer, proposal, **peer.random.choice(kinds)).raw,))
    attestation = peer.identity.sign(DOMAIN.digest(false.id))
    signature = BodySignature(**header_of(proposal), body_id=false.id, attestation=attestation)
    yield Send(send.to, (peer.identity.seal(signature).raw,))
    yield Submit(false, (attestation,))


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
    "false-haves": false_haves,
    "never-signs": never_signs,
    "many-bodies": many_bodies,
    "omits": omits,
    "checks-in": checks_in,
    "hides": hides_until_revealed,
    "censors": censors,
    "many-at-once": many_at_once,
    "lists-again": lists_again,
}

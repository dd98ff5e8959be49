"""Byzantine seats that attack how the others agree: by their Haves, proposals, signatures and roll calls."""

from collections.abc import Iterator
from typing import Any

from distrai.peer.events import CheckIn, CloseRollCall, Effect, Send, Submit, WakeAt
from distrai.peer.round import Round
from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.errors import ProtocolError
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import BodySignature, Have, Key, Proposal
from distrai.protocol.primitives import Hash
from distrai.simulation.forging import announced, forge, header_of, in_two, standing_of, without
from distrai.simulation.peer import SimulatedPeer
from distrai.simulation.toy import DOMAIN, state_root_of


def false_haves(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Names what it does not hold, what nobody holds, or nothing."""
    if own := announced(peer, effect, Have):
        send, have = own
        book = _round(peer).book
        known = {signed.message.member: name for name, signed in book.updates.items()}
        invented = [Hash(peer.random.randbytes(32)) for _ in range(len(standing_of(peer).trainers))]
        names = peer.random.choice([(), tuple(known.values()), tuple(invented)])
        yield Send(send.to, (forge(peer, have, updates=tuple(sorted(names))).raw,))
    else:
        yield from without(peer, effect, Have)


def never_signs(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Talks like everybody else, and neither signs nor proposes anything."""
    if isinstance(effect, Submit):
        return
    for kept in without(peer, effect, BodySignature):
        yield from without(peer, kept, Proposal)


def many_bodies(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Attests another body to every member, beside the true one."""
    yield effect
    if own := announced(peer, effect, BodySignature):
        send, signature = own
        for target in send.to:
            body_id = keccak(signature.body_id + target)
            attestation = peer.identity.sign(DOMAIN.digest(body_id))
            forged = forge(peer, signature, body_id=body_id, attestation=attestation)
            yield Send((target,), (forged.raw,))


def omits(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Keeps its Have, so that there are proposals; to half of the others it proposes a list that lacks somebody.

    Or one that counts an update of its own that two thirds do not hold. Body and state are right for the list; it signs
    both, and sends what has enough signatures to the ledger.
    """
    if own := announced(peer, effect, Proposal):
        send, proposal = own
        first, second = in_two(peer, send.to)
        yield Send(first, send.raws)
        other = _with_other_list(peer, proposal)
        if other is not None:
            body, updates = other
            changes: dict[str, Any] = {"body": encode_canonical(body), "updates": updates}
            yield Send(second, (forge(peer, proposal, **changes).raw,))
            attestation = peer.identity.sign(DOMAIN.digest(body.id))
            fields = {**header_of(proposal), "body_id": body.id, "attestation": attestation}
            yield Send(send.to, (peer.identity.seal(BodySignature(**fields)).raw,))
    else:
        yield from without(peer, effect, Have)


def _with_other_list(peer: SimulatedPeer, proposal: Proposal) -> tuple[Body, tuple[Hash, ...]] | None:
    """A body and its list that differ from the own proposal by one update, with the right state."""
    book = _round(peer).book
    listed = list(proposal.updates)
    extra = [name for name in book.updates if name in book.keys and name not in listed]
    if extra and peer.random.random() < 0.5:
        listed.append(peer.random.choice(extra))
    elif len(listed) > 1:
        listed.remove(peer.random.choice(listed))
    else:
        return None
    names = tuple(book.in_order(listed))
    certified = book.certified_list(list(names))
    try:
        root = state_root_of(standing_of(peer).state_root, certified, peer.disk.blobs)
    except (KeyError, ProtocolError):
        return None
    body = decode_canonical(proposal.body, Body)
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    return Body(**{**fields, "updates_root": certified.updates_root, "state_root": root}), names


def checks_in(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Says all the time that there is a roll call, and closes it without the others; works like everybody else."""
    yield effect
    if isinstance(effect, WakeAt) and peer.random.random() < 0.05:
        yield CheckIn()
        others = [seat for seat in standing_of(peer).seat_members if seat != peer.member]
        yield CloseRollCall(tuple(others))


def hides_until_revealed(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Says nothing of itself until the others have revealed their keys: then everything at once."""
    held: list[Effect] = peer.memory.setdefault("hidden", [])
    if announced(peer, effect, Key):
        yield from held
        held.clear()
        yield effect
    elif announced(peer, effect, Have):
        held.append(effect)
    else:
        yield from without(peer, effect, Have)


def censors(peer: SimulatedPeer, effect: Effect) -> Iterator[Effect]:
    """Names the updates of its own kind only: where too many do, the others never count, and are dropped."""
    if own := announced(peer, effect, Have):
        send, have = own
        known = _round(peer).book.updates
        named = (name for name in have.updates if name in known)
        liars = [name for name in named if peer.world.is_liar(known[name].message.member)]
        yield Send(send.to, (forge(peer, have, updates=tuple(liars)).raw,))
    else:
        yield from without(peer, effect, Have)


def _round(peer: SimulatedPeer) -> Round:
    assert peer.engine is not None and peer.engine.round is not None
    return peer.engine.round

"""What a simulated peer does about each effect: what ``runtime.py`` does, in virtual time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    Effect,
    Evaluate,
    Fetch,
    FetchList,
    ListArrived,
    LookAtLedger,
    Note,
    OfferList,
    Open,
    Persist,
    Send,
    StateApplied,
    StateComputed,
    StopTraining,
    Submit,
    Train,
    TrainingDone,
    UpdateOpened,
    WakeAt,
)
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.errors import ProtocolError
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import ListOffer
from distrai.protocol.primitives import MemberId
from distrai.simulation.toy import (
    INNER_STEPS,
    WORK,
    open_payload,
    payload_of,
    seal_payload,
    state_root_of,
)

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer

WORK_S = (0.0, 0.05)
"""How long it takes to open an update, or to compute a state."""
FETCH_S = (0.05, 0.5)
NO_ANSWER_S = 1.0
SUBMIT_S = (0.05, 0.5)


def do(peer: "SimulatedPeer", effect: Effect) -> None:  # noqa: C901 - one plain dispatch
    """Carry out one effect."""
    match effect:
        case Persist():
            peer.disk.records.append(effect)
        case Send():
            _send(peer, effect)
        case Fetch(blob, holders):
            _fetch(peer, blob, holders, lambda: peer.tell(BlobStored(blob.hash)))
        case FetchList(blob, holder):
            _fetch(peer, blob, (holder,), lambda: _list_fetched(peer, blob))
        case OfferList():
            _offer(peer, effect)
        case Open():
            _open(peer, effect)
        case Evaluate():
            _evaluate(peer, effect)
        case Apply():
            _apply(peer, effect)
        case Train():
            _train(peer, effect)
        case StopTraining():
            peer.training = None
        case Submit():
            _submit(peer, effect)
        case WakeAt(at):
            peer.wake_at(at)
        case LookAtLedger():
            peer.later(SUBMIT_S[0], peer.look_at_ledger)
        case Note() if peer.is_honest:
            peer.world.watch.noted(peer, effect)
        case _:
            pass


def _send(peer: "SimulatedPeer", send: Send) -> None:
    world = peer.world
    world.watch.sent(peer, send)
    data = peer.disk.blobs.get(send.blob.hash) if send.blob and world.scenario.inline_blobs else None
    for member in send.to:
        world.links.carry(peer.member, member, _delivery(world.peers[member], send.raws, data))


def _delivery(target: "SimulatedPeer", raws: tuple[bytes, ...], data: bytes | None) -> Callable[[], None]:
    return lambda: target.hear(raws, data)


def _fetch(
    peer: "SimulatedPeer", blob: BlobRef, holders: tuple[MemberId, ...], then: Callable[[], None]
) -> None:
    """Ask one holder after the other."""
    if blob.hash in peer.disk.blobs:
        peer.later(0.0, then)
        return
    if not holders:
        peer.later(0.0, lambda: peer.tell(BlobFailed(blob.hash)))
        return
    data = peer.world.peers[holders[0]].serve(blob, peer.member)
    if data is None:
        peer.later(NO_ANSWER_S, lambda: _fetch(peer, blob, holders[1:], then))
        return

    def arrived() -> None:
        peer.disk.blobs[blob.hash] = data
        then()

    peer.later(peer.random.uniform(*FETCH_S) * peer.slow, arrived)


def _list_fetched(peer: "SimulatedPeer", blob: BlobRef) -> None:
    peer.tell(ListArrived(decode_list(peer.disk.blobs[blob.hash])))


def _offer(peer: "SimulatedPeer", offer: OfferList) -> None:
    certified = peer.disk.lists.get(offer.updates_root)
    if certified is None or peer.engine is None or peer.engine.round is None:
        return
    data = certified.to_bytes()
    blob = blob_ref(data)
    peer.disk.blobs[blob.hash] = data
    fields = {**peer.engine.round.header(), "round": offer.round, "updates_root": offer.updates_root}
    message = ListOffer(**fields, blob_hash=blob.hash, blob_size=blob.size)
    _send(peer, Send((offer.to,), (peer.identity.seal(message).raw,), blob))


def _work_s(peer: "SimulatedPeer") -> float:
    return peer.random.uniform(*WORK_S) * peer.slow


def _open(peer: "SimulatedPeer", effect: Open) -> None:
    error = None
    try:
        open_payload(effect.update, peer.disk.blobs[effect.update.blob_hash], effect.key)
    except ProtocolError as problem:
        error = f"{type(problem).__name__}: {problem}"
    peer.later(_work_s(peer), lambda: peer.tell(UpdateOpened(effect.id, error)))


def _evaluate(peer: "SimulatedPeer", effect: Evaluate) -> None:
    before = effect.standing
    root = state_root_of(before.state_root, effect.certified, peer.disk.blobs)
    computed = StateComputed(before.head, effect.certified.updates_root, root)
    peer.later(_work_s(peer), lambda: peer.tell(computed))


def _apply(peer: "SimulatedPeer", effect: Apply) -> None:
    """Compute the state, then make the head durable: beside the engine, one head after the other."""
    now = peer.world.clock.now
    peer.applied_at = max(peer.applied_at, now) + _work_s(peer)

    def done() -> None:
        root = state_root_of(effect.before.state_root, effect.certified, peer.disk.blobs)
        if peer.is_honest:
            peer.world.watch.applied(peer, effect, root)
        peer.disk.save_applied(effect, root)
        peer.tell(StateApplied(effect.standing.head))

    peer.later(peer.applied_at - now, done)


def _train(peer: "SimulatedPeer", effect: Train) -> None:
    head = effect.standing.head
    peer.training = head

    def done() -> None:
        if peer.training != head:
            return
        peer.training = None
        payload = payload_of(peer.member, effect.standing)
        sealed = seal_payload(payload, peer.random.randbytes(32), effect.standing, peer.member)
        peer.disk.blobs[sealed.blob.hash] = sealed.data
        tokens = INNER_STEPS * WORK.tokens_per_step
        peer.tell(TrainingDone(head, sealed.blob, sealed.key, INNER_STEPS, tokens))

    peer.later(peer.random.uniform(*peer.world.scenario.train_s) * peer.slow, done)


def _submit(peer: "SimulatedPeer", effect: Submit) -> None:
    world = peer.world
    if not world.chance(world.scenario.ledger.lost):
        certificate = (effect.body, effect.signatures)
        world.clock.after(peer.random.uniform(*SUBMIT_S), lambda: world.ledger.submit(certificate))

"""What a simulated peer does about each effect: what ``runtime.py`` does, in virtual time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distrai.peer.events import (
    Apply,
    BlobFailed,
    BlobStored,
    CheckIn,
    CloseRollCall,
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
    Refollow,
    ReportFault,
    Revert,
    Send,
    StopTraining,
    Submit,
    Train,
    TrainAhead,
    WakeAt,
)
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.lists import decode_list
from distrai.protocol.messages import ListOffer
from distrai.protocol.primitives import MemberId
from distrai.simulation.compute import compute, train
from distrai.simulation.transactions import Certify, CheckingIn, Close, Transaction

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer

FETCH_S = (0.05, 0.5)
NO_ANSWER_S = 1.0
SUBMIT_S = (0.05, 0.5)


def do(peer: "SimulatedPeer", effect: Effect) -> None:  # noqa: C901 - one plain dispatch
    """Carry out one effect."""
    match effect:
        case WakeAt(at):
            peer.wake_at(at)
        case Send():
            _send(peer, effect)
        case Persist():
            peer.disk.records.append(effect)
        case Open() | Evaluate() | Apply() | Revert():
            compute(peer, effect)
        case Fetch(blob, holders):
            fetch(peer, blob, holders, lambda: peer.tell(BlobStored(blob.hash)))
        case FetchList(blob, holder):
            fetch(peer, blob, (holder,), lambda: _list_fetched(peer, blob))
        case OfferList():
            _offer(peer, effect)
        case Train():
            train(peer, effect)
        case TrainAhead(standing, block):
            peer.ahead = (standing.head, block)
        case StopTraining():
            peer.training = None
        case Submit(body, signatures):
            transact(peer, Certify(body, signatures))
        case CheckIn():
            transact(peer, CheckingIn(peer.seat_key))
        case CloseRollCall(absent):
            transact(peer, Close(absent))
        case Refollow(after):
            peer.eye.follow_from(after)
        case LookAtLedger():
            peer.later(SUBMIT_S[0], peer.look_at_ledger)
        case ReportFault() if peer.is_honest:
            peer.world.watch.reported(effect)
        case Note() if peer.is_honest:
            peer.world.watch.noted(peer, effect)
        case _:
            pass


def transact(peer: "SimulatedPeer", sent: Transaction) -> None:
    """Send a transaction; it may get lost."""
    world = peer.world
    if not world.chance(world.scenario.ledger.lost):
        world.clock.after(peer.random.uniform(*SUBMIT_S), lambda: world.ledger.submit(sent))


def _send(peer: "SimulatedPeer", send: Send) -> None:
    world = peer.world
    world.watch.sent(peer, send)
    data = peer.disk.blobs.get(send.blob.hash) if send.blob and world.scenario.inline_blobs else None
    for member in send.to:
        target = world.peers[member]
        if target.life:
            world.links.carry(peer.member, member, _delivery(target, send.raws, data))


def _delivery(target: "SimulatedPeer", raws: tuple[bytes, ...], data: bytes | None) -> Callable[[], None]:
    return lambda: target.hear(raws, data)


def fetch(
    peer: "SimulatedPeer", blob: BlobRef, holders: tuple[MemberId, ...], then: Callable[[], None]
) -> None:
    """Ask one holder after the other; of who never lived nobody knows an address."""
    if blob.hash in peer.disk.blobs:
        peer.later(0.0, then)
        return
    holders = tuple(member for member in holders if peer.world.peers[member].life)
    if not holders:
        peer.later(0.0, lambda: peer.tell(BlobFailed(blob.hash)))
        return
    data = peer.world.peers[holders[0]].serve(blob, peer.member)
    if data is None:
        peer.later(NO_ANSWER_S, lambda: fetch(peer, blob, holders[1:], then))
        return

    def arrived() -> None:
        peer.disk.blobs[blob.hash] = data
        then()

    peer.later(peer.random.uniform(*FETCH_S) * peer.slow, arrived)


def _list_fetched(peer: "SimulatedPeer", blob: BlobRef) -> None:
    peer.tell(ListArrived(decode_list(peer.disk.blobs[blob.hash])))


def _offer(peer: "SimulatedPeer", offer: OfferList) -> None:
    certified = peer.disk.list_of.get(offer.round)
    if certified is None or peer.engine is None or peer.engine.round is None:
        return
    data = certified.to_bytes()
    blob = blob_ref(data)
    peer.disk.blobs[blob.hash] = data
    fields = {**peer.engine.round.header(), "round": offer.round, "updates_root": offer.updates_root}
    message = ListOffer(**fields, blob_hash=blob.hash, blob_size=blob.size)
    _send(peer, Send((offer.to,), (peer.engine.seal(message).raw,), blob))

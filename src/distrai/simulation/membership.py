"""Members that come, go, and change their keys while a run is on: what the command line does for a real one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distrai.peer.checkpoint import Checkpoint
from distrai.protocol.errors import ProtocolError
from distrai.protocol.history import reconstruct, rounds_needed
from distrai.protocol.ledger_events import Certified, LedgerEvent, RollCalled
from distrai.protocol.lists import CertifiedList, check_list
from distrai.protocol.standing import Standing
from distrai.simulation.contract import Contract
from distrai.simulation.effects import transact
from distrai.simulation.toy import with_new_key
from distrai.simulation.transactions import Join, Leave, Rotate, Transaction

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer

RETRY_S = 4.0


def insist(
    peer: "SimulatedPeer",
    sent: Transaction,
    is_done: Callable[[Contract], bool],
    then: Callable[[], None] = lambda: None,
) -> None:
    """Send a transaction again and again until the peer's node shows what it does, also after a reorg; then go on."""
    if is_done(peer.eye.node.blocks[-1].contract):
        then()
        return
    transact(peer, sent)
    peer.world.clock.after(RETRY_S, lambda: insist(peer, sent, is_done, then))


def join(peer: "SimulatedPeer", from_snapshot: bool) -> None:
    """Join the run, then take part, from its beginning or from the newest head."""
    sent = Join(peer.member)
    begin = (lambda: enter(peer)) if from_snapshot else peer.start
    insist(peer, sent, lambda contract: bool(contract.parts.get(peer.member)), begin)


def enter(peer: "SimulatedPeer") -> None:
    """Begin from a snapshot of the newest head that this peer sees, as soon as somebody gives it."""
    if peer.is_gone or peer.engine is not None:
        return
    peer.is_entering = True
    if adopt(peer):
        peer.is_entering = False
        peer.world.report.snapshots += 1
        peer.start()
    else:
        peer.world.clock.after(RETRY_S, lambda: enter(peer))


def adopt(peer: "SimulatedPeer") -> bool:
    """Take a head from the ledger's history, the lists that it needs, and a state; whether all of it could be had."""
    blocks = peer.eye.node.blocks
    history = [event for block in blocks for event in block.events]
    ends = [index for index, event in enumerate(history) if isinstance(event, Certified | RollCalled)]
    if not ends:
        peer.disk.begin_again()  # nothing is over yet: from the beginning, then
        return True
    history = history[: ends[-1] + 1]
    lists = _find_lists(peer, history)
    if lists is None:
        return False
    standing, roster = reconstruct(peer.world.rules.run, history, lists)
    assert standing is not None
    at = history[-1].at
    if standing.state_root not in _states(peer, standing):
        return False
    peer.disk.adopt(Checkpoint(standing, roster, at), standing.state_root, lists)
    peer.world.watch.heads.stands(peer, standing, at)
    return True


def _helpers(peer: "SimulatedPeer") -> list["SimulatedPeer"]:
    """Who answers: honest ones that live, also while they wait for a snapshot themselves."""
    others = [other for other in peer.world.peers.values() if other is not peer and other.is_honest]
    return [other for other in others if other.engine is not None or other.is_entering]


def _find_lists(peer: "SimulatedPeer", history: list[LedgerEvent]) -> dict[int, CertifiedList] | None:
    bodies = {event.body.round: event.body for event in history if isinstance(event, Certified)}
    found: dict[int, CertifiedList] = {}
    for number in rounds_needed(history, peer.world.scenario.staleness):
        for other in _helpers(peer):
            certified = other.disk.list_of.get(number)
            try:
                if certified is not None:
                    check_list(certified, bodies[number])
                    found[number] = certified
                    break
            except ProtocolError:
                continue  # it follows another fork
        else:
            return None
    return found


def _states(peer: "SimulatedPeer", standing: Standing) -> set[bytes]:
    """What the others have as the state after this head."""
    states = (other.disk.states.get(standing.head) for other in _helpers(peer))
    return {state for state in states if state is not None}


def leave(peer: "SimulatedPeer", then: Callable[[], None] = lambda: None) -> None:
    """Ask to leave, go on until the run needs this member no more, then stop."""
    insist(peer, Leave(peer.member), lambda contract: not contract.parts.get(peer.member))
    _stop_when_out(peer, then)


def _stop_when_out(peer: "SimulatedPeer", then: Callable[[], None]) -> None:
    """A seat attests until a certificate drops it; who has none may go at once."""
    contract = peer.eye.node.blocks[-1].contract
    if contract.parts.get(peer.member) or peer.member in contract.seats:
        peer.world.clock.after(RETRY_S, lambda: _stop_when_out(peer, then))
        return
    peer.stop()
    peer.is_away = True
    then()


def come_back(peer: "SimulatedPeer") -> None:
    """Join again after having left, with the old home."""
    peer.is_away = peer.is_leaving = False
    join(peer, from_snapshot=False)


def rotate(peer: "SimulatedPeer") -> None:
    """Take another key: known to the process first, then to the ledger."""
    peer.keys += 1
    peer.identity = with_new_key(peer.identity, peer.keys)
    was_alive = peer.engine is not None
    if was_alive:
        peer.stop()
        peer.start()
    key = peer.identity.address
    insist(peer, Rotate(peer.member, key), lambda contract: contract.past.get(key) == peer.member)

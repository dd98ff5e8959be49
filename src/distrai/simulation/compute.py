"""What a simulated peer computes: one thing after the other, as the runtime's thread does, and training beside it.

Each takes its state from memory, so an effect that came in the wrong order is noticed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distrai.peer.events import (
    Apply,
    Evaluate,
    Event,
    Open,
    Revert,
    StateApplied,
    StateComputed,
    Train,
    TrainingDone,
    UpdateOpened,
)
from distrai.protocol.errors import ProtocolError
from distrai.protocol.primitives import Hash
from distrai.protocol.standing import Standing
from distrai.simulation.toy import (
    GENESIS,
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


def head_of(standing: Standing | None) -> Hash:
    """The name of the state at a standing: before round 1 it is the genesis'."""
    return GENESIS.head if standing is None or standing.round == 0 else standing.head


def compute(peer: "SimulatedPeer", effect: Open | Evaluate | Apply | Revert) -> None:
    """Do it after what was asked for before."""
    now = peer.world.clock.now
    peer.computing_until = max(peer.computing_until, now) + peer.random.uniform(*WORK_S) * peer.slow
    peer.later(peer.computing_until - now, lambda: peer.finish(_work(peer, effect)))


def _work(peer: "SimulatedPeer", effect: Open | Evaluate | Apply | Revert) -> Callable[[], Event | None]:
    match effect:
        case Open():
            return lambda: _open(peer, effect)
        case Evaluate():
            return lambda: _evaluate(peer, effect)
        case Apply():
            return lambda: _apply(peer, effect)
        case Revert():
            return lambda: _revert(peer, effect)


def _open(peer: "SimulatedPeer", effect: Open) -> Event:
    error = None
    try:
        open_payload(effect.update, peer.disk.blobs[effect.update.blob_hash], effect.key)
    except ProtocolError as problem:
        error = f"{type(problem).__name__}: {problem}"
    return UpdateOpened(effect.id, error)


def _evaluate(peer: "SimulatedPeer", effect: Evaluate) -> Event | None:
    before, certified = effect.standing, effect.certified
    if peer.state != (head_of(before), before.state_root):
        peer.broke(f"evaluates a list of round {before.round + 1} on another state")
        return None
    root = state_root_of(before.state_root, certified, peer.disk.blobs)
    return StateComputed(before.head, certified.updates_root, root)


def _apply(peer: "SimulatedPeer", effect: Apply) -> Event | None:
    """The state, then list and checkpoint on disk; a death in between leaves the first without the last."""
    before, standing = effect.before, effect.standing
    if peer.state != (head_of(before), before.state_root):
        peer.broke(f"applies round {standing.round} to another state than that of the round before")
    root = before.state_root
    if effect.certified is not None:
        root = state_root_of(root, effect.certified, peer.disk.blobs)
    if peer.is_honest:
        peer.world.watch.heads.applied(peer, effect, root)
    peer.disk.save_list(effect)
    if peer.is_honest and peer.world.chance(peer.world.scenario.crashes.per_effect):
        peer.crash()
        return None
    peer.disk.save_applied(effect, root)
    peer.state = (standing.head, root)
    return StateApplied(standing.head)


def _revert(peer: "SimulatedPeer", effect: Revert) -> Event:
    peer.disk.revert(effect.standing)
    peer.load(effect.standing)
    peer.world.report.reverted += 1
    return StateApplied(GENESIS.head if effect.standing is None else effect.standing.head)


def train(peer: "SimulatedPeer", effect: Train) -> None:
    """Train beside everything else, if the state is there that it is to start from."""
    standing = effect.standing
    if peer.state[0] != head_of(standing):
        return
    peer.training = standing.head
    overlap = peer.world.rules.work.overlap
    tau = overlap if overlap and peer.ahead == (standing.before, effect.block) else 0
    peer.ahead = None

    def done() -> None:
        if peer.training != standing.head:
            return
        peer.training = None
        payload = payload_of(peer.member, standing)
        sealed = seal_payload(payload, peer.random.randbytes(32), standing, peer.member)
        peer.disk.blobs[sealed.blob.hash] = sealed.data
        steps = min(effect.steps, INNER_STEPS)
        tokens = steps * WORK.tokens_per_step
        peer.tell(TrainingDone(standing.head, sealed.blob, sealed.key, steps, tokens, tau))

    peer.later(peer.random.uniform(*peer.world.scenario.train_s) * peer.slow, done)

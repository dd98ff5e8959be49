"""What goes wrong, and who comes and goes, while a scenario has faults."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from distrai.simulation.membership import come_back, join, leave, rotate
from distrai.simulation.world import World

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer

BACK_S = (1.0, 15.0)
LEAVERS_SHARE = 3
"""At most one of so many honest members is away or on its way out."""


def plan_faults(world: World) -> None:
    """Everything that the scenario lets happen, at random times."""
    scenario = world.scenario
    honest = [peer for peer in world.peers.values() if peer.is_honest]
    for peer in honest:
        _again_and_again(world, scenario.crashes.every_s, peer.crash)
    _again_and_again(world, scenario.crashes.together_every_s, lambda: _cut_power(honest))
    _again_and_again(world, scenario.links.split_every_s, lambda: _split(world))
    _again_and_again(world, scenario.ledger.away_every_s, lambda: _take_ledger_away(world))
    _again_and_again(world, scenario.ledger.reorg_every_s, lambda: _reorganise(world))
    _again_and_again(world, scenario.churn.leave_every_s, lambda: _let_leave(world))
    _again_and_again(world, scenario.churn.rotate_every_s, lambda: _let_rotate(world))
    for loss in scenario.losses:
        world.clock.after(loss.at_s, lambda share=loss.share: _lose(world, share))  # type: ignore[misc]


def plan_joins(world: World, joiners: list["SimulatedPeer"]) -> None:
    """Honest and lying members join, one after the other."""
    at = 0.0
    for peer in joiners:
        at += world.random.uniform(0.3, 1.7) * world.scenario.churn.join_every_s
        from_snapshot = world.random.random() < world.scenario.churn.from_snapshot
        world.clock.after(at, _joining(peer, from_snapshot))


def _joining(peer: "SimulatedPeer", from_snapshot: bool) -> Callable[[], None]:
    return lambda: join(peer, from_snapshot)


def _again_and_again(world: World, every_s: float, fault: Callable[[], None]) -> None:
    """Let ``fault`` happen at random times while there are faults."""
    if every_s <= 0:
        return

    def happen() -> None:
        if world.faulty:
            fault()
            world.clock.after(world.random.expovariate(1 / every_s), happen)

    world.clock.after(world.random.expovariate(1 / every_s), happen)


def _cut_power(peers: list["SimulatedPeer"]) -> None:
    for peer in peers:
        peer.crash()


def _split(world: World) -> None:
    if world.links.is_split:
        return
    members, links = list(world.peers), world.scenario.links
    count = len(members) // 2 if links.split_half else world.random.randint(1, len(members) // 2)
    alone = set(world.random.sample(members, count))
    world.links.split(alone, one_way=world.random.random() < 0.3)
    world.clock.after(world.random.uniform(*links.split_s), lambda: world.links.split(set(), one_way=False))


def _take_ledger_away(world: World) -> None:
    world.ledger.reachable = False

    def back() -> None:
        world.ledger.reachable = True

    world.clock.after(world.random.uniform(*world.scenario.ledger.away_s), back)


def _reorganise(world: World) -> None:
    if world.ledger.reachable:
        world.ledger.reorganise(world.random.randint(*world.scenario.ledger.reorg_blocks))


def _settled(world: World) -> list["SimulatedPeer"]:
    """Honest members that take part, and have not asked to leave."""
    parts = world.ledger.contract.parts
    peers = [peer for peer in world.peers.values() if peer.is_honest and not peer.is_gone]
    return [peer for peer in peers if parts.get(peer.member) and peer.life and not peer.is_leaving]


def _let_leave(world: World) -> None:
    honest = [peer for peer in world.peers.values() if peer.is_honest]
    leaving = sum(peer.is_leaving for peer in honest)
    settled = _settled(world)
    if not settled or LEAVERS_SHARE * (leaving + 1) > len(honest):
        return
    peer = world.random.choice(settled)
    peer.is_leaving = True
    returns = world.random.random() < 0.5

    def gone() -> None:
        if returns:
            world.clock.after(world.random.uniform(*BACK_S), lambda: come_back(peer))

    leave(peer, gone)


def _let_rotate(world: World) -> None:
    settled = _settled(world)
    if settled:
        rotate(world.random.choice(settled))


def _lose(world: World, share: float) -> None:
    """So many of the seats die for good."""
    seats = world.ledger.contract.seats
    alive = [world.peers[member] for member in seats if not world.peers[member].is_gone]
    honest = [peer for peer in alive if peer.is_honest]
    for peer in world.random.sample(honest, min(len(honest), int(share * len(seats)))):
        peer.die()

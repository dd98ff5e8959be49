"""Run one scenario with one seed."""

from collections.abc import Callable

from distrai.simulation.liars import LIARS
from distrai.simulation.peer import SimulatedPeer
from distrai.simulation.report import Report
from distrai.simulation.scenario import Scenario
from distrai.simulation.toy import make_identity
from distrai.simulation.watch import Watch
from distrai.simulation.world import World, make_world

EVENTS_MAX = 2_000_000
HEAP_MAX = 50_000


def simulate(scenario: Scenario, seed: int) -> Report:
    """Run ``scenario``: faults for a while, then none, until ``rounds_after`` more rounds are known to all.

    The report names every rule that was broken; the same seed gives the same report.
    """
    assert 3 * len(scenario.liars) < scenario.peers
    world = make_world(scenario, seed)
    world.watch = Watch(world)
    _populate(world)
    _plan_faults(world)
    world.clock.after(scenario.faults_s, lambda: _heal(world))
    while not _is_done(world):
        if not world.clock.step():
            break
        if world.report.events > EVENTS_MAX or len(world.clock) > HEAP_MAX:
            world.report.broke("the run has no end: too many events")
            break
    _finish(world)
    return world.report


def _populate(world: World) -> None:
    scenario = world.scenario
    identities = [make_identity(index) for index in range(scenario.peers)]
    drawn = world.random.sample(range(scenario.peers), scenario.peers)
    behaviours = dict(zip(drawn, scenario.liars, strict=False))
    honest = drawn[len(scenario.liars) :]
    for index, identity in enumerate(identities):
        behaviour = behaviours.get(index)
        name = f"peer {index}" + (f" ({behaviour})" if behaviour else "")
        twist = LIARS[behaviour] if behaviour else None
        world.peers[identity.member] = SimulatedPeer(world, identity, twist, name)
    world.peers[identities[honest[0]].member].is_frail = True
    for index in honest[: scenario.slow_peers]:
        peer = world.peers[identities[index].member]
        peer.slow = world.links.slow[peer.member] = scenario.slow_factor
    world.ledger.open(identities)
    for peer in world.peers.values():
        world.clock.after(world.random.uniform(0, 1), peer.start)


# Faults


def _again_and_again(world: World, every_s: float, fault: Callable[[], None]) -> None:
    """Let ``fault`` happen at random times while there are faults."""
    if every_s <= 0:
        return

    def happen() -> None:
        if world.faulty:
            fault()
            world.clock.after(world.random.expovariate(1 / every_s), happen)

    world.clock.after(world.random.expovariate(1 / every_s), happen)


def _plan_faults(world: World) -> None:
    scenario = world.scenario
    honest = [peer for peer in world.peers.values() if peer.is_honest]
    for peer in honest:
        _again_and_again(world, scenario.crashes.every_s, peer.crash)
    _again_and_again(world, scenario.crashes.together_every_s, lambda: _cut_power(honest))
    _again_and_again(world, scenario.links.split_every_s, lambda: _split(world))
    _again_and_again(world, scenario.ledger.away_every_s, lambda: _take_ledger_away(world))


def _cut_power(peers: list[SimulatedPeer]) -> None:
    for peer in peers:
        peer.crash()


def _split(world: World) -> None:
    members = list(world.peers)
    alone = set(world.random.sample(members, world.random.randint(1, len(members) // 2)))
    world.links.split(alone, one_way=world.random.random() < 0.3)
    world.clock.after(
        world.random.uniform(*world.scenario.links.split_s), lambda: world.links.split(set(), one_way=False)
    )


def _take_ledger_away(world: World) -> None:
    world.ledger.reachable = False

    def back() -> None:
        world.ledger.reachable = True

    world.clock.after(world.random.uniform(*world.scenario.ledger.away_s), back)


def _heal(world: World) -> None:
    """From now on nothing goes wrong but the liars."""
    world.faulty = world.links.faulty = False
    world.ledger.reachable = True
    world.links.split(set(), one_way=False)
    world.healed_at, world.rounds_at_healing = world.clock.now, world.ledger.round
    for peer in world.peers.values():
        if peer.engine is None and peer.life > 0:
            peer.start()


# The end


def _is_done(world: World) -> bool:
    if world.faulty:
        return False
    scenario, ledger = world.scenario, world.ledger
    target = max(scenario.rounds, world.rounds_at_healing + scenario.rounds_after)
    since = max([world.healed_at, *ledger.closed_at[-1:]])
    if ledger.round < target:
        if world.clock.now > since + scenario.close_within_s:
            world.report.broke(
                f"round {ledger.round + 1} did not close within {scenario.close_within_s:.0f} s"
            )
            return True
        return False
    behind = [peer for peer in world.peers.values() if peer.is_honest and len(peer.disk.state_roots) < target]
    if behind and world.clock.now > ledger.closed_at[target - 1] + scenario.close_within_s:
        world.report.broke(f"{behind[0].name} did not learn round {target}: a certified round is lost")
        return True
    return not behind


def _finish(world: World) -> None:
    report, ledger = world.report, world.ledger
    report.virtual_s, report.rounds = world.clock.now, ledger.round
    report.empty_rounds = sum(body.is_empty for body in ledger.bodies)
    started = [0.0, *ledger.closed_at]
    report.round_s = [end - start for start, end in zip(started, ledger.closed_at, strict=False)]
    certified = tuple(body.state_root for body in ledger.bodies)
    for peer in world.peers.values():
        if not peer.is_honest:
            continue
        roots = tuple(peer.disk.state_roots)
        report.state_roots[peer.name] = roots
        report.listed = max(report.listed, peer.disk.listed, key=len)
        if roots != certified[: len(roots)]:
            report.broke(f"{peer.name} holds other states than the ledger")

"""Run one scenario with one seed."""

from functools import partial
from itertools import pairwise

from distrai.peer.identity import Identity
from distrai.protocol.body import quorum
from distrai.simulation.faults import plan_faults, plan_joins
from distrai.simulation.guests import GUESTS
from distrai.simulation.liars import LIARS
from distrai.simulation.membership import enter
from distrai.simulation.memory import shared_work
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
    world.ledger.on_head = world.watch.heads.landed
    world.begin_again = enter
    _populate(world)
    plan_faults(world)
    world.clock.after(scenario.faults_s, lambda: _heal(world))
    with shared_work():
        _run(world)
    _finish(world)
    return world.report


def _run(world: World) -> None:
    while not _is_done(world):
        if not world.clock.step():
            break
        if world.report.events > EVENTS_MAX or len(world.clock) > HEAP_MAX:
            world.report.broke("the run has no end: too many events")
            break


# Who there is


def _populate(world: World) -> None:
    """Those who begin the run, those who join it later, and guests without a process."""
    scenario, churn = world.scenario, world.scenario.churn
    count = scenario.peers + churn.joiners + len(churn.lying_joiners)
    identities = [make_identity(index) for index in range(count)]
    guests = [make_identity(count + index) for index in range(len(churn.guests))]
    drawn = world.random.sample(range(scenario.peers), scenario.peers)
    behaviours = dict(zip(drawn, scenario.liars, strict=False))
    behaviours |= dict(enumerate(churn.lying_joiners, start=scenario.peers + churn.joiners))
    for index, identity in enumerate(identities):
        behaviour = behaviours.get(index)
        if behaviour == "any":
            behaviour = world.random.choice(list(LIARS))
        name = f"peer {index}" + (f" ({behaviour})" if behaviour else "")
        twist = LIARS[behaviour] if behaviour else None
        world.peers[identity.member] = SimulatedPeer(world, identity, twist, name)
    for index, identity in enumerate(guests):
        world.peers[identity.member] = SimulatedPeer(world, identity, None, f"guest {index}")
    honest = [world.peers[identities[index].member] for index in drawn[len(scenario.liars) :]]
    honest[0].is_frail = True
    for peer in honest[: scenario.slow_peers]:
        peer.slow = world.links.slow[peer.member] = scenario.slow_factor
    _begin(world, [*identities, *guests])


def _begin(world: World, identities: list[Identity]) -> None:
    scenario, churn = world.scenario, world.scenario.churn
    world.ledger.open(identities, identities[: scenario.peers])
    peers = [world.peers[identity.member] for identity in identities]
    for peer in peers[: scenario.peers]:
        world.clock.after(world.random.uniform(0, 1), peer.start)
    joiners = peers[scenario.peers : len(peers) - len(churn.guests)]
    world.random.shuffle(joiners)
    world.ledger.after_start(lambda: plan_joins(world, joiners))
    for kind, peer in zip(churn.guests, peers[len(peers) - len(churn.guests) :], strict=True):
        world.ledger.after_start(partial(GUESTS[kind], world, peer.member))


def _heal(world: World) -> None:
    """From now on nothing goes wrong but the liars."""
    world.faulty = world.links.faulty = False
    world.ledger.reachable = True
    world.links.split(set(), one_way=False)
    for node in world.ledger.nodes:
        node.switch()
    world.healed_at, world.rounds_at_healing = world.clock.now, world.ledger.round
    call = world.ledger.contract.current_call
    world.failures_at_healing = 0 if call is None else call.failures
    for peer in world.peers.values():
        if peer.engine is None and peer.life > 0 and not peer.is_away and peer.disk.kept:
            peer.start()


# The end


def _is_done(world: World) -> bool:
    if world.report.captured:
        return True
    if world.faulty:
        return False
    scenario, ledger = world.scenario, world.ledger
    target = max(scenario.rounds, world.rounds_at_healing + scenario.rounds_after)
    if ledger.round < target:
        return _is_stuck(world)
    head = ledger.rounds[target - 1].head
    behind = [peer for peer in _expected(world) if head not in peer.disk.states]
    if behind and world.clock.now > ledger.rounds[target - 1].at_s + scenario.close_within_s:
        world.report.broke(f"{behind[0].name} did not learn round {target}: a certified round is lost")
        return True
    return not behind


def _expected(world: World) -> list[SimulatedPeer]:
    """Who must know in the end what the ledger knows: honest ones that take part and live."""
    return [
        peer
        for peer in world.peers.values()
        if peer.is_honest and peer.life and not (peer.is_gone or peer.is_away or peer.is_leaving)
    ]


def _is_stuck(world: World) -> bool:
    """Whether the round that is on should have closed by now, or never will."""
    contract = world.ledger.contract
    since = max([world.healed_at, *(landed.at_s for landed in world.ledger.rounds[-1:])])
    alive = [peer for peer in _expected(world) if peer.member in contract.seats]
    within = world.scenario.close_within_s
    speaking = [peer for peer in alive if peer.silent_through <= contract.round]
    if len(speaking) < quorum(len(contract.seats)):
        within = _roll_call_within_s(world)
    if world.clock.now <= since + within:
        return False
    dead = any(peer.is_gone for peer in world.peers.values())
    world.report.stopped = dead and len(alive) < min(contract.needed, quorum(len(contract.seats)))
    if not world.report.stopped:
        world.report.broke(f"round {contract.round + 1} did not close within {within:.0f} s")
    return True


def _roll_call_within_s(world: World) -> float:
    """The bound where too few seats live: the stall time, twice if liars talk, then a call.

    While there were faults calls may have failed, which made the windows longer; and the one that was on may fail.
    """
    contract = world.ledger.contract
    failures = world.failures_at_healing if contract.round == world.rounds_at_healing else 0
    stall_s = contract.limits.stall_seconds
    return world.scenario.close_within_s + 3 * stall_s + 4 * (stall_s << failures)


def _finish(world: World) -> None:
    report, ledger = world.report, world.ledger
    report.virtual_s, report.rounds = world.clock.now, ledger.round
    report.reorgs, report.roll_calls = ledger.reorgs, ledger.roll_calls
    bodies = [landed.body for landed in ledger.rounds]
    report.empty_rounds = sum(body is None or body.is_empty for body in bodies)
    report.promoted = sum(len(body.promotions) for body in bodies if body is not None)
    report.dropped = sum(len(body.drops) for body in bodies if body is not None)
    started = [0.0, *(landed.at_s for landed in ledger.rounds)]
    report.round_s = [after - before for before, after in pairwise(started)]
    if report.roll_calls and not world.scenario.may_call_roll:
        report.broke("a roll call closed although nobody was lost")
    if ledger.rounds and not report.captured:
        world.watch.held.check(world.watch.heads.counted_until(ledger.rounds[-1].head))
    for peer in world.peers.values():
        if peer.is_honest and peer.life and not peer.is_gone:
            _check_peer(world, peer)


def _check_peer(world: World, peer: SimulatedPeer) -> None:
    """What a peer holds in the end is what the ledger holds, state by state."""
    report, ledger = world.report, world.ledger
    report.state_roots[peer.name] = tuple(item.state_root for item in peer.disk.applied)
    lists = [item.listed for item in peer.disk.applied if item.listed is not None]
    report.listed = max(report.listed, lists, key=len)
    if peer.is_away:
        return
    for item in peer.disk.applied:
        landed = ledger.rounds[item.round - 1] if item.round <= len(ledger.rounds) else None
        if landed is None or (landed.head, landed.state_root) != (item.head, item.state_root):
            report.broke(f"{peer.name} holds another round {item.round} than the ledger")

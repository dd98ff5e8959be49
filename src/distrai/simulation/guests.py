"""Members without a process: they join, and nobody ever hears of them. They must cost the others nothing."""

from collections.abc import Callable
from itertools import cycle

from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address, MemberId
from distrai.simulation.transactions import Join, Leave, Rotate, Transaction
from distrai.simulation.world import World

EVERY_S = (1.0, 4.0)
Guest = Callable[[World, MemberId], None]


def silent(world: World, member: MemberId) -> None:
    """Joins, and that is all."""
    world.ledger.submit(Join(member))


def flapping(world: World, member: MemberId) -> None:
    """Joins and leaves, again and again."""
    steps: list[Transaction] = [Join(member), Leave(member)]
    _act(world, iter(cycle(steps)).__next__)


def rotating(world: World, member: MemberId) -> None:
    """Takes a new key every few seconds."""
    world.ledger.submit(Join(member))
    count = 0

    def step() -> Transaction:
        nonlocal count
        count += 1
        return Rotate(member, Address(keccak(member + b"guest's key %d" % count)[12:]))

    _act(world, step)


def _act(world: World, step: Callable[[], Transaction]) -> None:
    """Do the next step every few seconds, as long as the run goes on."""

    def act() -> None:
        world.ledger.submit(step())
        world.clock.after(world.random.uniform(*EVERY_S), act)

    world.clock.after(world.random.uniform(*EVERY_S), act)


GUESTS: dict[str, Guest] = {"silent": silent, "flapping": flapping, "rotating": rotating}

"""A run and its child with pots on one distributor, on py-evm, with what was told of them as peers read it."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from contracts.support.evm import Contract, Evm, Outcome, Point
from contracts.support.money import CAP, MEMBERS, PRICE, RATE, SECONDS, Economy, Paying, deploy_all
from contracts.support.players import Member, Running, World
from distrai.ledger.abi import load_artifact
from distrai.protocol import money_events as told
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.pot import Pot
from distrai.protocol.primitives import ZERO_HASH, MemberId
from distrai.protocol.rewards import Earnings, Epoch, RewardTerms, WorkedRound

SEATS = 5
FUNDED = 20 * RATE
RENAMED = {"from": "sender", "firstRound": "first_round", "lastRound": "last_round", "dataHash": "data_hash"}
RENAMED |= {"activeFrom": "active_from", "workedMax": "worked_max", "afterRound": "after_round"}


@dataclass
class Run:
    """A run with a pot, what its members did, and what was told of it."""

    paying: Paying
    events: list[LedgerEvent] = field(default_factory=list)
    work: list[WorkedRound] = field(default_factory=list)
    earned: list[Earnings] = field(default_factory=lambda: [Earnings()])
    """By number of live epochs."""
    leaves: list[dict[MemberId, int]] = field(default_factory=lambda: [{}])
    """Of each live epoch, also of those that captured seats signed."""
    captured: int = 0
    """The first live epoch that is false; 0: none."""
    signed: list[tuple[Epoch, bytes]] = field(default_factory=list)
    """All that ever landed."""

    @property
    def id(self) -> int:
        return self.paying.run

    @property
    def pot(self) -> Pot:
        return Pot.fold(self.events)

    def say(self, function: str, *arguments: Any, sender: bytes | None = None) -> Outcome:
        """Send a transaction about this run, by its owner if by nobody else."""
        now = self.paying.economy.evm.now
        outcome = self.paying.send(function, *arguments, sender=sender)
        self.tell(outcome, now)
        return outcome

    def tell(self, outcome: Outcome, now: int) -> None:
        """Take the logs of a transaction as the ledger's readers do."""
        for log in outcome.logs:
            if log.arguments["run"] != self.id:
                continue
            values = {RENAMED.get(name, name): value for name, value in log.arguments.items()}
            at = Position(len(self.events), 0, keccak(b"block %d" % len(self.events)))
            if log.name == "PotOpened":
                values["terms"] = RewardTerms(*values["terms"])
            if log.name == "RewardClaimed":
                values["transaction"] = ZERO_HASH
            if log.name == "PotClosed":
                values["time"] = now
            self.events.append(getattr(told, log.name)(at, **values))


@cache
def scene() -> tuple[Economy, list[Member], list[Run], Point]:
    """A run and its child, each with a pot and members who may earn from it."""
    evm, artifact = Evm(), load_artifact("RunRegistry")
    registry = Contract(evm, artifact.abi, artifact.bytecode, b"\xdd" * 20)
    economy = Economy(deploy_all(evm, registry), World(evm, registry))
    members = economy.world.members(SEATS)
    parent = with_pot(economy, members, (0, 0, ZERO_HASH))
    state = parent.paying.running.state
    runs = [parent, with_pot(economy, members, (parent.id, state.round, state.head))]
    return economy, members, runs, evm.snapshot()


def with_pot(economy: Economy, members: list[Member], parent: tuple[int, int, bytes]) -> Run:
    world = economy.world
    run = world.open(parent=parent)
    for member in members:
        world.join(run, member)
    world.start(run, members)
    made = Run(Paying(economy, Running(world, run, members)))
    made.say("openPot", (PRICE, CAP, MEMBERS, SECONDS))
    economy.give(world.owner.address, FUNDED, economy.rewards)
    made.say("fund", FUNDED)
    for member in members[:MEMBERS]:
        made.say("allow", member.id)
    return made

"""That no honest work is lost: what two thirds of the seats said they hold is listed, now or as late as is allowed."""

from typing import TYPE_CHECKING

from distrai.protocol.messages import Have, Message, Update
from distrai.protocol.primitives import Hash, MemberId
from distrai.simulation.world import World

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer


class HeldWatch:
    """Sees the updates and Haves of honest members; in the end, where nothing went wrong, what became of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.updates: dict[Hash, Update] = {}
        self.naming: dict[tuple[Hash, Hash], set[MemberId]] = {}
        """Who named an update (the second) in the round that follows a head (the first)."""

    def said(self, peer: "SimulatedPeer", message: Message, identity: Hash) -> None:
        """An honest member sends a message of its own."""
        if isinstance(message, Update):
            self.updates[identity] = message
        if isinstance(message, Have):
            for name in message.updates:
                self.naming.setdefault((message.previous_head, name), set()).add(peer.member)

    def check(self, counted: frozenset[tuple[MemberId, int]]) -> None:
        """``counted``: whose update of which base round the run's chain has."""
        world, rounds = self.world, self.world.ledger.rounds
        places = {landed.head: number for number, landed in enumerate(rounds, start=1)}
        for (head, name), seats in self.naming.items():
            update, number = self.updates.get(name), places.get(head)
            if update is None or number is None or update.previous_head not in places:
                continue  # of a liar, or of a fork that lost
            last = update.round + world.scenario.staleness
            if update.base_round <= world.rounds_at_healing or last > len(rounds):
                continue  # made while there were faults, or it may be listed yet
            if world.scenario.min_updates > 1 and any(
                landed.body is not None and landed.body.is_empty
                for landed in rounds[update.base_round : last]
            ):
                continue  # a round with fewer than it needs lists none of them
            known = world.watch.heads.standings.get(head)
            if known is not None and 3 * len(seats) >= 2 * len(known.seats):
                self._check_listed(update, counted)

    def _check_listed(self, update: Update, counted: frozenset[tuple[MemberId, int]]) -> None:
        author = self.world.peers[update.member]
        if author.engine is not None and (update.member, update.base_round) not in counted:
            self.world.report.broke(
                f"the update of {author.name} from round {update.base_round} was held by two thirds and never listed"
            )

"""That honest work costs nobody stake: no two Updates that a member ever let out of its machine are a fault.

Nothing excuses it here: neither a crash, a lost log, a reorg nor a new key is an argument before a contract.
"""

from typing import TYPE_CHECKING

from distrai.protocol.faults import Place, place_of
from distrai.protocol.messages import Signed, Update
from distrai.protocol.primitives import Hash
from distrai.simulation.world import World

if TYPE_CHECKING:
    from distrai.simulation.peer import SimulatedPeer


class SignedWatch:
    """Every Update that its author sent, by its place: of liars, too."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.places: dict[Place, dict[Hash, Update]] = {}

    def sent(self, peer: "SimulatedPeer", signed: Signed) -> None:
        """``peer`` sends a message that one of its own keys has signed."""
        update = signed.message
        if not isinstance(update, Update):
            return
        known = self.places.setdefault(place_of(update), {})
        if known and signed.id not in known:
            peer.broke(f"sent two Updates for one place of round {update.round}: the ledger would take stake")
        known[signed.id] = update

    @property
    def faults(self) -> list[tuple[Update, Update]]:
        """Two Updates for each place where a liar sent more than one."""
        pairs = (list(updates.values()) for updates in self.places.values())
        return [(updates[0], updates[1]) for updates in pairs if len(updates) > 1]

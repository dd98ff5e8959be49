"""What survives the death of a simulated peer."""

from dataclasses import dataclass, field

from distrai.peer.engine import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Hash


@dataclass
class Disk:
    """One peer's home."""

    records: list[Persist] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    position: Position | None = None
    blobs: dict[Hash, bytes] = field(default_factory=dict)
    lists: dict[Hash, CertifiedList] = field(default_factory=dict)
    state_roots: list[Hash] = field(default_factory=list)
    listed: list[int] = field(default_factory=list)

    def lose_log(self) -> None:
        """Nothing is known any more of what was said and of which heads there were; blobs stay."""
        self.records, self.state_roots, self.listed, self.lists = [], [], [], {}
        self.checkpoint, self.position = Checkpoint(), None

    def save_applied(self, apply: Apply, state_root: Hash) -> None:
        """Make a head durable."""
        self.lists[apply.certified.updates_root] = apply.certified
        self.state_roots.append(state_root)
        self.listed.append(len(apply.certified.entries))
        self.checkpoint = Checkpoint(apply.standing, apply.roster)
        self.position = apply.at

    def own_records(self) -> list[Persist]:
        """What an engine is given back: what it said since the checkpoint, in order."""
        standing = self.checkpoint.standing
        return [record for record in self.records if standing is None or record.round > standing.round]

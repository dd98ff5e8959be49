"""What survives the death of a simulated peer: what ``PeerStore`` keeps, in the order in which it becomes durable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.peer.following import KEPT_HEADS
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Hash
from distrai.protocol.standing import Standing


@dataclass(frozen=True)
class Applied:
    """A round that this peer has taken."""

    round: int
    head: Hash
    state_root: Hash
    listed: int | None
    """Updates in its list; None for a roll call."""


@dataclass
class Disk:
    """One peer's home."""

    records: list[Persist] = field(default_factory=list)
    kept: list[Checkpoint] = field(default_factory=lambda: [Checkpoint()])
    blobs: dict[Hash, bytes] = field(default_factory=dict)
    list_of: dict[int, CertifiedList] = field(default_factory=dict)
    """The lists of certified rounds, by round."""
    states: dict[Hash, Hash] = field(default_factory=dict)
    """The state root after each kept head."""
    applied: list[Applied] = field(default_factory=list)

    @property
    def standing(self) -> Standing | None:
        """The newest head that is on disk."""
        return self.kept[-1].standing

    @property
    def round(self) -> int:
        """The newest round that is on disk."""
        return 0 if self.standing is None else self.standing.round

    def lose_log(self) -> None:
        """Nothing is known any more of what was said and of which heads there were; blobs stay."""
        self.records, self.list_of, self.states = [], {}, {}
        self.begin_again()

    def begin_again(self) -> None:
        """Go back to before the first head; what was said is kept."""
        self.kept, self.applied = [Checkpoint()], []

    def save_list(self, apply: Apply) -> None:
        """The first that becomes durable of a round: its list."""
        if apply.certified is not None:
            self.list_of[apply.standing.round] = apply.certified
        else:
            self.list_of.pop(apply.standing.round, None)

    def save_applied(self, apply: Apply, state_root: Hash) -> None:
        """The last: the checkpoint, with its state."""
        standing = apply.standing
        self.states[standing.head] = state_root
        listed = None if apply.certified is None else len(apply.certified.entries)
        self.applied.append(Applied(standing.round, standing.head, state_root, listed))
        self.kept = [*self.kept, Checkpoint(standing, apply.roster, apply.at)][-KEPT_HEADS - 1 :]

    def revert(self, standing: Standing | None) -> None:
        """Checkpoints after this head are void."""
        head = None if standing is None else standing.head
        while self.kept[-1].standing is not None and self.kept[-1].standing.head != head:
            self.kept.pop()
        void = {item.head for item in self.applied if item.round > self.round}
        self.applied = [item for item in self.applied if item.round <= self.round]
        self.states = {head: root for head, root in self.states.items() if head not in void}

    def adopt(self, checkpoint: Checkpoint, state_root: Hash, lists: Mapping[int, CertifiedList]) -> None:
        """Begin from a head that was not lived through here."""
        standing = checkpoint.standing
        assert standing is not None
        self.kept = [checkpoint]
        self.states[standing.head] = state_root
        self.applied = [Applied(standing.round, standing.head, state_root, None)]
        self.list_of |= lists

    def own_records(self) -> list[Persist]:
        """What an engine is given back: what it said since the oldest kept head, in order."""
        oldest = self.kept[0].standing
        return [record for record in self.records if oldest is None or record.round > oldest.round]

"""Where an engine can go on from, and what it keeps of a certificate until it is applied."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from distrai.protocol.body import Body
from distrai.protocol.ledger_events import Certified, Position
from distrai.protocol.lists import CertifiedList, Entry, Trainer
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.standing import Standing

LISTS_KEPT = 16
"""Lists of the last rounds that are known by their roots."""


@dataclass(frozen=True)
class Checkpoint:
    """A head, who takes part as of the ledger events taken so far (in the order of joining), and the last of those."""

    standing: Standing | None = None
    roster: Mapping[MemberId, Address] = field(default_factory=dict)
    at: Position | None = None


@dataclass
class Landing:
    """A certificate that the ledger took and that is not applied yet: its list, or a ciphertext, is missing."""

    event: Certified
    certified: CertifiedList | None = None
    missing: set[Hash] = field(default_factory=set)
    asked_at: float = float("-inf")
    offered_at: dict[MemberId, float] = field(default_factory=dict)


class KnownLists:
    """Lists that were signed here, offered or applied, by what bodies commit to.

    Entries and trainers are kept apart: the same entries may have landed with another view of who takes part.
    """

    def __init__(self) -> None:
        self.entries: dict[Hash, tuple[Entry, ...]] = {}
        self.people: dict[Hash, tuple[int, tuple[Trainer, ...]]] = {}

    def remember(self, certified: CertifiedList) -> None:
        """Keep a list, at the cost of the oldest."""
        self.entries[certified.updates_root] = certified.entries
        self.people[certified.trainers_root] = (certified.cursor, certified.trainers)
        for known in (self.entries, self.people):
            while len(known) > LISTS_KEPT:
                known.pop(next(iter(known)))

    def find(self, body: Body) -> CertifiedList | None:
        """The list that ``body`` commits to, if both of its parts are known."""
        entries = () if body.is_empty else self.entries.get(body.updates_root)
        people = self.people.get(body.trainers_root)
        if entries is None or people is None:
            return None
        return CertifiedList(*people, entries)

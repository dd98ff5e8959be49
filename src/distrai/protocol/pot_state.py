"""What the ledger's events say of the pot of one run. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from distrai.protocol.ledger_events import LedgerEvent, Position
from distrai.protocol.money_events import (
    EpochKilled,
    EpochSettled,
    Funded,
    HeadMarked,
    MemberAllowed,
    MemberDisallowed,
    PotClosed,
    PotOpened,
    Refunded,
    RewardClaimed,
)
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.rewards import Allowance, Closing, HeadMark, RewardTerms

REACH = 96
"""Non-empty rounds before its end that an epoch pays for at most, and after its end in which it can be settled."""
EPOCH_ROUNDS_MAX = 64
LISTS_NEEDED = 2 * REACH + EPOCH_ROUNDS_MAX
"""So many non-empty rounds back from now a list may be needed: older ones nobody has to keep."""


@dataclass(frozen=True)
class Marked:
    """A head where an epoch may end. ``escrow`` is what was in the pot then: all that came in, less what went back."""

    mark: HeadMark
    head: Hash
    escrow: int
    at: Position


@dataclass(frozen=True)
class LiveEpoch:
    """An epoch that counts, and how often epochs of the run had been killed when it landed."""

    settled: EpochSettled
    kills: int


@dataclass
class Pot:
    """What the ledger says of a run's pot. ``opened`` is None as long as there is none."""

    opened: PotOpened | None = None
    funded: int = 0
    refunded: int = 0
    allowances: list[Allowance] = field(default_factory=list)
    marks: dict[int, Marked] = field(default_factory=dict)
    """By round, in order."""
    epochs: list[LiveEpoch] = field(default_factory=list)
    """Those that are live, in order."""
    kills: int = 0
    closing: Closing | None = None
    closed_at: Position | None = None
    claimed: dict[MemberId, int] = field(default_factory=dict)
    """What each member was paid in all."""

    @classmethod
    def fold(cls, events: Iterable[LedgerEvent]) -> "Pot":
        """The pot after these events: a run's, in order. Those of other kinds change nothing."""
        pot = cls()
        for event in events:
            pot.take(event)
        return pot

    def take(self, event: LedgerEvent) -> None:
        """Go on with one more event."""
        match event:
            case PotOpened():
                self.opened = event
            case Funded(funded=funded):
                self.funded = funded
            case Refunded(amount=amount):
                self.refunded += amount
            case HeadMarked():
                mark = HeadMark(event.round, event.worked, event.time)
                self.marks[event.round] = Marked(mark, event.head, self.escrow, event.at)
            case MemberAllowed(member=member, first_round=first):
                self.allowances.append(Allowance(member, first))
            case MemberDisallowed():
                self._disallow(event)
            case PotClosed(last_round=last, worked_max=worked_max, time=time):
                self.closing, self.closed_at = Closing(time, last, worked_max), event.at
            case _:
                self._take_epoch(event)

    def _take_epoch(self, event: LedgerEvent) -> None:
        match event:
            case EpochSettled():
                self.epochs.append(LiveEpoch(event, self.kills))
            case EpochKilled(live=live, kills=kills):
                self.kills = kills
                del self.epochs[live:]
            case RewardClaimed(member=member, claimed=claimed):
                self.claimed[member] = claimed
            case _:
                pass

    def _disallow(self, event: MemberDisallowed) -> None:
        self.allowances = [
            replace(known, last_round=event.last_round)
            if known.member == event.member and known.last_round is None
            else known
            for known in self.allowances
        ]

    @property
    def terms(self) -> RewardTerms:
        """What the run pays; the pot is open."""
        assert self.opened is not None
        return self.opened.terms

    @property
    def escrow(self) -> int:
        """What came in less what went back, until now."""
        return self.funded - self.refunded

    @property
    def total(self) -> int:
        """What live epochs declare as earned."""
        return self.epochs[-1].settled.total if self.epochs else 0

    def since(self, live: int) -> Marked:
        """Where the epoch after ``live`` others begins; the pot is open."""
        assert self.opened is not None
        return self.marks[self.epochs[live - 1].settled.last_round if live else self.opened.after_round]

    def begin(self, live: int, marked: Marked) -> Marked:
        """Where what the epoch after ``live`` others pays for begins, if it ends with ``marked``.

        That is where it begins itself, unless that is out of reach: where nothing could be settled for so long, the
        oldest mark within reach.
        """
        first, worked = self.since(live).mark.round, marked.mark.worked
        later = (known for known in self.marks.values() if known.mark.round >= first)
        return next((known for known in later if worked - known.mark.worked <= REACH), marked)

    def may_pay(self, round_number: int) -> bool:
        """Whether anybody may earn in a round."""
        return any(allowance.covers(round_number) for allowance in self.allowances)

    @property
    def is_affordable(self) -> bool:
        """Whether there is enough left for a round."""
        return self.escrow >= self.total + self.terms.rate

    def last_paid(self, rounds: int) -> int:
        """The last round that can be paid, in a run of so many rounds."""
        return rounds if self.closing is None else min(rounds, self.closing.last_round)

    def is_after_closing(self, marked: Marked) -> bool:
        """Whether this head was marked when the pot was closed already."""
        return self.closed_at is not None and marked.at > self.closed_at

"""What a simulated network is like, and what goes wrong in it. Durations are in (virtual) seconds."""

from dataclasses import dataclass, field

from distrai.peer.identity import Timing
from distrai.simulation.contract import Limits

TIMING = Timing(d0_s=1.0, cut_s=4.0, hard_s=8.0)


@dataclass(frozen=True)
class Links:
    """How packets travel; a delay is drawn for each one, so they overtake each other."""

    delay_s: tuple[float, float] = (0.01, 0.1)
    lost: float = 0.0
    repeated: float = 0.0
    split_every_s: float = 0.0
    """Mean time between partitions, 0 for none; some are one-way."""
    split_s: tuple[float, float] = (2.0, 15.0)
    split_half: bool = False
    """Whether partitions are into halves; else a part of any size is cut off."""
    flap_s: float = 0.0
    """How often a cut link is there for as long again; 0: it stays cut."""


@dataclass(frozen=True)
class Crashes:
    """How often an honest peer dies, and for how long. What it has not persisted is lost; its disk stays."""

    every_s: float = 0.0
    """Mean time between the deaths of one peer at any moment, 0 for none."""
    per_effect: float = 0.0
    """Chance to die right before an effect is carried out, or while a round is being written."""
    together_every_s: float = 0.0
    """Mean time between deaths of all peers at once (a power cut), 0 for none."""
    down_s: tuple[float, float] = (0.2, 8.0)
    log_lost: float = 0.0
    """Chance that a crash of one certain peer damages its log: it begins anew, silent until the next head."""


@dataclass(frozen=True)
class LedgerFaults:
    """When the ledger cannot be reached (it loses what was sent to it meanwhile), lags, or takes blocks back."""

    block_s: float = 1.0
    away_every_s: float = 0.0
    away_s: tuple[float, float] = (2.0, 10.0)
    lost: float = 0.0
    """Share of submissions that get lost anyway."""
    lag_blocks: int = 0
    """A peer's node lags up to so many blocks behind, another number at every look."""
    reorg_every_s: float = 0.0
    """Mean time between reorgs, 0 for none."""
    reorg_blocks: tuple[int, int] = (1, 6)
    reorg_lost: float = 0.2
    """Share of the members' transactions, and of others, that come back late after a reorg."""
    fork_seen_s: float = 3.0
    """Within which time all nodes see the fork that won."""

    @property
    def depth(self) -> int:
        """How many blocks that somebody saw may be hidden from a peer: what a recipe's finality should cover."""
        return self.lag_blocks + (self.reorg_blocks[1] if self.reorg_every_s else 0)


@dataclass(frozen=True)
class Churn:
    """Who comes, goes and changes keys while there are faults (joining goes on after them)."""

    joiners: int = 0
    """Honest members that join one after the other."""
    join_every_s: float = 6.0
    from_snapshot: float = 0.7
    """Share of joiners that begin from the newest head; the others from the run's beginning."""
    lying_joiners: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    """Members without a process: kinds of ``guests.GUESTS``."""
    leave_every_s: float = 0.0
    """Mean time between honest members' leaving; half of them come back later."""
    rotate_every_s: float = 0.0
    """Mean time between an honest member's taking another key."""


@dataclass(frozen=True)
class Loss:
    """This share of the seats dies for good, at this time: honest ones."""

    at_s: float
    share: float


@dataclass(frozen=True)
class Scenario:
    """One kind of network. Faults happen for ``faults_s``; then ``rounds_after`` more rounds must close in time."""

    name: str
    peers: int = 4
    liars: tuple[str, ...] = ()
    """The behaviour of each Byzantine member, by its name in ``liars.LIARS``; "any" draws one."""
    limits: Limits = field(default_factory=Limits)
    min_updates: int = 1
    staleness: int = 0
    """S: how many rounds late an update may be listed."""
    quorum: int = 0
    """With so many updates held a round may close; 0: those of all trainers."""
    fragments: int = 1
    overlap: int = 0
    """Inner steps that may be taken before the head that they start from is known."""
    timing: Timing = TIMING
    train_s: tuple[float, float] = (0.5, 3.0)
    slow_peers: int = 0
    slow_factor: float = 5.0
    """How many times longer a slow peer trains, and its packets travel."""
    links: Links = field(default_factory=Links)
    crashes: Crashes = field(default_factory=Crashes)
    ledger: LedgerFaults = field(default_factory=LedgerFaults)
    churn: Churn = field(default_factory=Churn)
    losses: tuple[Loss, ...] = ()
    blob_failures: float = 0.0
    """Chance that a holder does not serve a blob when asked."""
    inline_blobs: bool = True
    """Whether ciphertexts ride with their announcements."""
    faults_s: float = 25.0
    rounds: int = 3
    rounds_after: int = 2
    may_call_roll: bool = False
    """Whether a roll call may close: where nobody is lost none should."""

    @property
    def close_within_s(self) -> float:
        """The bound on a round without faults: wait, settle, some attempts of the longest kind, submit."""
        timing = self.timing
        liars = len(self.liars) + len(self.churn.lying_joiners)
        attempts = (liars + 3) * timing.attempt_s(64)
        wait = timing.hard_s + timing.settle_s + self.train_s[1] * self.slow_factor
        people = self.peers + self.churn.joiners
        return wait + attempts + (people + 2) * timing.d0_s + 4 * self.ledger.block_s

    @property
    def is_calm_about_members(self) -> bool:
        """Whether all peers have the same view of who takes part at all times."""
        return self.churn == Churn() and self.ledger.reorg_every_s == 0

"""What a simulated network is like, and what goes wrong in it. Durations are in (virtual) seconds."""

from dataclasses import dataclass, field

from distrai.peer.identity import Timing

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


@dataclass(frozen=True)
class Crashes:
    """How often an honest peer dies, and for how long. What it has not persisted is lost; its disk stays."""

    every_s: float = 0.0
    """Mean time between the deaths of one peer at any moment, 0 for none."""
    per_effect: float = 0.0
    """Chance to die right before an effect is carried out."""
    together_every_s: float = 0.0
    """Mean time between deaths of all peers at once (a power cut), 0 for none."""
    down_s: tuple[float, float] = (0.2, 8.0)
    log_lost: float = 0.0
    """Chance that a crash of one certain peer damages its log: it begins anew, silent until the next head."""


@dataclass(frozen=True)
class LedgerFaults:
    """When the ledger cannot be reached; it loses what was sent to it meanwhile, and nothing that it took."""

    block_s: float = 1.0
    away_every_s: float = 0.0
    away_s: tuple[float, float] = (2.0, 10.0)
    lost: float = 0.0
    """Share of submissions that get lost anyway."""


@dataclass(frozen=True)
class Scenario:
    """One kind of network. Faults happen for ``faults_s``; then ``rounds_after`` more rounds must close in time."""

    name: str
    peers: int = 4
    liars: tuple[str, ...] = ()
    """The behaviour of each Byzantine member, by its name in ``liars.LIARS``."""
    min_seats: int = 1
    min_updates: int = 1
    timing: Timing = TIMING
    train_s: tuple[float, float] = (0.5, 3.0)
    slow_peers: int = 0
    slow_factor: float = 5.0
    """How many times longer a slow peer trains, and its packets travel."""
    links: Links = field(default_factory=Links)
    crashes: Crashes = field(default_factory=Crashes)
    ledger: LedgerFaults = field(default_factory=LedgerFaults)
    blob_failures: float = 0.0
    """Chance that a holder does not serve a blob when asked."""
    inline_blobs: bool = True
    """Whether ciphertexts ride with their announcements."""
    faults_s: float = 25.0
    rounds: int = 3
    rounds_after: int = 2

    @property
    def close_within_s(self) -> float:
        """The bound on a round without faults: wait, settle, some attempts of the longest kind, submit."""
        timing = self.timing
        attempts = (len(self.liars) + 3) * timing.attempt_s(64)
        wait = timing.hard_s + timing.settle_s + self.train_s[1] * self.slow_factor
        return wait + attempts + (self.peers + 2) * timing.d0_s + 4 * self.ledger.block_s

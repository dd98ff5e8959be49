"""What a simulated run came to."""

from collections import Counter
from dataclasses import dataclass, field

from distrai.protocol.primitives import Hash


@dataclass
class Report:
    """Figures of one run, and every rule that it saw broken: none, if all is well."""

    scenario: str
    seed: int
    rounds: int = 0
    empty_rounds: int = 0
    state_roots: dict[str, tuple[Hash, ...]] = field(default_factory=dict)
    """By honest peer: the state root after each round that it took."""
    listed: list[int] = field(default_factory=list)
    """Updates in each certified list."""
    violations: list[str] = field(default_factory=list)
    events: int = 0
    messages: int = 0
    """Envelopes sent, relays included."""
    proposals: int = 0
    crashes: int = 0
    reorgs: int = 0
    reverted: int = 0
    """How often a peer went back to an earlier head."""
    roll_calls: int = 0
    too_deep: int = 0
    """How often a reorg led further back than what a peer keeps: it joined again from a snapshot."""
    snapshots: int = 0
    """How often a peer began from a snapshot."""
    promoted: int = 0
    dropped: int = 0
    """Seats that certificates gave and took."""
    stopped: bool = False
    """Fewer seats were left than a roll call needs: the run is over, as it should be."""
    captured: bool = False
    """Liars had two thirds of the seats, of which they had more than a third before: the run ends there."""
    virtual_s: float = 0.0
    round_s: list[float] = field(default_factory=list)
    """Virtual seconds that each round took."""
    faults: int = 0
    """Reports to the ledger of two Updates for one place, by all honest peers together."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals by honest peers, by rule."""
    largest: Counter[str] = field(default_factory=Counter)
    """The most that honest peers had in each queue."""

    @property
    def replay(self) -> str:
        """The command that runs this again."""
        return f"python -m distrai.simulation {self.scenario} {self.seed}"

    def broke(self, rule: str) -> None:
        """Note that a rule was broken."""
        if len(self.violations) < 20:
            self.violations.append(rule)

    def __str__(self) -> str:
        seconds = sum(self.round_s) / len(self.round_s) if self.round_s else 0.0
        head = (
            f"{self.scenario} seed {self.seed}: {self.rounds} rounds ({self.empty_rounds} empty, "
            f"{self.roll_calls} roll calls), {seconds:.1f} virtual s a round, {self.events} events, "
            f"{self.messages} messages, {self.proposals} proposals, {self.crashes} crashes, {self.reorgs} reorgs, "
            f"{self.snapshots} snapshots, {self.promoted} promoted, {self.dropped} dropped"
            + (", stopped" if self.stopped else "")
            + (", captured" if self.captured else "")
        )
        broken = [f"  BROKEN {rule}" for rule in self.violations]
        return "\n".join([head, *broken, *([f"  replay: {self.replay}"] if broken else [])])

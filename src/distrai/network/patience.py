"""How long and how often a fetch tries."""

from dataclasses import dataclass

from distrai.network.acquaintances import AskingLimits
from distrai.network.schedule import ScheduleLimits


@dataclass(frozen=True)
class Patience:
    """How long and how often a fetch tries. Deadlines of single requests belong to the engine."""

    in_flight: int = 3
    """Requests to one holder at a time, over all fetches."""
    at_once: int = 24
    """Requests for chunks at a time, over all holders and fetches: each takes memory for a chunk or two."""
    failures_max: int = 6
    """Failures in a row after which a holder is dropped."""
    hedge_s: float = 0.5
    """How long one holder has to name the manifest before the next is asked as well."""
    duplicate_after_s: float = 2.0
    """How old a request is when an idle holder is asked for the same chunk."""
    refresh_s: float = 0.25
    """How often a holder of a part is asked what it has by now; also the pause after a failure."""
    refresh_max_s: float = 4.0
    """How often a holder of nothing at all is asked at last."""
    give_up_s: float = 60.0
    """How long nothing may arrive from anybody before holders of nothing new are given up."""

    @property
    def asking(self) -> AskingLimits:
        """What of this holds for all fetches together."""
        return AskingLimits(self.in_flight, self.at_once, self.duplicate_after_s)

    @property
    def schedule(self) -> ScheduleLimits:
        """What of this is for choosing chunks."""
        return ScheduleLimits(self.failures_max, self.duplicate_after_s, self.refresh_s)

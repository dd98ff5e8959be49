"""What taking part in a run may bring: arithmetic on what its last rounds showed.

    pay of a verified round  = the mean of min(tokens x price / 1,000,000, cap) over the updates that were accepted
    acceptance rate          = accepted updates / members that took part, over the non-empty rounds
    per round                = acceptance rate x pay of a verified round
    per hour                 = per round x non-empty rounds per hour, at most one in min_round_seconds

The price is fixed, so how many others take part changes nothing. Exact fractions; whole base units where one looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from distrai.protocol.primitives import MemberId
from distrai.protocol.rewards import MILLION, RewardTerms

HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class SeenRound:
    """A round that is over: who took part (``trainers``), and the tokens that were accepted of each.

    ``tokens`` is None where the round's list is not known, and nobody's in an empty round; ``time`` is ledger time.
    """

    round: int
    trainers: int
    time: int
    tokens: Mapping[MemberId, int] | None
    empty: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a member may expect, in base units; None is not known.

    ``assumed``: no list of a round was at hand, so every update of ``tokens`` tokens counts as accepted. ``tokens`` is
    the mean of what was accepted of a member in a round.
    """

    peers: int
    rounds: int
    listed: int
    tokens: Fraction
    pay: Fraction
    acceptance: Fraction
    worked_per_hour: Fraction | None
    assumed: bool

    @property
    def per_round(self) -> Fraction:
        """Expected from a non-empty round."""
        return self.acceptance * self.pay

    @property
    def per_hour(self) -> Fraction | None:
        """Expected from an hour."""
        return None if self.worked_per_hour is None else self.per_round * self.worked_per_hour

    @property
    def per_day(self) -> Fraction | None:
        """Expected from a day."""
        return None if self.per_hour is None else self.per_hour * (DAY // HOUR)


def estimate(terms: RewardTerms, rounds: Sequence[SeenRound], peers: int, round_tokens: int) -> Estimate:
    """What may be expected from what ``rounds`` (in order, the newest last) showed.

    ``round_tokens``: what a member that does all inner steps of a round has accepted, for where no list is known.
    """
    worked = [item for item in rounds if not item.empty]
    lists = [(item.trainers, item.tokens) for item in worked if item.tokens is not None]
    accepted = [count for _, tokens in lists for count in tokens.values()]
    offered = sum(max(trainers, len(tokens)) for trainers, tokens in lists)
    assumed = not accepted
    counts = [round_tokens] if assumed else accepted
    pays = [min(Fraction(count * terms.price, MILLION), Fraction(terms.cap)) for count in counts]
    return Estimate(
        peers=peers,
        rounds=len(rounds),
        listed=len(lists),
        tokens=Fraction(sum(counts), len(counts)),
        pay=sum(pays, Fraction()) / len(pays),
        acceptance=Fraction(1) if assumed else Fraction(len(accepted), offered),
        worked_per_hour=_pace(rounds, terms.min_round_seconds),
        assumed=assumed,
    )


def _pace(rounds: Sequence[SeenRound], least_s: int) -> Fraction | None:
    """Non-empty rounds in an hour, of those that are paid; None where the rounds show no time."""
    if len(rounds) < 2:
        return None
    seconds = rounds[-1].time - rounds[0].time
    worked = sum(not item.empty for item in rounds[1:])
    most = Fraction(HOUR, least_s)
    return most if seconds <= 0 else min(Fraction(worked * HOUR, seconds), most)

"""What a file for ``distrai compare`` may say: one frozen dataclass for every table of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from distrai.protocol.recipe.reading import INTEGER_MAX, Length, Range
from distrai.protocol.recipe.sections import OptionalText, Positive, Rate, Samples, Text

Name = Annotated[str, Length(1, 64)]
Seed = Annotated[int, Range(0, INTEGER_MAX)]
Peer = Annotated[int, Range(0, 63)]
Rates = Annotated[tuple[Rate, ...], Length(1, 16)]
NoOrMoreRates = Annotated[tuple[Rate, ...], Length(0, 16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSection:
    """How learning rates are chosen: on the tuning split, in shorter runs, with a seed of their own."""

    share: Annotated[float, Range(0, 1, open_low=True)] = 1 / 3
    """Length of such a run as a share of the whole one."""
    seed: Seed = 101
    inner: NoOrMoreRates = (3e-3, 6e-3, 1.2e-2)
    """Inner rates to begin with, ascending; none: the recipe's own is taken as it is."""
    outer: NoOrMoreRates = (0.7, 1.0, 1.4)
    """Outer rates to begin with, ascending, as multiples of the arm's own; none: its own is taken as it is."""
    extend: Annotated[int, Range(0, 12)] = 4
    """How many rungs a ladder may grow at either end while its outermost rung is the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSweepSection:
    """What of the sweep is different for an arm; None is "as for all"."""

    inner: NoOrMoreRates | None = None
    outer: NoOrMoreRates | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceSection:
    """A peer (from 0) that takes part only in some rounds."""

    peer: Peer
    every: Annotated[int, Range(1, 1_000_000)] = 1
    """It takes part in one round of so many; 2 is every other round."""
    start: Annotated[int, Range(1, (1 << 32) - 1)] = 1
    """Its first round: it joins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSection:
    """One of the things to compare: a preset, and what is different from it."""

    name: Name
    preset: Text
    algorithm: Mapping[str, object] = field(default_factory=dict)
    """Keys of a recipe's ``[algorithm]``."""
    training: Mapping[str, object] = field(default_factory=dict)
    """Keys of a recipe's ``[training]``."""
    sweep: ArmSweepSection = ArmSweepSection()
    rates_of: Annotated[str, Length(0, 64)] = ""
    """The arm whose learning rates are taken over instead of a sweep."""
    speeds: Annotated[tuple[Annotated[float, Range(0, 1e6, open_low=True)], ...], Length(0, 64)] = ()
    """Relative time of a step of each peer; none: all are alike."""
    absent: Annotated[tuple[AbsenceSection, ...], Length(0, 64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSection:
    """A kind of link, for the simulated wall time: every peer has one."""

    name: Name
    up_mbit: Annotated[float, Range(0, 1e9, open_low=True)]
    down_mbit: Annotated[float, Range(0, 1e9, open_low=True)]
    latency_ms: Annotated[float, Range(0, 1e6)] = 0.0
    """One way."""
    step_s: Annotated[float, Range(0, 1e6)] = 0.0
    """Seconds of an inner step; 0: as long as it took here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookingSection:
    """How many samples are looked at."""

    curve_points: Annotated[int, Range(1, 1000)] = 12
    """Points of the curve of a run."""
    curve_samples: Samples = 256
    """Of the tuning split, at each of them."""
    tuning_samples: Samples = 2048
    """At the end of a run that chooses a rate."""
    held_out_samples: Samples = 1 << 20
    """Once, at the end of a run: all there are, if there are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRecipe:
    """The whole file. ``model``, ``data`` and ``training`` change those of the recipe ``base``, key by key."""

    name: Name
    tokens: Positive
    """What all peers of an arm train on together; the same for every arm."""
    arms: Annotated[tuple[ArmSection, ...], Length(1, 256)]
    base: OptionalText = ""
    """A recipe for ``distrai run``, relative to this file."""
    peers: Annotated[int, Range(1, 64)] = 4
    seeds: Annotated[tuple[Seed, ...], Length(1, 64)] = (1,)
    model: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    sweep: SweepSection = SweepSection()
    evaluation: LookingSection = LookingSection()
    links: Annotated[tuple[LinkSection, ...], Length(0, 16)] = ()

"""The figures that are aimed for: data for ``bench_check.py``. A new benchmark adds its lines here and nowhere else.

A place in a report is a path of keys and positions with ``/`` between them; ``[key=value]`` picks the entry of a list
that has this value: ``cells/[peers=4]/wall_s_median``. With ``*`` every entry is looked at, and the worst one counts.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """One figure in the newest report of a benchmark, and what it should be."""

    benchmark: str
    """Reports are ``benchmarks/results/<benchmark>_<machine>_<date>.json``."""
    says: str
    """What is measured, for people."""
    at: str
    """Where the figure stands in the report."""
    wanted: Literal["at most", "at least"]
    bound: float
    unit: str = ""
    over: str | None = None
    """Where it stands what the figure is divided by, if it is a ratio of two."""
    inverse: bool = False
    """The figure is shown as ``1/N``."""


def _excess(arm: str, reference: str) -> str:
    return f"arms/[arm={arm}]/excess_over_{reference}_percent/mean"


def _exchange(says: str, setting: str, engine: str, plain: str) -> Target:
    """Our transport's share of what the links allow, over the plain script's in the same run."""
    at, over = (f"summary/{setting}/{name}/ratio" for name in (engine, plain))
    return Target("exchange", says, at, "at least", 1.0, over=over)


def _gas(says: str, action: str, bound: int) -> Target:
    """What an action on the ledger may cost."""
    return Target("ledger_costs", says, f"gas/{action}", "at most", bound, "gas")


def _distilled(says: str, at: str, bound: float) -> Target:
    return Target("distillation", says, at, "at least", bound)


def _slow_uplink(engine: str) -> Target:
    at, over = (f"summary/one slow uplink, 16 MB/{name}/wall_s" for name in (engine, "store"))
    return Target(
        "exchange", f"one slow uplink: time of {engine} over the store's", at, "at most", 1.2, over=over
    )


def _utilised(says: str, at: str, wanted: Literal["at most", "at least"], bound: float) -> Target:
    return Target("utilisation", f"utilisation: {says}", f"settings/[inner_steps=200]/{at}", wanted, bound)


TARGETS = (
    Target(
        "loss_against_payload",
        "sparseloco 1/16: loss above ddp's",
        _excess("sparseloco-16th", "ddp"),
        "at most",
        7.0,
        "%",
    ),
    Target(
        "loss_against_payload", "diloco: loss above ddp's", _excess("diloco", "ddp"), "at most", 10.0, "%"
    ),
    Target(
        "loss_against_payload", "prime: loss above diloco's", _excess("prime", "diloco"), "at most", 1.0, "%"
    ),
    Target(
        "codec_throughput",
        "int8 encode, of a memory copy's speed",
        "wall/of_copy/int8 encode/median",
        "at least",
        1 / 25,
        inverse=True,
    ),
    Target(
        "codec_throughput",
        "int8 decode, of a memory copy's speed",
        "wall/of_copy/int8 decode/median",
        "at least",
        1 / 12,
        inverse=True,
    ),
    Target("round_overhead", "round overhead, 4 peers", "cells/[peers=4]/wall_s_median", "at most", 1.0, "s"),
    Target(
        "round_overhead", "round overhead, 16 peers", "cells/[peers=16]/wall_s_median", "at most", 5.0, "s"
    ),
    _exchange("64 MiB from each to all: http over plain TCP", "all-to-all, 64 MiB", "http", "tcp"),
    _exchange("8 MiB from each to all: http over plain TCP", "all-to-all, 8 MiB", "http", "tcp"),
    _exchange("64 MiB to one peer: http over plain TCP", "one blob to one peer, 64 MiB", "http", "tcp"),
    _slow_uplink("http"),
    Target("join", "growth of seal-to-certificate during a join", "cells/*/growth_during", "at most", 1.5),
    Target("join", "rounds from snapshot to certificate", "cells/*/rounds_to_join", "at most", 3),
    _utilised("fp32 diloco in step with its link", "arms/[arm=diloco]/utilisation/mean", "at most", 0.6),
    _utilised("best preset on that link, same model and H", "best/utilisation", "at least", 0.9),
    Target(
        "utilisation",
        "utilisation: best preset on that link, any H",
        "best_of_any_inner_steps/utilisation",
        "at least",
        0.97,
    ),
    Target("together_lora", "LoRA by 4 peers: loss over one machine's", "lora/over_best", "at most", 1.05),
    _distilled("teacher's parameters over the student's", "teacher_over_student/parameters", 4),
    _distilled("teacher's tokens over the student's", "teacher_over_student/tokens", 5),
    _distilled("paired seeds", "seeds", 3),
    Target("simulation", "seeds that broke a rule", "total/violations", "at most", 0),
    Target("simulation", "seeds", "total/seeds", "at least", 3000),
    _gas("a certificate, 43 of 64", "certify, 43 of 64", 340_000),
    _gas("a certificate, 3 of 4", "certify, 3 of 4", 60_000),
    _gas("a first claim among 1,000", "claim, first", 83_000),
    _gas("a claim again among 1,000", "claim, again", 66_000),
    _gas("report an equivocation", "slash, once there were others", 95_000),
    _gas("a training record", "open a record", 176_000),
)

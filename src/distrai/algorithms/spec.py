"""The axes that an algorithm is made of: what a preset sets and a recipe may change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

TOPOLOGIES = ("all", "pairs")
OUTER_SCHEDULES = ("constant", "training")
INNER_OPTIMISERS = ("adamw", "muon", "sgd")
INNER_STATES = ("kept", "reset", "averaged", "public")
PACES = ("fixed", "measured")
STARTS = ("global", "replica")
INNER_STEPS_MAX = 1_000_000
STALENESS_MAX = 7
QUORUM_MAX = 64
FRAGMENTS_MAX = 1024
OUTER_DELAY_MAX = 64
CHECKS = 2
"""The newest version of the checks: 2 cuts moments down to the others' before they are averaged, 1 did not."""


@dataclass(frozen=True)
class AlgorithmSpec:
    """A preset with a recipe's changes applied; `resolve_preset` makes valid ones."""

    preset: str
    codec: str
    codec_options: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    error_feedback: float = 0.0
    """Decay of the error-feedback buffer; 0 is off."""
    aggregate: str = "token-weighted-mean"
    topology: str = "all"
    """Whose updates meet: everybody's ("all"), or those of two members drawn for the round ("pairs")."""
    outer: str = "sgd"
    outer_lr: float = 1.0
    outer_momentum: float = 0.0
    outer_schedule: str = "constant"
    """Whether the outer rate stays ("constant") or follows the learning rate of the training ("training")."""
    outer_weight_decay: float = 0.0
    """Of matrices, times the outer rate, before the outer step."""
    outer_delay: int = 1
    """Rounds from one update of the momentum to the next (delayed Nesterov)."""
    inner_optimiser: str = "adamw"
    inner_state: str = "averaged"
    """What a peer's inner optimiser starts a round with: its own moments, none, everyone's average, or what
    public sparse bytes tell.
    """
    inner_steps: int = 100
    """H: inner steps of a round."""
    pace: str = "fixed"
    """Whether everybody takes H steps ("fixed"), or slower peers fewer by their measured speed ("measured")."""
    start: str = "global"
    """Where a round starts: from the certified state ("global"), or from the peer's own parameters, into which
    what was synchronised is merged ("replica").
    """
    fragments: int = 1
    """Parts of the model that are synchronised in turn, one a round."""
    overlap: int = 0
    """tau: inner steps of a round that run before the round before it has to be certified."""
    merge_alpha: float = 0.0
    """Weight of the own parameters when a synchronised fragment is merged into a replica."""
    staleness: int = 0
    """Rounds by which the state that an update started from may be older than its certificate's."""
    quorum: int = 0
    """Updates that are enough to close a round before its deadline; 0: everybody's."""
    checks: int = CHECKS
    """Version of the rules by which what members send is cut down or refused."""
    network: bool = True
    """False for baselines that exist only inside one process."""

    @property
    def global_state(self) -> bool:
        """One state for all after every round."""
        return self.topology == "all"

    @property
    def public_start(self) -> bool:
        """Whether every round's start (parameters and moments) can be computed from public bytes, as audits
        need.
        """
        return self.inner_state != "kept" and self.start == "global" and self.global_state


_OWN = frozenset({"preset", "network", "checks"})
KEYS = tuple(f.name for f in fields(AlgorithmSpec) if f.name not in _OWN)
"""What a recipe may change."""
_PLAIN: Mapping[Any, type] = {str: str, int: int, float: float}
_KINDS = {f.name: _PLAIN.get(f.type, Mapping) for f in fields(AlgorithmSpec)}
_NAMES = {Mapping: "table", int: "whole number", float: "number", str: "string"}


def typed(key: str, value: Any) -> Any:
    """The value as the type of this key; an int is good enough for a float, a bool for neither.

    Raises ValueError, naming the key.
    """
    kind = _KINDS[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key}: {value!r} is not a {_NAMES[kind]}")
    return value

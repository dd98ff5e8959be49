"""The arms of the utilisation benchmark, and the recipe of one: the quickstart's model and data, other rounds."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common import ROOT

RECIPE = ROOT / "recipes" / "quickstart.toml"
PLAIN = "diloco"
"""The arm whose utilisation on the link is to be below ``PLAIN_MOST``."""
PLAIN_MOST, PLAIN_AIM = 0.6, 0.5


@dataclass(frozen=True)
class Arm:
    """Settings of ``[algorithm]``; ``tau`` is the overlap as a share of H, cut down to H-10 at most."""

    name: str
    preset: str
    tau: float = 0.0
    keys: Mapping[str, Any] = field(default_factory=dict)

    def algorithm(self, inner_steps: int) -> dict[str, Any]:
        """The table of the recipe."""
        table: dict[str, Any] = {"preset": self.preset, "inner_steps": inner_steps, **self.keys}
        if self.tau or self.preset == "streaming-diloco":  # the others have none
            table["overlap"] = min(round(self.tau * inner_steps), inner_steps - 10)
        return table


KEPT, AVERAGED = {"inner_state": "kept"}, {"inner_state": "averaged"}
ARMS = (
    Arm(PLAIN, "diloco", keys=KEPT),
    Arm("diloco-overlap", "diloco", 1.0, KEPT),
    Arm("prime", "prime", keys=KEPT),
    Arm("prime-overlap", "prime", 0.5, KEPT),
    Arm("prime-averaged-overlap", "prime", 1.0, AVERAGED),
    Arm("streaming-diloco", "streaming-diloco", 0.25, {"fragments": 2, "merge_alpha": 0.5}),
    Arm("sparseloco", "sparseloco"),
    Arm("sparseloco-overlap", "sparseloco", 0.25),
)
"""The rule for tau: as long as the transfer may take, with room for the certificate."""


def recipe(arm: Arm, inner_steps: int, batch: int, peers: int, rounds: int) -> dict[str, Any]:
    """The recipe of an arm as plain data.

    Deadlines are long, so that every update counts however slow the link is; a held-out loss costs next to nothing.
    """
    made = tomllib.loads(RECIPE.read_text())
    return made | {
        "name": f"utilisation-{arm.name}",
        "algorithm": arm.algorithm(inner_steps),
        "training": made["training"] | {"batch": batch},
        "rounds": made["rounds"] | {"count": rounds, "cut_s": 200.0, "hard_s": 300.0, "stall_seconds": 600},
        "membership": made["membership"] | {"peers": peers},
        "limits": {"norm_ceiling": 10_000.0},
        "evaluation": {"samples_round": 1, "samples_final": 1},
    }

"""What is trained in the benchmark of loss against payload: the model, the arms, and single runs of them."""

from dataclasses import dataclass, field
from typing import Any

from distrai.algorithms.presets import PRESETS, AlgorithmSpec, resolve_preset
from distrai.training.data.documents import Split
from distrai.training.spec import InnerSpec

PEERS = 4
CONTEXT = 64
BATCH = 4
HIDDEN, HEADS = 64, 4
CONFIG: dict[str, object] = {
    "model_type": "granite",
    "vocab_size": 256,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "embedding_multiplier": HIDDEN**0.5,
    "attention_multiplier": (HIDDEN / HEADS) ** -0.5,
    "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
    "initializer_range": 0.1,
}


@dataclass(frozen=True)
class Arm:
    """A method with its settings; the two learning rates are swept."""

    name: str
    preset: str
    inner_steps: int
    """H. For ``ddp`` only the unit in which progress is told: gradients are averaged at every step."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What differs from the preset."""

    @property
    def outer_lr(self) -> float:
        """The preset's outer learning rate, where its sweep starts."""
        return PRESETS[self.preset].outer_lr

    def spec(self, outer_lr: float) -> AlgorithmSpec:
        """The preset, resolved."""
        if self.preset == "ddp":
            return resolve_preset("ddp", {})
        return resolve_preset(
            self.preset, {"inner_steps": self.inner_steps, "outer_lr": outer_lr, **self.changes}
        )


@dataclass(frozen=True)
class Cell:
    """One training run: an arm, its learning rates, a seed and a length."""

    arm: Arm
    lr: float
    outer_lr: float
    seed: int
    steps: int
    """Optimiser steps of a peer, rounded up to whole rounds."""
    split: Split
    """What the end of the run is measured on."""

    @property
    def name(self) -> str:
        """Names the cell's file."""
        outer = "" if self.arm.preset == "ddp" else f"_outer{self.outer_lr:g}"
        return f"{self.split}_{self.arm.name}_lr{self.lr:g}{outer}_steps{self.steps}_seed{self.seed}"

    @property
    def rounds(self) -> int:
        """Rounds of H steps."""
        return -(-self.steps // self.arm.inner_steps)

    def inner_spec(self, inner_state: str) -> InnerSpec:
        """How every peer trains."""
        return InnerSpec(
            rounds=self.rounds,
            inner_steps=self.arm.inner_steps,
            batch=BATCH,
            context=CONTEXT,
            lr=self.lr,
            precision="fp32",
            inner_state=inner_state,  # type: ignore[arg-type]  # resolve_preset has checked it
        )

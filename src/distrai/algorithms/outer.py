"""The outer optimiser: one step of SGD or Nesterov with the aggregated pseudo-gradient, as `torch.optim.SGD`,
unfused.

b <- momentum * b + g        (first b = g: b starts at 0, which is the same)
SGD:      theta <- theta - lr * b        (without momentum: theta - lr * g)
Nesterov: theta <- theta - lr * (g + momentum * b)
"""

from dataclasses import dataclass

from torch import Tensor

from distrai.algorithms import arithmetic

KINDS = ("sgd", "nesterov")


@dataclass(frozen=True)
class Outer:
    """kind is one of KINDS; lr > 0; 0 <= momentum < 1, above 0 for Nesterov."""

    kind: str
    lr: float
    momentum: float

    @property
    def keeps_momentum(self) -> bool:
        """Whether there is a buffer b to keep between rounds."""
        return self.momentum > 0

    def step(self, theta: Tensor, g: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The next theta and b (None without momentum). Changes none of its arguments."""
        direction = g
        if b is not None:
            mu = arithmetic.scalar(self.momentum, theta)
            b = arithmetic.positive_zero(mu * b + g)
            direction = g + mu * b if self.kind == "nesterov" else b
        return arithmetic.positive_zero(theta - arithmetic.scalar(self.lr, theta) * direction), b

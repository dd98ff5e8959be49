"""The outer optimiser: one step with the aggregated pseudo-gradient g, as `torch.optim.SGD` does it, unfused.

Matrices (two dimensions or more) decay first: theta <- (1 - lr * weight_decay) * theta. Then

- sgd: b <- mu * b + g; theta <- theta - lr * b        (without momentum: theta - lr * g)
- nesterov: b <- mu * b + g; theta <- theta - lr * (g + mu * b)
- sign: theta <- theta - lr * sign(g), where sign(0) = 0
- delayed-nesterov (arXiv:2401.09135, momentum activation 0), N = `delay` rounds: sum <- sum + g and
  theta <- theta - lr * g / N; in every N-th round also b <- mu * b + sum / N, theta <- theta - lr * mu * b,
  and the sum starts again at 0

Buffers start at 0, which is the same as b = g first. noloco's step is in `noloco`: it has no common state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distrai.algorithms import arithmetic

KINDS = ("sgd", "nesterov", "sign", "delayed-nesterov", "noloco")
WITH_MOMENTUM = ("nesterov", "delayed-nesterov", "noloco")
"""Those that are another kind without one."""
Buffers = tuple[Tensor, ...]


@dataclass(frozen=True)
class Outer:
    """kind is one of KINDS; lr > 0; 0 <= momentum < 1, above 0 for Nesterov's kinds."""

    kind: str
    lr: float
    momentum: float
    weight_decay: float = 0.0
    delay: int = 1

    @property
    def buffers(self) -> int:
        """How many tensors it keeps between rounds for each tensor of parameters."""
        if self.kind == "delayed-nesterov":
            return 2
        return int(self.momentum > 0 and self.kind in ("sgd", "nesterov"))

    def step(
        self,
        theta: Tensor,
        g: Tensor,
        buffers: Buffers,
        *,
        rate: float = 1.0,
        turn: int = 0,
        matrix: bool = True,
    ) -> tuple[Tensor, Buffers]:
        """The next theta and buffers. Changes none of its arguments.

        `rate` multiplies lr; `turn` counts how often these tensors were synchronised before; `matrix` says
        whether they decay.
        """
        lr = self.lr * rate
        if matrix and self.weight_decay:
            theta = theta * arithmetic.scalar(1.0 - lr * self.weight_decay, theta)
        direction, buffers = self._direction(g, buffers, turn)
        return arithmetic.positive_zero(theta - arithmetic.scalar(lr, theta) * direction), buffers

    def _direction(self, g: Tensor, buffers: Buffers, turn: int) -> tuple[Tensor, Buffers]:
        if self.kind == "noloco":
            raise ValueError('outer "noloco" has no step of a state in common; see `noloco`')
        if self.kind == "sign":
            return torch.sign(g), ()
        if self.kind == "delayed-nesterov":
            return self._delayed(g, buffers, turn)
        if not buffers:
            return g, ()
        mu = arithmetic.scalar(self.momentum, g)
        b = arithmetic.positive_zero(mu * buffers[0] + g)
        return g + mu * b if self.kind == "nesterov" else b, (b,)

    def _delayed(self, g: Tensor, buffers: Buffers, turn: int) -> tuple[Tensor, Buffers]:
        b, total = buffers
        rounds, mu = arithmetic.scalar(float(self.delay), g), arithmetic.scalar(self.momentum, g)
        total = arithmetic.positive_zero(total + g)
        if (turn + 1) % self.delay:
            return g / rounds, (b, total)
        b = arithmetic.positive_zero(mu * b + total / rounds)
        return g / rounds + mu * b, (b, torch.zeros_like(total))

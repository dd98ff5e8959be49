"""NoLoCo (arXiv:2506.10911): no state in common; every round pairs of members, drawn at random, step together.

A member keeps slow weights phi and a momentum delta. After H inner steps that led it to theta, a group of n
members (two of them, as a rule) shares its pseudo-gradients phi - theta and its slow weights:

    delta <- mu * delta - lr * mean(phi - theta) - pull * (phi - mean(phi))
    phi   <- phi + delta

where the means are over the group. The model is the mean of all slow weights. With a group of everybody all
phi stay the same and this is SGD with momentum on the mean pseudo-gradient. Nothing here is certified or
replayed: it lives inside one process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

PULL = 1.0
"""Of 1, which without momentum would let both members of a pair go on from their mean."""


@dataclass(frozen=True)
class Slow:
    """A member's slow weights and momentum, tensor by tensor."""

    params: tuple[Tensor, ...]
    momentum: tuple[Tensor, ...]

    @classmethod
    def initial(cls, params: Sequence[Tensor]) -> "Slow":
        """The weights before the first round, without momentum."""
        copies = tuple(tensor.detach().clone() for tensor in params)
        return cls(copies, tuple(torch.zeros_like(tensor) for tensor in copies))


def pairs(members: int, seed: int, round: int) -> tuple[tuple[int, ...], ...]:
    """Who meets whom in a round: all of 0..members-1 in pairs, drawn by a hash of the seed that all share. Of an
    odd number one stays alone, every time another.
    """
    order = sorted(range(members), key=lambda member: sha256(f"{seed}:{round}:{member}".encode()).digest())
    return tuple(tuple(sorted(order[at : at + 2])) for at in range(0, members, 2))


def step(
    group: Sequence[Slow],
    deltas: Sequence[Sequence[Tensor]],
    *,
    lr: float,
    momentum: float,
    pull: float = PULL,
) -> tuple[Slow, ...]:
    """The next slow weights of the members of one group; `deltas` are their pseudo-gradients (start - local)."""
    gradient = _mean(deltas)
    centre = mean(group)
    return tuple(_moved(member, gradient, centre, lr, momentum, pull) for member in group)


def mean(members: Sequence[Slow]) -> tuple[Tensor, ...]:
    """The model that these members have together."""
    return _mean([member.params for member in members])


def _moved(
    member: Slow,
    gradient: Sequence[Tensor],
    centre: Sequence[Tensor],
    lr: float,
    momentum: float,
    pull: float,
) -> Slow:
    whole = zip(member.params, member.momentum, gradient, centre, strict=True)
    moves = tuple(momentum * b - lr * g - pull * (phi - middle) for phi, b, g, middle in whole)
    return Slow(tuple(phi + move for phi, move in zip(member.params, moves, strict=True)), moves)


def _mean(parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(tensors).mean(dim=0) for tensors in zip(*parts, strict=True))

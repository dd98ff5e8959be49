"""Moments for sparse updates in about .06 bytes per parameter: a round's start that everybody can compute.

What a member publishes: its m as top-k (1/16, 2-bit values, no feedback) and per tensor one number, the mean
of its v. What all make of it:

- m is the weighted mean over those who sent a coordinate, 0 where nobody did (an optimiser restarts the bias
  correction there);
- v follows the squares of the rounds' mean decoded updates u: per tensor, .9 v / mean(v) + .1 u^2 / mean(u^2)
  (only the second term while there is no v, only the first while there is no u, all ones without either),
  times the mean of the members' numbers.

A coordinate that no update touched would have a v near 0, and a step without bound. So v is at least a
sixteenth of the shared number: no coordinate takes more than four times the tensor's usual step.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Octets, Span, as_bytes, as_fp32, flat_tensors, to_bytes
from distrai.algorithms.codecs.gaps import GapTopK
from distrai.algorithms.errors import MomentsOutOfBounds, NonFinitePayload, WrongPayloadSize
from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import (
    M_MAX,
    V_MAX,
    InnerStateCodec,
    MomentCodec,
    Moments,
    believable,
    v_factors,
)
from distrai.algorithms.spec import CHECKS

K = 256
M_OVER_ROOT_V_MAX = 16.0
"""Of m the places are known and of v only the shape of updates: more than between m and v of one member."""
DECAY = 0.9
FLOOR = 2.0**-4
"""Of the shared number: v's square root is at least a quarter of it. Not tuned."""


class PublicMoments:
    """The codec of `inner_state = "public"`. A payload is [mean v of every tensor, fp32] [m as `gaps`]."""

    id: ClassVar[str] = "public-gaps-256-2bit"

    def __init__(self, layout: Layout, checks: int = CHECKS) -> None:
        """All versions of the checks are the same to it."""
        self.layout = layout
        self.codec = GapTopK(layout, k=K, value_bits=2)
        self._numbers = 4 * len(layout.tensors)
        self.payload_size = self._numbers + self.codec.payload_size

    def encode(self, moments: Moments) -> bytes:
        """Raises ValueError for NaN, Inf, a negative v and wrong shapes. What is above the bounds is cut down
        to them.
        """
        ms = [x.clamp(-M_MAX, M_MAX) for x in flat_tensors(self.layout, moments.m, "first moment")]
        vs = flat_tensors(self.layout, moments.v, "second moment")
        if any(bool((v < 0).any().item()) for v in vs):
            raise ValueError("a second moment is negative")
        means = [min(arithmetic.mean(v), V_MAX) for v in vs]
        numbers = torch.tensor(means, dtype=torch.float32, device=vs[0].device)
        shaped = [m.view(spec.shape) for m, spec in zip(ms, self.layout.tensors, strict=True)]
        return to_bytes(as_bytes(numbers)) + self.codec.encode(shaped)

    def check(self, data: Octets) -> None:
        """Raises a `PayloadError` unless `data` (uint8) is a payload of this layout."""
        self._shared(data)
        for span in self.codec.spans:
            self._sent(span, data)

    def decode(self, data: Octets) -> Moments:
        """What one payload (uint8) tells: m, 0 where nothing was sent, and a v that is even in every tensor."""
        numbers = self._shared(data)
        v = tuple(numbers[at].expand(spec.shape).contiguous() for at, spec in enumerate(self.layout.tensors))
        return Moments(self._mean_m([(1, data)]), v)

    def combine(
        self, previous: Moments, weighted: Sequence[tuple[int, Octets]], update: Sequence[Tensor]
    ) -> Moments:
        """The moments in common after a round, see above. `update` is the round's mean decoded update."""
        shared = self._mean_shared(weighted)
        numbers = shared.view(-1, 1).unbind(0)
        v = tuple(_followed(*each) for each in zip(previous.v, update, numbers, strict=True))
        m = zip(self._mean_m(weighted), v, strict=True)
        return Moments(tuple(believable(*each, M_OVER_ROOT_V_MAX) for each in m), v)

    def _mean_shared(self, weighted: Sequence[tuple[int, Octets]]) -> Tensor:
        """The mean of the members' numbers, for every tensor; what is far above the others' is cut down first."""
        told = [self._shared(data).tolist() for _, data in weighted]
        factors = zip(*(v_factors(numbers) for numbers in zip(*told, strict=True)), strict=True)
        total = torch.zeros(len(self.layout.tensors), device=weighted[0][1].device)
        for (weight, data), own in zip(weighted, factors, strict=True):
            scale = torch.tensor(own, dtype=torch.float32, device=total.device)
            total += self._shared(data) * scale * arithmetic.scalar(float(weight), total)
        return total / arithmetic.scalar(float(sum(weight for weight, _ in weighted)), total)

    def _shared(self, data: Octets) -> Tensor:
        """The number of every tensor (fp32)."""
        if data.numel() != self.payload_size:
            raise WrongPayloadSize(f"moments of {data.numel()} bytes; this recipe's are {self.payload_size}")
        numbers = as_fp32(data[: self._numbers])
        if not arithmetic.is_finite(numbers):
            raise NonFinitePayload("a mean of the second moments is NaN or infinite")
        if bool(((numbers < 0) | (numbers > V_MAX)).any().item()):
            raise MomentsOutOfBounds(f"a mean of the second moments is negative or above {V_MAX:g}")
        return arithmetic.positive_zero(numbers)

    def _sent(self, span: Span, data: Octets) -> tuple[Tensor, Tensor]:
        """Places in a span, and the values of m there."""
        part = data[self._numbers + span.start : self._numbers + span.stop]
        found = self.codec.decode_span(span.piece, part)
        assert found.where is not None, "top-k names its places"
        if bool((found.values.abs() > M_MAX).any().item()):
            raise MomentsOutOfBounds(f"a first moment is above {M_MAX:g}")
        return found.where, found.values

    def _mean_m(self, weighted: Sequence[tuple[int, Octets]]) -> tuple[Tensor, ...]:
        device = weighted[0][1].device
        means = [torch.zeros(spec.numel, device=device) for spec in self.layout.tensors]
        for span in self.codec.spans:
            total = means[span.piece.tensor][span.piece.start : span.piece.stop]
            weights = torch.zeros_like(total)
            for weight, data in weighted:
                where, values = self._sent(span, data)
                factor = arithmetic.scalar(float(weight), values)
                total[where] = total[where] + values * factor
                weights[where] = weights[where] + factor
            total.copy_(total / torch.where(weights > 0, weights, arithmetic.scalar(1.0, total)))
        shaped = zip(means, self.layout.tensors, strict=True)
        return tuple(arithmetic.positive_zero(mean).view(spec.shape) for mean, spec in shaped)


def _followed(v: Tensor, u: Tensor, shared: Tensor) -> Tensor:
    """The next v of one tensor."""
    before, now = _over_mean(_unit(v)), _over_mean(_squared(_unit(u)))
    if before is not None and now is not None:
        shape = arithmetic.scalar(DECAY, v) * before + arithmetic.scalar(1.0 - DECAY, v) * now
    else:
        found = before if before is not None else now
        shape = found if found is not None else torch.ones_like(v)
    return torch.clamp(torch.maximum(shape, arithmetic.scalar(FLOOR, v)) * shared, max=V_MAX)


def _unit(x: Tensor) -> Tensor:
    """x times the power of two that brings its largest magnitude into 1/2..1: squares neither vanish nor
    overflow.
    """
    return arithmetic.scaled(x, arithmetic.grid_shift(x, 0))


def _squared(x: Tensor) -> Tensor:
    return x * x


def _over_mean(x: Tensor) -> Tensor | None:
    """x / mean(x), or None if all are 0."""
    mean = arithmetic.mean(x)
    return x / arithmetic.scalar(mean, x) if mean else None


INNER_STATE_CODECS: Mapping[str, type[InnerStateCodec]] = {"averaged": MomentCodec, "public": PublicMoments}
"""What the payloads and the state of a recipe with this `inner_state` hold besides updates."""


def build_inner_state_codec(inner_state: str, layout: Layout, checks: int) -> InnerStateCodec | None:
    """The codec of a recipe's `inner_state` for one layout; None where nothing is shared."""
    build = INNER_STATE_CODECS.get(inner_state)
    return build(layout, checks) if build else None

"""The facade: one algorithm of one run. Tensors in, tensors or bytes out; no clock, no randomness, no I/O.

`round` is the number of the round, from 1. A round synchronises one fragment of the model, `fragment_at(round)`
(all of it, if there is only one): its payloads, deltas and outer step are about that fragment's tensors.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from distrai.algorithms import aggregate, arithmetic
from distrai.algorithms import contributions as read
from distrai.algorithms import feedback as ef
from distrai.algorithms.codecs import build_codec
from distrai.algorithms.codecs.base import LazyBytes, check_shapes, flat_tensors, to_uint8
from distrai.algorithms.contributions import Contribution
from distrai.algorithms.errors import NormAboveCeiling, WrongPayloadSize
from distrai.algorithms.fragments import Fragment, bound_to, build_fragments, merged
from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import Moments
from distrai.algorithms.outer import Outer
from distrai.algorithms.public_moments import build_inner_state_codec
from distrai.algorithms.results import Encoded, Entry, StepResult
from distrai.algorithms.spec import AlgorithmSpec
from distrai.algorithms.state import GlobalState, StateFormat

__all__ = ["Algorithm", "Encoded", "Entry", "StepResult"]


def _unscheduled(_round: int) -> float:
    return 1.0


class Algorithm:
    """`spec` for the tensors of `layout`; consensus arithmetic runs on `device` (see
    `selftest.consensus_device`).

    `rate` is what the outer rate of a round is multiplied by where the spec's outer_schedule is "training".
    Raises ValueError if the model has fewer layers than the spec has fragments.
    """

    def __init__(
        self,
        spec: AlgorithmSpec,
        layout: Layout,
        device: torch.device | str = "cpu",
        rate: Callable[[int], float] = _unscheduled,
    ) -> None:
        self.spec = spec
        self.layout = layout
        self.device = torch.device(device)
        self.rate = rate if spec.outer_schedule == "training" else _unscheduled
        self.fragments = build_fragments(
            layout, spec.fragments, lambda part: build_codec(spec.codec, spec.codec_options, part)
        )
        self._bound = lru_cache(maxsize=4)(lambda at: bound_to(self.fragments[(at - 1) % spec.fragments], at))
        self.codec = self.fragments[0].codec
        self.moment_codec = build_inner_state_codec(spec.inner_state, layout, spec.checks)
        self.rule = aggregate.RULES[spec.aggregate]
        self.outer = Outer(
            spec.outer, spec.outer_lr, spec.outer_momentum, spec.outer_weight_decay, spec.outer_delay
        )
        self.format = StateFormat(layout, self.outer.buffers, self.moment_codec is not None)
        parts = f"x{spec.fragments}" if spec.fragments > 1 else ""
        self.codec_id = self.codec.id + (f"+{self.moment_codec.id}" if self.moment_codec else "") + parts
        self.update_size = max(fragment.codec.payload_size for fragment in self.fragments)
        moments = self.moment_codec.payload_size if self.moment_codec else 0
        self.payload_sizes = tuple(fragment.codec.payload_size + moments for fragment in self.fragments)
        self.payload_size = max(self.payload_sizes)
        self.state_size = self.format.size

    # What a round is about

    def fragment_at(self, round: int) -> Fragment:
        """The fragment that a round synchronises, its codec bound to the round."""
        return self._bound(round)

    def payload_size_at(self, round: int) -> int:
        """Bytes of every payload of a round."""
        return self.payload_sizes[(round - 1) % len(self.fragments)]

    def initial_state(self, params: Sequence[Tensor]) -> GlobalState:
        """The state before round 1 (head_0): these parameters, zero buffers and moments. Raises ValueError if
        not finite.
        """
        flats = flat_tensors(self.layout, params, "initial state")
        own = tuple(
            flat.to(self.device).view(spec.shape)
            for flat, spec in zip(flats, self.layout.tensors, strict=True)
        )
        return self.format.initial(own)

    # What a member does

    def delta(self, start: Sequence[Tensor], local: Sequence[Tensor], round: int = 1) -> tuple[Tensor, ...]:
        """The pseudo-gradient of the round's fragment: start - local, tensor by tensor, on the algorithm's
        device. Both hold all tensors of the model.
        """
        part = self.fragment_at(round).part
        pairs = zip(self._own(part(start)), self._own(part(local)), strict=True)
        return tuple(arithmetic.pseudo_gradient(a, b) for a, b in pairs)

    def encode(
        self,
        delta: Sequence[Tensor],
        moments: Moments | None = None,
        feedback: Sequence[Tensor] | None = None,
        round: int = 1,
    ) -> Encoded:
        """The payload of a pseudo-gradient: update bytes, then moments if the recipe shares them (else they are
        ignored).

        `feedback` is what the last round's `Encoded` left, for all tensors of the model; None in a first round
        or if the recipe has none. Raises ValueError for NaN, Inf and wrong shapes.
        """
        fragment, own = self.fragment_at(round), self._own(delta)
        check_shapes(fragment.layout, own, "update")
        if not self.spec.error_feedback:
            return Encoded(fragment.codec.encode(own) + self._encode_moments(moments), None, None)
        held = self._own(feedback) if feedback is not None else self.format.zeros(self.device)
        owed = ef.carry(own, fragment.part(held), self.spec.error_feedback)
        update = fragment.codec.encode(owed)
        left = ef.settle(owed, fragment.codec.decode(to_uint8(update, self.device)), accepted=True)
        payload = update + self._encode_moments(moments)
        return Encoded(payload, fragment.replaced(held, left), fragment.replaced(held, owed))

    def merge(self, local: Sequence[Tensor], state: GlobalState, round: int = 1) -> tuple[Tensor, ...]:
        """The parameters with which a member goes on after a round, all tensors: the state's, or with replicas
        the member's own, into which what the round synchronised is merged.
        """
        if self.spec.start == "global":
            return state.params
        return merged(self.fragment_at(round), self._own(local), state.params, self.spec.merge_alpha)

    # What everybody computes alike

    def check(self, payload: bytes | memoryview, norm_ceiling: float, round: int = 1) -> None:
        """The absolute checks, version 1: size, layout, finite values, bounds of moments, L2 norm of the
        decoded update.

        Raises a subclass of `PayloadError`, one for each rule.
        """
        update, moments = self._halves(payload, round)
        if self.moment_codec:
            self.moment_codec.check(LazyBytes(moments, self.device))
        squared = read.squared_norm(self.fragment_at(round).codec, update, self.device)
        if arithmetic.above_ceiling(squared, norm_ceiling):
            raise NormAboveCeiling(
                f"update of norm {arithmetic.norm(squared):g}; the ceiling is {norm_ceiling:g}"
            )

    def decode(self, payload: bytes | memoryview, round: int = 1) -> tuple[Tensor, ...]:
        """The decoded pseudo-gradient of a payload, for all tensors of the model: 0 outside of the fragment.
        Raises `PayloadError`.
        """
        fragment, (update, _) = self.fragment_at(round), self._halves(payload, round)
        part = fragment.codec.decode(to_uint8(update, self.device))
        return part if len(self.fragments) == 1 else fragment.replaced(self.format.zeros(self.device), part)

    def decode_moments(self, payload: bytes | memoryview, round: int = 1) -> Moments | None:
        """The moments in a payload; None if the recipe shares none. Raises `PayloadError`."""
        _, moments = self._halves(payload, round)
        return self.moment_codec.decode(LazyBytes(moments, self.device)) if self.moment_codec else None

    def update_norm(self, payload: bytes | memoryview, round: int = 1) -> float:
        """L2 norm of the decoded update, to show. Raises `PayloadError`."""
        update, _ = self._halves(payload, round)
        return arithmetic.norm(read.squared_norm(self.fragment_at(round).codec, update, self.device))

    def step(self, state: GlobalState, entries: Sequence[Entry], round: int = 1) -> StepResult:
        """Applies a certified list (in any order; members are taken by id). `state` is left as it is.

        Exact duplicates get weight 0; if no weight is left the state does not change. Raises `PayloadError`
        for an entry that `check` would have refused, ValueError for a repeated member or no tokens.
        """
        halves = [self._halves(entry.payload, round) for entry in entries]
        weights, reasons = self._weights(entries, [update for update, _ in halves])
        order = sorted((i for i, weight in enumerate(weights) if weight), key=lambda i: entries[i].member)
        if not order:
            return StepResult(state, weights, reasons)
        parts = [Contribution(weights[i], halves[i][0], read.damping(entries[i].staleness)) for i in order]
        following, update = self._stepped(state, parts, round)
        if self.moment_codec and state.moments:
            aged = [weights[i] * read.damping_units(entries[i].staleness) for i in order]
            shares = read.without_shared_factor(aged)
            given = [
                (share, LazyBytes(halves[i][1], self.device)) for share, i in zip(shares, order, strict=True)
            ]
            moments = self.moment_codec.combine(state.moments, given, update)
            following = GlobalState(following.params, following.buffers, moments)
        if not all(arithmetic.is_finite(tensor) for tensor in following.tensors()):
            return StepResult(state, (0,) * len(entries), (aggregate.OVERFLOW,) * len(entries))
        return StepResult(following, weights, reasons)

    def predict(self, state: GlobalState, payload: bytes | memoryview, round: int) -> GlobalState:
        """The state after a round that lists nothing but this payload, with full weight: where a member trains
        on while the round is being certified. Everybody can compute it from what was published.
        """
        return self.step(state, [Entry(bytes(32), 1, payload)], round).state

    def state_bytes(self, state: GlobalState) -> bytes:
        """Exactly `state_size` bytes: the state root is taken over them."""
        return self.format.to_bytes(state)

    def state_from_bytes(self, data: bytes | memoryview) -> GlobalState:
        """The inverse; raises `StateError` for anything else than canonical bytes of this size."""
        return self.format.from_bytes(data, self.device)

    def _weights(
        self, entries: Sequence[Entry], updates: Sequence[memoryview]
    ) -> tuple[tuple[int, ...], tuple[str, ...]]:
        if len({entry.member for entry in entries}) != len(entries):
            raise ValueError("a member is twice in one list")
        if any(entry.tokens < 1 for entry in entries):
            raise ValueError("an entry has no tokens")
        if any(not 0 <= entry.staleness <= self.spec.staleness for entry in entries):
            raise ValueError(f"an entry is staler than {self.spec.staleness} rounds, or from the future")
        copied = read.duplicates(updates)
        reasons = tuple(aggregate.DUPLICATE if i in copied else "" for i in range(len(entries)))
        full = [entry.tokens if self.rule.weighted else 1 for entry in entries]
        return tuple(0 if reason else weight for weight, reason in zip(full, reasons, strict=True)), reasons

    def _stepped(
        self, state: GlobalState, parts: Sequence[Contribution], round: int
    ) -> tuple[GlobalState, tuple[Tensor, ...]]:
        """The state after the outer step (moments as before), and the aggregate for the fragment's tensors."""
        fragment = self.fragment_at(round)
        kinds = [state.params, *state.buffers]
        old = [fragment.part(tensors) for tensors in kinds]
        new = [tuple(torch.empty_like(tensor) for tensor in tensors) for tensors in old]
        update = tuple(torch.empty_like(tensor) for tensor in old[0])
        rate, turn = self.rate(round), (round - 1) // len(self.fragments)
        for span, g in aggregate.gradients(self.rule, fragment.codec, parts, self.device):
            at, cut = span.piece.tensor, slice(span.piece.start, span.piece.stop)
            theta, *buffers = (tensors[at].view(-1)[cut] for tensors in old)
            matrix = len(fragment.layout.tensors[at].shape) > 1
            theta, found = self.outer.step(theta, g, tuple(buffers), rate=rate, turn=turn, matrix=matrix)
            for tensors, values in zip((*new, update), (theta, *found, g), strict=True):
                tensors[at].view(-1)[cut] = values
        whole = [fragment.replaced(tensors, part) for tensors, part in zip(kinds, new, strict=True)]
        return GlobalState(whole[0], tuple(whole[1:]), state.moments), update

    def _halves(self, payload: bytes | memoryview, round: int) -> tuple[memoryview, memoryview]:
        """The bytes of update and moments in a payload, after checking its size."""
        data, size = memoryview(payload), self.payload_size_at(round)
        if len(data) != size:
            raise WrongPayloadSize(f"payload of {len(data)} bytes; this round's have {size}")
        cut = self.fragments[(round - 1) % len(self.fragments)].codec.payload_size
        return data[:cut], data[cut:]

    def _encode_moments(self, moments: Moments | None) -> bytes:
        if self.moment_codec is None:
            return b""
        if moments is None:
            raise ValueError("this recipe averages the inner state: encode needs the moments")
        return self.moment_codec.encode(Moments(self._own(moments.m), self._own(moments.v)))

    def _own(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor.detach().to(self.device) for tensor in tensors)

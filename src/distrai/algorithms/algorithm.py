"""The facade: one algorithm of one run. Tensors in, tensors or bytes out; no clock, no randomness, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distrai.algorithms import aggregate, arithmetic
from distrai.algorithms import feedback as ef
from distrai.algorithms.codecs import build_codec
from distrai.algorithms.codecs.base import flat_tensors, to_uint8
from distrai.algorithms.errors import NormAboveCeiling, WrongPayloadSize
from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import MomentCodec, Moments
from distrai.algorithms.outer import Outer
from distrai.algorithms.presets import AlgorithmSpec
from distrai.algorithms.state import GlobalState, StateFormat


@dataclass(frozen=True)
class Entry:
    """A certified update: the member (32 bytes), the tokens it trained on (at least 1), its opened payload."""

    member: bytes
    tokens: int
    payload: bytes


@dataclass(frozen=True)
class Encoded:
    """A payload, and both futures of the error feedback (None without it)."""

    payload: bytes
    pending_feedback: tuple[Tensor, ...] | None
    """If the certificate accepts the update with a weight above 0."""
    carried_feedback: tuple[Tensor, ...] | None
    """If it does not, for whatever reason."""

    def feedback(self, accepted: bool) -> tuple[Tensor, ...] | None:
        """The buffer for the next round."""
        return self.pending_feedback if accepted else self.carried_feedback


@dataclass(frozen=True)
class StepResult:
    """The next state, and for each entry, in the order given, its weight (0: it did not count) and why not
    ("" if it did).
    """

    state: GlobalState
    weights: tuple[int, ...]
    reasons: tuple[str, ...]


class Algorithm:
    """`spec` for the tensors of `layout`; consensus arithmetic runs on `device` (see
    `selftest.consensus_device`).
    """

    def __init__(self, spec: AlgorithmSpec, layout: Layout, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.layout = layout
        self.device = torch.device(device)
        self.codec = build_codec(spec.codec, spec.codec_options, layout)
        self.moment_codec = MomentCodec(layout) if spec.inner_state == "averaged" else None
        self.rule = aggregate.RULES[spec.aggregate]
        self.outer = Outer(spec.outer, spec.outer_lr, spec.outer_momentum)
        self.format = StateFormat(layout, self.outer.keeps_momentum, self.moment_codec is not None)
        self.codec_id = self.codec.id + (f"+{self.moment_codec.id}" if self.moment_codec else "")
        self.update_size = self.codec.payload_size
        self.payload_size = self.update_size + (self.moment_codec.payload_size if self.moment_codec else 0)
        self.state_size = self.format.size

    def initial_state(self, params: Sequence[Tensor]) -> GlobalState:
        """The state before round 1 (head_0): these parameters, zero momentum and moments. Raises ValueError
        if not finite.
        """
        flats = flat_tensors(self.layout, params, "initial state")
        own = tuple(
            flat.to(self.device).view(spec.shape)
            for flat, spec in zip(flats, self.layout.tensors, strict=True)
        )
        momentum = self.format.zeros(own) if self.format.momentum else ()
        moments = Moments(self.format.zeros(own), self.format.zeros(own)) if self.format.moments else None
        return GlobalState(own, momentum, moments)

    def delta(self, start: Sequence[Tensor], local: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The pseudo-gradient: start - local, tensor by tensor, on the algorithm's device."""
        pairs = zip(self._own(start), self._own(local), strict=True)
        return tuple(arithmetic.pseudo_gradient(a, b) for a, b in pairs)

    def encode(
        self,
        delta: Sequence[Tensor],
        moments: Moments | None = None,
        feedback: Sequence[Tensor] | None = None,
    ) -> Encoded:
        """The payload of a pseudo-gradient: update bytes, then moments if the recipe averages them (else they
        are ignored).

        `feedback` is what the last round's `Encoded` left; None in a first round or if the recipe has none.
        Raises ValueError for NaN, Inf and wrong shapes.
        """
        own = self._own(delta)
        carried = None
        if self.spec.error_feedback:
            held = self._own(feedback) if feedback is not None else None
            own = carried = ef.carry(own, held, self.spec.error_feedback)
        update = self.codec.encode(own)
        pending = None
        if carried is not None:
            pending = ef.settle(carried, self.codec.decode(to_uint8(update, self.device)), accepted=True)
        return Encoded(update + self._encode_moments(moments), pending, carried)

    def check(self, payload: bytes, norm_ceiling: float) -> None:
        """The absolute checks, version 1: size, layout, finite values, bounds of moments, L2 norm of the
        decoded update.

        Raises a subclass of `PayloadError`, one for each rule.
        """
        update, moments = self._halves(payload)
        if self.moment_codec and moments is not None:
            self.moment_codec.check(moments)
        squared = self.codec.squared_norm(update)
        if arithmetic.above_ceiling(squared, norm_ceiling):
            raise NormAboveCeiling(
                f"update of norm {arithmetic.norm(squared):g}; the ceiling is {norm_ceiling:g}"
            )

    def decode(self, payload: bytes) -> tuple[Tensor, ...]:
        """The decoded pseudo-gradient of a payload. Raises `PayloadError`."""
        return self.codec.decode(self._halves(payload)[0])

    def update_norm(self, payload: bytes) -> float:
        """L2 norm of the decoded update, to show. Raises `PayloadError`."""
        return arithmetic.norm(self.codec.squared_norm(self._halves(payload)[0]))

    def step(self, state: GlobalState, entries: Sequence[Entry]) -> StepResult:
        """Applies a certified list (in any order; members are taken by id). `state` is left as it is.

        Exact duplicates get weight 0; if no weight is left the state does not change. Raises `PayloadError`
        for an entry that `check` would have refused, ValueError for a repeated member or no tokens.
        """
        weights, reasons = self._weights(entries)
        order = sorted((i for i, weight in enumerate(weights) if weight), key=lambda i: entries[i].member)
        if not order:
            return StepResult(state, weights, reasons)
        following = self._applied(state, [(weights[i], entries[i].payload) for i in order])
        if not all(arithmetic.is_finite(tensor) for tensor in following.tensors()):
            return StepResult(state, (0,) * len(entries), (aggregate.OVERFLOW,) * len(entries))
        return StepResult(following, weights, reasons)

    def state_bytes(self, state: GlobalState) -> bytes:
        """Exactly `state_size` bytes: the state root is taken over them."""
        return self.format.to_bytes(state)

    def state_from_bytes(self, data: bytes | memoryview) -> GlobalState:
        """The inverse; raises `StateError` for anything else than canonical bytes of this size."""
        return self.format.from_bytes(data, self.device)

    def _weights(self, entries: Sequence[Entry]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        if len({entry.member for entry in entries}) != len(entries):
            raise ValueError("a member is twice in one list")
        if any(entry.tokens < 1 for entry in entries):
            raise ValueError("an entry has no tokens")
        copied = aggregate.duplicates([memoryview(entry.payload)[: self.update_size] for entry in entries])
        reasons = tuple(aggregate.DUPLICATE if i in copied else "" for i in range(len(entries)))
        full = [entry.tokens if self.rule.weighted else 1 for entry in entries]
        return tuple(0 if reason else weight for weight, reason in zip(full, reasons, strict=True)), reasons

    def _applied(self, state: GlobalState, weighted: Sequence[tuple[int, bytes]]) -> GlobalState:
        halves = [(weight, *self._halves(payload)) for weight, payload in weighted]
        parts = aggregate.contributions(
            self.rule, self.codec, [(weight, update) for weight, update, _ in halves]
        )
        params = tuple(torch.empty_like(tensor) for tensor in state.params)
        momentum = tuple(torch.empty_like(tensor) for tensor in state.momentum)
        for span in self.codec.spans:
            at, cut = span.piece.tensor, slice(span.piece.start, span.piece.stop)
            g = aggregate.aggregate_span(self.rule, self.codec, span, parts)
            b = state.momentum[at].view(-1)[cut] if momentum else None
            theta, b = self.outer.step(state.params[at].view(-1)[cut], g, b)
            params[at].view(-1)[cut] = theta
            if b is not None:
                momentum[at].view(-1)[cut] = b
        return GlobalState(params, momentum, self._averaged([(w, moments) for w, _, moments in halves]))

    def _averaged(self, weighted: Sequence[tuple[int, Tensor | None]]) -> Moments | None:
        if self.moment_codec is None:
            return None
        shared = aggregate.shared_factor([weight for weight, _ in weighted])
        return self.moment_codec.average(
            [(weight // shared, data) for weight, data in weighted if data is not None]
        )

    def _halves(self, payload: bytes) -> tuple[Tensor, Tensor | None]:
        """Update and moments of a payload (uint8 on the device), after checking its size."""
        if len(payload) != self.payload_size:
            raise WrongPayloadSize(f"payload of {len(payload)} bytes; this recipe's have {self.payload_size}")
        data = to_uint8(payload, self.device)
        return data[: self.update_size], data[self.update_size :] if self.moment_codec else None

    def _encode_moments(self, moments: Moments | None) -> bytes:
        if self.moment_codec is None:
            return b""
        if moments is None:
            raise ValueError("this recipe averages the inner state: encode needs the moments")
        return self.moment_codec.encode(Moments(self._own(moments.m), self._own(moments.v)))

    def _own(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor.detach().to(self.device) for tensor in tensors)

"""What all codecs share: a payload is a sequence of spans, and a span decodes on its own, so memory stays
bounded.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar, Self

import torch
from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.errors import WrongPayloadSize
from distrai.algorithms.layout import Layout, Piece


@dataclass(frozen=True)
class Span:
    """A piece of a tensor, and the bytes of the payload (start..stop) that hold it."""

    piece: Piece
    start: int
    stop: int


@dataclass(frozen=True)
class SpanValues:
    """Decoded fp32 values of a span: one per element, or, where `where` is given, one per index in it
    (ascending or not, never repeated).
    """

    values: Tensor
    where: Tensor | None = None


class Codec(ABC):
    """A codec bound to one layout."""

    sparse: ClassVar[bool] = False
    options: ClassVar[dict[str, tuple[int, ...] | range]] = {}
    """The options a recipe may set, and the values they may have."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.spans = tuple(self._placed(self._pieces()))
        self.payload_size = self.spans[-1].stop

    @property
    @abstractmethod
    def id(self) -> str:
        """Names the codec and its options; goes into every Update."""

    @abstractmethod
    def _pieces(self) -> tuple[Piece, ...]:
        """How tensors are cut."""

    @abstractmethod
    def _span_size(self, piece: Piece) -> int:
        """Bytes that hold a piece."""

    @abstractmethod
    def encode_span(self, piece: Piece, x: Tensor) -> Tensor:
        """Encodes the elements of a piece (fp32, finite, flat) as uint8."""

    @abstractmethod
    def decode_span(self, piece: Piece, data: Tensor) -> SpanValues:
        """Decodes the bytes (uint8) of a piece; raises a `PayloadError` for what `encode_span` could not have
        written.
        """

    def at(self, round_number: int) -> Self:
        """The codec of one round; only one whose coordinates a seed draws differs from round to round."""
        return self

    def to_domain(self, piece: Piece, x: Tensor) -> Tensor:
        """The elements of a piece (fp32, flat) in the domain in which `decode_span` gives values."""
        return x

    def from_domain(self, piece: Piece, coefficients: Tensor) -> Tensor:
        """The inverse of `to_domain`. Linear, so means are taken in the domain and inverted once."""
        return coefficients

    def synchronised(self, piece: Piece) -> Tensor | None:
        """Flat indices (int64) of the elements of a piece that this round's updates speak of; None: all."""
        return None

    def _placed(self, cut: Sequence[Piece]) -> Iterator[Span]:
        at = 0
        for piece in cut:
            size = self._span_size(piece)
            yield Span(piece, at, at + size)
            at += size

    def encode(self, tensors: Sequence[Tensor]) -> bytes:
        """Encodes one fp32 tensor per tensor of the layout. Raises ValueError for other shapes, NaN and Inf."""
        check_shapes(self.layout, tensors, "update")
        flats = [tensor.detach().reshape(-1) for tensor in tensors]
        payload = BytesIO()
        for span in self.spans:
            payload.write(to_bytes(self._encoded(span.piece, flats)))
        return payload.getvalue()

    def _encoded(self, piece: Piece, flats: Sequence[Tensor]) -> Tensor:
        """Encodes one piece. What is made of it on the way lives only as long as this call."""
        x = arithmetic.positive_zero(flats[piece.tensor][piece.start : piece.stop])
        check_finite(x, self.layout.tensors[piece.tensor].name, "update")
        return self.encode_span(piece, x)

    def read(self, data: Tensor) -> Iterator[tuple[Span, SpanValues]]:
        """Decodes span by span. `data` is the payload as uint8, on any device."""
        if data.numel() != self.payload_size:
            raise WrongPayloadSize(f"update of {data.numel()} bytes; this recipe's are {self.payload_size}")
        for span in self.spans:
            yield span, self.decode_span(span.piece, data[span.start : span.stop])

    def decode(self, data: Tensor) -> tuple[Tensor, ...]:
        """The decoded tensors, on the device of `data` (uint8); 0 where nothing was sent."""
        flats = [torch.zeros(t.numel, dtype=torch.float32, device=data.device) for t in self.layout.tensors]
        for span, found in self.read(data):
            part = flats[span.piece.tensor][span.piece.start : span.piece.stop]
            if found.where is not None:
                part[found.where] = found.values
            part.copy_(self.from_domain(span.piece, part if found.where is not None else found.values))
        return tuple(flat.view(t.shape) for flat, t in zip(flats, self.layout.tensors, strict=True))

    def squared_norm(self, data: Tensor) -> int:
        """|decoded update|^2 as in `arithmetic.squared_norm`; decodes, and so checks, every span."""
        return sum(arithmetic.squared_norm(found.values) for _, found in self.read(data))


def flat_tensors(layout: Layout, tensors: Sequence[Tensor], what: str = "update") -> list[Tensor]:
    """Copies the tensors as flat fp32 after checking shapes, dtype and that they are finite. -0.0 becomes
    +0.0.
    """
    check_shapes(layout, tensors, what)
    flats = [arithmetic.positive_zero(tensor.detach()).reshape(-1) for tensor in tensors]
    for flat, spec in zip(flats, layout.tensors, strict=True):
        check_finite(flat, spec.name, what)
    return flats


def check_shapes(layout: Layout, tensors: Sequence[Tensor], what: str) -> None:
    """Raises ValueError unless these are fp32 tensors of the layout's shapes."""
    if len(tensors) != len(layout.tensors):
        raise ValueError(f"{len(tensors)} tensors in the {what}, {len(layout.tensors)} in the layout")
    for tensor, spec in zip(tensors, layout.tensors, strict=True):
        if tuple(tensor.shape) != spec.shape or tensor.dtype != torch.float32:
            raise ValueError(
                f"{spec.name} in the {what} is {tensor.dtype} {tuple(tensor.shape)}, not float32 {spec.shape}"
            )


def check_finite(x: Tensor, name: str, what: str) -> None:
    """Raises ValueError if an element of the tensor of this name is NaN or infinite."""
    if not arithmetic.is_finite(x):
        raise ValueError(f"{name} in the {what} is not finite: training diverged; lower the learning rate")


def to_bytes(x: Tensor) -> bytes:
    """The bytes of a tensor (little-endian machines only, which all that PyTorch supports are)."""
    data: bytes = x.detach().cpu().contiguous().numpy().tobytes()
    return data


def to_uint8(data: bytes | memoryview, device: torch.device) -> Tensor:
    """Bytes as a uint8 tensor of their own."""
    if not data:
        return torch.zeros(0, dtype=torch.uint8, device=device)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)


@dataclass(frozen=True)
class LazyBytes:
    """A payload that is read as a uint8 tensor is, slice by slice: only what is asked for is copied."""

    data: bytes | memoryview
    device: torch.device

    def numel(self) -> int:
        return len(self.data)

    def __getitem__(self, cut: slice) -> Tensor:
        return to_uint8(self.data[cut], self.device)


Octets = Tensor | LazyBytes
"""The bytes of a payload, as a uint8 tensor or not yet as one."""


def as_bytes(x: Tensor) -> Tensor:
    """A tensor's bytes as uint8, on its device."""
    return x.contiguous().view(-1).view(torch.uint8)


def as_fp32(data: Tensor) -> Tensor:
    """uint8 to the fp32 it holds; copies, since a slice need not be aligned."""
    return data.clone().view(torch.float32)

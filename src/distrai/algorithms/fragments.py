"""Fragments: parts of a model that are synchronised in turn (Streaming DiLoCo, arXiv:2501.18512).

The unit is a layer, so that a fragment holds tensors from all depths (strided): layer i goes to fragment
i mod F. A layer is what the first number in a tensor's name counts (`model.layers.3.`, `transformer.h.3.`).
What comes before the first layer belongs to the first fragment, what comes after the last to the last one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from distrai.algorithms import arithmetic
from distrai.algorithms.codecs.base import Codec
from distrai.algorithms.layout import Layout

_LAYER = re.compile(r"(?:^|.*?\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class Fragment:
    """One part of the model: which tensors of the whole layout it holds, as a layout and codec of its own."""

    index: int
    tensors: tuple[int, ...]
    layout: Layout
    codec: Codec

    def part(self, whole: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its tensors among those of the whole layout."""
        return tuple(whole[at] for at in self.tensors)

    def replaced(self, whole: Sequence[Tensor], part: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tensors of the whole layout with its own exchanged for `part`; the others are the same objects."""
        tensors = list(whole)
        for at, tensor in zip(self.tensors, part, strict=True):
            tensors[at] = tensor
        return tuple(tensors)


def split(layout: Layout, count: int) -> tuple[tuple[int, ...], ...]:
    """Which tensors each of `count` fragments holds, ascending.

    Raises ValueError if the model has fewer layers than that.
    """
    if count == 1:
        return (tuple(range(len(layout.tensors))),)
    named = [_LAYER.match(spec.name) for spec in layout.tensors]
    layers = {name: at for at, name in enumerate(dict.fromkeys(f.group() for f in named if f))}
    if count > len(layers):
        raise ValueError(
            f"fragments: {count} are more than the model's {len(layers)} layers: a fragment holds whole layers"
            f" of trainable tensors; use at most {max(1, len(layers))}"
        )
    held: list[list[int]] = [[] for _ in range(count)]
    last = max(at for at, found in enumerate(named) if found)
    current = 0
    for at, found in enumerate(named):
        if found:
            current = layers[found.group()] % count
        held[current if at <= last else count - 1].append(at)
    return tuple(tuple(each) for each in held)


def sub_layout(layout: Layout, tensors: Sequence[int]) -> Layout:
    """The layout of these tensors; the layout itself if they are all."""
    if len(tensors) == len(layout.tensors):
        return layout
    return Layout(tuple(layout.tensors[at] for at in tensors))


def build_fragments(layout: Layout, count: int, build: Callable[[Layout], Codec]) -> tuple[Fragment, ...]:
    """The fragments of a model, each with a codec for its own tensors. Raises ValueError as `split`."""
    held = split(layout, count)
    layouts = [sub_layout(layout, tensors) for tensors in held]
    return tuple(
        Fragment(index, tensors, part, build(part))
        for index, (tensors, part) in enumerate(zip(held, layouts, strict=True))
    )


def bound_to(fragment: Fragment, round_number: int) -> Fragment:
    """The fragment with its codec bound to a round."""
    codec = fragment.codec.at(round_number)
    return fragment if codec is fragment.codec else replace(fragment, codec=codec)


def merged(
    fragment: Fragment, local: Sequence[Tensor], common: Sequence[Tensor], alpha: float
) -> tuple[Tensor, ...]:
    """alpha * local + (1 - alpha) * common where the fragment was synchronised, else local; all tensors.

    An alpha of 0 takes over the common bits, 1 keeps the local ones.
    """
    if alpha == 1.0:
        return tuple(local)
    tensors = [tensor.clone() for tensor in fragment.part(local)]
    others = fragment.part(common)
    for span in fragment.codec.spans:
        cut = slice(span.piece.start, span.piece.stop)
        own, other = (each[span.piece.tensor].view(-1)[cut] for each in (tensors, others))
        where = fragment.codec.synchronised(span.piece)
        if where is None:
            own.copy_(_mixed(own, other, alpha))
        else:
            own[where] = _mixed(own[where], other[where], alpha)
    return fragment.replaced(local, tensors)


def _mixed(own: Tensor, other: Tensor, alpha: float) -> Tensor:
    if alpha == 0.0:
        return other
    return arithmetic.scalar(alpha, own) * own + arithmetic.scalar(1.0 - alpha, own) * other

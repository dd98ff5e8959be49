"""Codecs: a pseudo-gradient to bytes and back. Headerless, of a size that the layout gives, the same bits
everywhere.
"""

from collections.abc import Mapping
from inspect import signature

from distrai.algorithms.codecs.base import Codec
from distrai.algorithms.codecs.bf16 import Bf16
from distrai.algorithms.codecs.dct import Dct
from distrai.algorithms.codecs.fp4 import Fp4
from distrai.algorithms.codecs.fp32 import Fp32
from distrai.algorithms.codecs.mask import Mask
from distrai.algorithms.codecs.topk import TopK
from distrai.algorithms.codecs.uniform import Int4, Int8
from distrai.algorithms.layout import Layout

CODECS: dict[str, type[Codec]] = {
    "fp32": Fp32,
    "bf16": Bf16,
    "int8": Int8,
    "int4": Int4,
    "fp4": Fp4,
    "topk": TopK,
    "dct": Dct,
    "mask": Mask,
}
"""Every codec by the name that recipes use."""


def default_options(name: str) -> dict[str, int]:
    """What a codec's options are where a recipe does not say."""
    parameters = signature(CODECS[name]).parameters
    return {option: parameters[option].default for option in CODECS[name].options}


def build_codec(name: str, options: Mapping[str, int], layout: Layout) -> Codec:
    """The codec of a validated `AlgorithmSpec` for one layout."""
    return CODECS[name](layout, **options)


__all__ = [
    "CODECS",
    "Bf16",
    "Codec",
    "Dct",
    "Fp4",
    "Fp32",
    "Int4",
    "Int8",
    "Mask",
    "TopK",
    "build_codec",
    "default_options",
]

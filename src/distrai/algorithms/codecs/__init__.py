"""Codecs: a pseudo-gradient to bytes and back. Headerless, of a size that the layout gives, the same bits
everywhere.
"""

from collections.abc import Mapping
from inspect import signature

from distrai.algorithms.codecs.base import Codec
from distrai.algorithms.codecs.fp32 import Fp32
from distrai.algorithms.codecs.int8 import Int8
from distrai.algorithms.codecs.topk import TopK
from distrai.algorithms.layout import Layout

CODECS: dict[str, type[Codec]] = {"fp32": Fp32, "int8": Int8, "topk": TopK}
"""Every codec by the name that recipes use."""


def default_options(name: str) -> dict[str, int]:
    """What a codec's options are where a recipe does not say."""
    parameters = signature(CODECS[name]).parameters
    return {option: parameters[option].default for option in CODECS[name].options}


def build_codec(name: str, options: Mapping[str, int], layout: Layout) -> Codec:
    """The codec of a validated `AlgorithmSpec` for one layout."""
    return CODECS[name](layout, **options)


__all__ = ["CODECS", "Codec", "Fp32", "Int8", "TopK", "build_codec", "default_options"]

"""Low-communication training as one engine: codecs, aggregation, outer optimisers, presets. See `docs` and
`algorithm.py`.
"""

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.errors import PayloadError, StateError
from distrai.algorithms.layout import Layout, TensorSpec
from distrai.algorithms.moments import Moments
from distrai.algorithms.presets import PRESETS, AlgorithmSpec, resolve_preset, warnings
from distrai.algorithms.results import Encoded, Entry, StepResult
from distrai.algorithms.state import GlobalState

__all__ = [
    "PRESETS",
    "Algorithm",
    "AlgorithmSpec",
    "Encoded",
    "Entry",
    "GlobalState",
    "Layout",
    "Moments",
    "PayloadError",
    "StateError",
    "StepResult",
    "TensorSpec",
    "resolve_preset",
    "warnings",
]

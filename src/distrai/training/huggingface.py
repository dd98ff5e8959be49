"""The one door to ``transformers``: imported on first use, quietly, and as cheaply as it can be.

Importing it is most of what a peer does before its first step (about 3 s of CPU), a fifth of that in garbage
collections that find nothing; so collection pauses meanwhile.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def _collection_paused() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def auto_config() -> Any:
    """``transformers.AutoConfig``, without importing any model."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    with _collection_paused():
        from transformers import AutoConfig
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return AutoConfig


@cache
def auto_model() -> Any:
    """``transformers.AutoModelForCausalLM``; the code of a model is imported when one is made."""
    auto_config()
    with _collection_paused():
        from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM


@cache
def generation_config() -> Any:
    """``transformers.GenerationConfig``."""
    auto_config()
    from transformers import GenerationConfig

    return GenerationConfig


def imported_cheaply(make: Callable[[], T]) -> T:
    """The result of ``make``, which imports the code of a model on the way."""
    with _collection_paused():
        return make()

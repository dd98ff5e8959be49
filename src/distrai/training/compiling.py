"""torch.compile, and what to do where it cannot work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from distrai.training.errors import CannotCompile


def compiled(model: nn.Module, backend: str) -> nn.Module:
    """The model, compiled when it is first used; it shares its parameters with ``model``."""
    made = torch.compile(model, backend=backend)
    assert isinstance(made, nn.Module)
    return made


@contextmanager
def explained() -> Iterator[None]:
    """Raises CannotCompile where torch.compile found no compiler, or failed."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CannotCompile(
            f"torch.compile failed: {line[:300]}. It needs a C++ compiler (g++ or clang++, and Triton with a GPU); "
            "install one, or set compile = false in [training]"
        ) from error

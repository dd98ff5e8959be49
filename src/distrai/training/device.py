"""Devices: which one, with what arithmetic, and how to get the same bits from it twice."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from distrai.training.spec import Precision


def training_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether the inner loop runs in bf16: where asked for, or where it is faster.

    ``auto`` means CUDA devices that have it. On CPUs it does not (a small model was a quarter slower with it
    on one with AVX512-BF16).
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass runs; parameters, gradients and moments are fp32 in any case."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision, device))


@contextmanager
def reproducible(device: torch.device, seed: int) -> Iterator[None]:
    """Draw (dropout) from ``seed``, with kernels that give the same bits again, until the context ends."""
    cuda = device.type == "cuda"
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.random.fork_rng(devices=[device] if cuda else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)

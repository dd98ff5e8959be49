"""Independent oracles in numpy and Python: written from the description of each rule, sharing no code with distrai."""

import math

import numpy as np
import torch

from distrai.algorithms import Algorithm, Entry, Layout, Moments, resolve_preset

LAYOUT = Layout.from_pairs(
    [
        ("embed", (100, 130)),
        ("conv", (70, 2, 64)),
        ("lora", (8, 600)),
        ("bias", (5000,)),
        ("tiny", (3,)),
        ("one", ()),
    ]
)
KEPT = {"inner_state": "kept"}


def tensors(seed, layout=LAYOUT, scale=0.01):
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy((rng.standard_t(4, t.numel) * scale).astype(np.float32)).reshape(t.shape)
        for t in layout.tensors
    ]


def moments(seed, layout=LAYOUT):
    return Moments(tuple(tensors(seed, layout)), tuple(x * x for x in tensors(seed + 1, layout)))


def algorithm(preset, layout=LAYOUT, **changes):
    return Algorithm(resolve_preset(preset, changes), layout)


def entries(algo, count, tokens=lambda i: 100, seed=0):
    return [
        Entry(
            bytes([i + 1]) * 32,
            tokens(i),
            algo.encode(tensors(seed + i, algo.layout), moments(seed + i, algo.layout)).payload,
        )
        for i in range(count)
    ]


def flat(tensor):
    return tensor.numpy().astype(np.float64).ravel()


def grid_norm(x):
    """The norm of a span on the 15-bit grid that its largest |x| gives; the integers in it are exact in float64."""
    shift = 15 - math.frexp(np.abs(x).max())[1]
    return math.ldexp(math.sqrt(math.fsum(np.rint(np.ldexp(x, shift)) ** 2)), -shift)


def uniform(x, bins, midpoints):
    """PRIME's quantiser in float64: (position in bins before rounding, decoded values)."""
    sigma = math.sqrt(math.fsum(v * v for v in x) / max(1, x.size - 1))
    position = x / (6 * sigma / bins)
    codes = np.clip((np.floor if midpoints else np.rint)(position) + bins // 2, 0, bins - 1).astype(int)
    means = [math.fsum(x[codes == c]) / max(1, (codes == c).sum()) for c in range(bins)]
    return position, np.array(means)[codes]


def chunk_indices(shape):
    """Flat indices of every chunk, in the payload's order: 64x64 tiles where both sides are 64 or more, else runs."""
    numel = math.prod(shape)
    if len(shape) < 2 or shape[-1] < 64 or numel // shape[-1] < 64:
        return [np.arange(at, min(at + 4096, numel)) for at in range(0, numel, 4096)]
    grid = np.arange(numel).reshape(-1, shape[-1])
    return [
        grid[r : r + 64, c : c + 64].ravel()
        for r in range(0, grid.shape[0], 64)
        for c in range(0, grid.shape[1], 64)
    ]


def largest(x, shape, k):
    """Flat indices that top-k sends: the largest of each chunk, of equal ones the lower, ascending within a chunk."""
    found = []
    for chunk in chunk_indices(shape):
        count = math.ceil(len(chunk) * k / 4096)
        order = sorted(range(len(chunk)), key=lambda i, chunk=chunk: (-abs(x[chunk[i]]), i))
        found += [chunk[i] for i in sorted(order[:count])]
    return np.array(found)

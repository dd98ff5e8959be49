"""Throughput of every codec beside a memory copy: ``python benchmarks/codec_throughput.py [--repetitions 7]``.

Encoded and decoded is one matrix of fp32, from tensors to the payload's bytes and back, as a peer does it, on one
thread. In every repetition the same fp32 bytes are also copied from memory to memory; ``of_copy`` is how much of the
speed of that copy a codec has within the same repetition, so that a slow minute of the machine slows down both.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import report_head, result_path, write_json
from distrai.algorithms.codecs import Codec, build_codec
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.layout import Layout, TensorSpec

ROWS, COLUMNS = 4096, 4096
CODECS: dict[str, tuple[str, dict[str, int]]] = {
    "fp32": ("fp32", {}),
    "int8": ("int8", {"range_sigmas": 6}),
    "topk-1/16": ("topk", {"k": 256, "value_bits": 2}),
    "topk-1/64": ("topk", {"k": 64, "value_bits": 2}),
}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, in wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Median and extremes."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


class Bench:
    """A matrix, its copy, and the codecs that are tried on it."""

    def __init__(self, rows: int, columns: int) -> None:
        layout = Layout((TensorSpec("matrix", (rows, columns)),))
        drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
        self.matrix: Tensor = drawn * 1e-3
        self.copy = torch.empty_like(self.matrix).copy_(self.matrix)
        self.codecs: dict[str, Codec] = {
            name: build_codec(kind, options, layout) for name, (kind, options) in CODECS.items()
        }
        self.payloads = {name: codec.encode([self.matrix]) for name, codec in self.codecs.items()}

    def repetition(self) -> dict[str, float]:
        """Seconds of one round of everything; the copy is the mean of three, spread over the round."""
        found, copies = {}, [seconds(self._copied)]
        for name, codec in self.codecs.items():
            payload = self.payloads[name]
            found[f"{name} encode"] = seconds(lambda codec=codec: codec.encode([self.matrix]))  # type: ignore[misc]
            copies.append(seconds(self._copied))
            found[f"{name} decode"] = seconds(lambda c=codec, p=payload: c.decode(to_uint8(p, torch.device("cpu"))))  # type: ignore[misc]
            copies.append(seconds(self._copied))
        return found | {"copy": statistics.median(copies)}

    def _copied(self) -> None:
        self.copy.copy_(self.matrix)


def figures(bench: Bench, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Speeds in GB of fp32 a second, and shares of the copy's speed."""
    size = bench.matrix.numel() * 4
    speeds = {what: spread([size / run[what] / 1e9 for run in runs], 3) for what in runs[0]}
    shares = {what: spread([run["copy"] / run[what] for run in runs], 4) for what in runs[0] if what != "copy"}
    return {"gb_per_s": speeds, "of_copy": shares}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--to", type=Path, help="the report; by default in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(ROWS, COLUMNS)
    bench.repetition()  # pages are mapped, tables are made
    runs = [bench.repetition() for _ in range(options.repetitions)]
    found = figures(bench, runs)
    report = report_head() | {
        "elements": ROWS * COLUMNS,
        "payload_bytes": {name: len(payload) for name, payload in bench.payloads.items()},
        **found,
        "seconds": runs,
    }
    to = options.to or result_path("codec_throughput")
    write_json(to, report)
    copy = found["gb_per_s"]["copy"]
    print(f"{'memory copy':18} {copy['median']:6.2f} GB/s ({copy['min']:.2f}..{copy['max']:.2f})")
    for what, share in found["of_copy"].items():
        speed = found["gb_per_s"][what]["median"]
        low, high = 1 / share["max"], 1 / share["min"]
        print(f"{what:18} {speed:6.3f} GB/s   1/{1 / share['median']:.1f} of the copy (1/{low:.1f}..1/{high:.1f})")
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

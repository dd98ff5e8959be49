"""Throughput of every codec beside a memory copy: ``python benchmarks/codec_throughput.py [--keep]``.

One matrix of fp32 becomes the bytes of a payload and comes back, on one thread. ``encode`` is what a peer does with its
pseudo-gradient; ``decode`` is a whole payload into fresh tensors, as error feedback needs it; ``read`` is the same span
by span, as checks and aggregation do. In every repetition the same fp32 bytes are copied from memory to memory between
the codecs; ``of_copy`` is the share of that copy's speed that a codec reaches within the same repetition. Judged is
wall time; CPU time stands beside it, for a machine that is busy with other things.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from common import destination, report_head, write_json
from distrai.algorithms.codecs import Codec, build_codec
from distrai.algorithms.codecs.base import to_uint8
from distrai.algorithms.layout import Layout, TensorSpec

ROWS, COLUMNS = 4096, 4096
CODECS: dict[str, tuple[str, dict[str, int]]] = {
    "fp32": ("fp32", {}),
    "bf16": ("bf16", {}),
    "int8": ("int8", {"range_sigmas": 6}),
    "int4": ("int4", {"range_sigmas": 6}),
    "fp4": ("fp4", {}),
    "topk-1/16": ("topk", {"k": 256, "value_bits": 2}),
    "topk-1/64": ("topk", {"k": 64, "value_bits": 2}),
    "topk-1/64 signs": ("topk", {"k": 64, "value_bits": 1}),
    "dct-32": ("dct", {"k": 32, "value_bits": 32}),
    "dct-8 signs": ("dct", {"k": 8, "value_bits": 1}),
    "mask": ("mask", {"per_mille": 5}),
}


@dataclass(frozen=True)
class Taken:
    """What some work took, in seconds."""

    wall: float
    cpu: float


def taken(work: Callable[[], object]) -> Taken:
    """Do it once, with a clock in hand."""
    wall, cpu = time.perf_counter(), time.thread_time()
    work()
    return Taken(time.perf_counter() - wall, time.thread_time() - cpu)


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

    def repetition(self) -> dict[str, Taken]:
        """One round of everything, with a copy after each; the copy's figure is the median of them."""
        found, copies = {}, []
        for name, codec in self.codecs.items():
            for what, work in self._works(codec, self.payloads[name]).items():
                found[f"{name} {what}"] = taken(work)
                copies.append(taken(lambda: self.copy.copy_(self.matrix)))
        middle = (statistics.median([getattr(item, clock) for item in copies]) for clock in ("wall", "cpu"))
        return {"memory copy": Taken(*middle)} | found

    def _works(self, codec: Codec, payload: bytes) -> dict[str, Callable[[], object]]:
        data = to_uint8(payload, torch.device("cpu"))
        return {
            "encode": lambda: codec.encode([self.matrix]),
            "decode": lambda: codec.decode(data),
            "read": lambda: deque(codec.read(data), maxlen=0),
        }


def figures(size: int, runs: list[dict[str, Taken]]) -> dict[str, Any]:
    """Speeds in GB of fp32 a second, and shares of the copy's speed, of ``size`` bytes."""
    found: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        seconds = [{what: getattr(item, clock) for what, item in run.items()} for run in runs]
        found[clock] = {
            "gb_per_s": {what: spread([size / run[what] / 1e9 for run in seconds], 3) for what in seconds[0]},
            "of_copy": {
                what: spread([run["memory copy"] / run[what] for run in seconds], 4) for what in seconds[0]
            },
        }
    return found


def table(found: dict[str, Any]) -> str:
    """For people: the larger N of 1/N, the slower."""
    lines = [f"{'':20} {'GB/s':>7}   {'of the copy: wall (spread)':28} CPU"]
    for what, speed in found["wall"]["gb_per_s"].items():
        wall, cpu = found["wall"]["of_copy"][what], found["cpu"]["of_copy"][what]
        share = f"1/{1 / wall['median']:.1f} (1/{1 / wall['max']:.1f}..1/{1 / wall['min']:.1f})"
        lines.append(f"{what:20} {speed['median']:7.3f}   {share:28} 1/{1 / cpu['median']:.1f}")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(ROWS, COLUMNS)
    bench.repetition()  # pages are mapped, tables are made
    runs = [bench.repetition() for _ in range(options.repetitions)]
    found = figures(4 * ROWS * COLUMNS, runs)
    report = report_head() | {
        "elements": ROWS * COLUMNS,
        "payload_bytes": {name: len(payload) for name, payload in bench.payloads.items()},
        **found,
        "seconds": [{what: asdict(item) for what, item in run.items()} for run in runs],
    }
    to = destination("codec_throughput", options.keep)
    write_json(to, report)
    print(table(found))
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()

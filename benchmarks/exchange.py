"""Exchange of updates over real links: ``sudo python benchmarks/exchange.py [--quick] [--only NAME]``.

Peers are processes in network namespaces, on links that ``tc`` limits both ways. Beside our transport runs a plain
threaded TCP script on the same links; with a slow uplink, an object store on an unlimited link as well. Each cell is
the time until the last peer has what it is to have; ``ratio`` is the least time that the links allow divided by it.
Cells that are in the file already are not measured again.
"""

import argparse
import importlib.util
import json
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import destination, report_head, write_json
from exchange_links import BURST_BYTES, LATENCY_MS, Link, Machines

PEER = Path(__file__).with_name("exchange_peer.py")
START_S, CELL_S = 60.0, 240.0
FULL_MBIT, SLOW_MBIT = 100.0, 10.0
MIB = 1 << 20


@dataclass(frozen=True)
class Setting:
    """Who has how much for whom, over which links."""

    name: str
    size: int
    uplinks: tuple[float, ...]
    authors: tuple[int, ...]
    engines: tuple[str, ...]

    def least_s(self) -> float:
        """The least time that the links allow: each blob leaves its author once, each peer gets what it lacks, and all
        uplinks together send every copy.
        """
        bits, count = self.size * 8, len(self.uplinks)
        copies = len(self.authors) * (count - 1)
        once = max(bits / (self.uplinks[author] * 1e6) for author in self.authors)
        arriving = max(bits * len(set(self.authors) - {at}) for at in range(count)) / (FULL_MBIT * 1e6)
        together = bits * copies / (sum(self.uplinks) * 1e6)
        return max(once, arriving, together)


LINKS = (
    f"network namespaces on one bridge; tc tbf both ways, burst {BURST_BYTES} bytes, latency {LATENCY_MS} ms; "
    f"{FULL_MBIT:g} Mbit/s, slow uplink {SLOW_MBIT:g} Mbit/s, object store without limit"
)
EVERYBODY = (0, 1, 2, 3)
FULL = (FULL_MBIT,) * 4
SLOW = (SLOW_MBIT, FULL_MBIT, FULL_MBIT, FULL_MBIT)
SETTINGS = (
    Setting("all-to-all, 64 MiB", 64 * MIB, FULL, EVERYBODY, ("tcp", "http")),
    Setting("all-to-all, 8 MiB", 8 * MIB, FULL, EVERYBODY, ("tcp", "http")),
    Setting("one blob to one peer, 64 MiB", 64 * MIB, FULL[:2], (0,), ("tcp", "http")),
    Setting("one slow uplink, 16 MB", 16_000_000, SLOW, EVERYBODY, ("tcp", "http", "store")),
)


class Failed(Exception):
    """A peer said something else than it should have, or nothing in time."""


class Peer:
    """One process of a cell."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self, deadline: float) -> dict[str, Any]:
        """The next line that it says. Raises Failed."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise Failed("a peer is silent")
        line = self.process.stdout.readline()
        if not line:
            raise Failed("a peer ended")
        return dict(json.loads(line))

    def tell(self, **facts: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(facts) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(setting: Setting, engine: str, store: str | None, machines: Machines) -> dict[str, Any]:
    """One cell once: what all peers said, and the time of the last."""
    with ExitStack() as stack:
        peers = []
        for index in range(len(setting.uplinks)):
            name = f"p{index}"
            arguments = (engine, str(index), str(setting.size), machines.address(name))
            peers.append(Peer(machines.command(name, sys.executable, str(PEER), *arguments)))
            stack.callback(peers[-1].close)
        deadline = time.monotonic() + START_S
        ready = [peer.hear(deadline) for peer in peers]
        before = _interface_bytes(setting, machines)
        told = {"peers": ready, "authors": setting.authors, "store": store, "prefix": str(time.time_ns())}
        for peer in peers:
            peer.tell(**told)
        deadline = time.monotonic() + CELL_S
        waiting = [peer for at, peer in enumerate(peers) if set(setting.authors) - {at} or engine == "store"]
        results = [peer.hear(deadline) for peer in waiting]
        after = _interface_bytes(setting, machines)
    wall_s = max(result["done_s"] for result in results)
    moved = [
        [end - begin for begin, end in zip(*pair, strict=True)] for pair in zip(before, after, strict=True)
    ]
    return {
        "wall_s": round(wall_s, 3),
        "ratio": round(setting.least_s() / wall_s, 4),
        "done_s": [round(result["done_s"], 3) for result in results],
        "cpu_s": [round(result["cpu_s"], 2) for result in results],
        "rss_mib": [round(result["rss_mib"], 1) for result in results],
        "up_down_bytes": moved,
        "sent": [result.get("sent") for result in results],
    }


def _interface_bytes(setting: Setting, machines: Machines) -> list[tuple[int, int]]:
    """What the kernel counted at each peer's link: bytes up, bytes down."""
    found = []
    for index in range(len(setting.uplinks)):
        base = f"/sys/class/net/{machines.interface(f'p{index}')}/statistics"
        command = machines.command(f"p{index}", "cat", f"{base}/tx_bytes", f"{base}/rx_bytes")
        up, down = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        found.append((int(up), int(down)))
    return found


@contextmanager
def object_store(machines: Machines) -> Iterator[str]:
    """An S3 server on a machine of its own, whose link has no limit; its URL."""
    port = 9000
    with tempfile.TemporaryDirectory(prefix="exchange-store-") as folder:
        (Path(folder) / "exchange").mkdir()
        url = f"http://{machines.address('store')}:{port}"
        serve = [
            "serve",
            "s3",
            "--auth-key",
            "exchange,exchange",
            "--addr",
            f":{port}",
            "--dir-cache-time",
            "0s",
        ]
        command = machines.command("store", rclone() or "", *serve, "--config", f"{folder}/none", folder)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ask = machines.command(
                "p0", sys.executable, "-c", _WAIT.format(host=machines.address("store"), port=port)
            )
            subprocess.run(ask, check=True, timeout=START_S)
            yield url
        finally:
            process.kill()
            process.wait()


_WAIT = """
import socket, time
while True:
    try:
        socket.create_connection(("{host}", {port}), 1).close()
        break
    except OSError:
        time.sleep(0.1)
"""


def rclone() -> str | None:
    """Where rclone is, if it is installed."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def missing(engine: str) -> str | None:
    """Why an engine cannot run here; None if it can."""
    if engine == "store" and (rclone() is None or importlib.util.find_spec("obstore") is None):
        return "rclone or obstore is not installed"
    return None


def measure_all(report: dict[str, Any], path: Path, only: str, repetitions: int) -> None:
    """Every cell that is not in the report yet, written after each; repetitions go round, so that none has the worst of
    the machine.
    """
    cells = report["cells"]
    for repetition in range(repetitions):
        for setting in SETTINGS:
            for engine in setting.engines:
                if only not in f"{setting.name} {engine}":
                    continue
                if (why := missing(engine)) is not None:
                    print(f"{setting.name} {engine}: left out, {why}", flush=True)
                    continue
                runs = cells.setdefault(setting.name, {}).setdefault(engine, [])
                if len(runs) > repetition or (engine == "tcp" and len(set(setting.uplinks)) > 1 and runs):
                    continue  # the plain script takes long with a slow uplink, always the same
                links = {f"p{at}": Link(up, FULL_MBIT) for at, up in enumerate(setting.uplinks)}
                with ExitStack() as stack:
                    machines = stack.enter_context(Machines({**links, "store": Link(None, None)}))
                    store = stack.enter_context(object_store(machines)) if engine == "store" else None
                    runs.append(measure(setting, engine, store, machines))
                print(
                    f"{setting.name:32} {engine:6} {runs[-1]['wall_s']:7.2f} s, ratio {runs[-1]['ratio']:.3f}",
                    flush=True,
                )
                report["summary"] = summary(cells)
                write_json(path, report)


def summary(cells: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """The median wall time and ratio of each cell."""
    return {
        setting.name: {
            "least_s": round(setting.least_s(), 3),
            **{
                engine: {
                    "wall_s": statistics.median(run["wall_s"] for run in runs),
                    "ratio": round(statistics.median(run["ratio"] for run in runs), 4),
                }
                for engine, runs in cells.get(setting.name, {}).items()
                if runs
            },
        }
        for setting in SETTINGS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results")
    parser.add_argument("--to", type=Path, help="write there")
    options = parser.parse_args()
    path: Path = options.to or destination("exchange", options.keep)
    if path.exists():
        report: dict[str, Any] = json.loads(path.read_text())
    else:
        report = {**report_head(), "links": LINKS, "cells": {}}
    measure_all(report, path, options.only, options.repetitions)
    print(json.dumps(report.get("summary", {}), indent=1))
    print(f"numbers: {path}")


if __name__ == "__main__":
    main()

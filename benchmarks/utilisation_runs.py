"""What the utilisation benchmark runs: an arm over limited links, and the same training with communication off."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

import psutil

from common import write_json
from distrai.runs.archive import Archive
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog, read_log
from exchange_links import Link, Machines
from utilisation_figures import Unsteady, Window, check_steady
from utilisation_network import Job, Place

NETWORK, REFERENCE = (Path(__file__).with_name(f"utilisation_{name}.py") for name in ("network", "reference"))
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""As ``Child.start`` gives a peer."""
BURST_BYTES = 8 << 10
"""What a link lets pass at once after a pause: little beside any payload."""
LEDGER = "ledger"
TAIL = 2000
"""How much of what a failed process wrote is shown."""


def cores() -> list[int]:
    """The processor cores that peers may be pinned to."""
    return sorted(os.sched_getaffinity(0))


class Cpu:
    """Who uses the machine, from when this is made."""

    def __init__(self) -> None:
        self.began, self.busy, self.ours = time.monotonic(), _busy_s(), _own_s()

    def foreign_share(self) -> float:
        """The share of all cores that went to others than this process and the children that it has waited for."""
        foreign = (_busy_s() - self.busy) - (_own_s() - self.ours)
        return max(0.0, foreign) / ((time.monotonic() - self.began) * (psutil.cpu_count() or 1))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _own_s() -> float:
    every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in every)


# Communication off


class References:
    """So many processes that train alone, at the same time, pinned as the peers are; started once and then asked."""

    def __init__(self, recipe: Mapping[str, Any], peers: int) -> None:
        self.recipe, self.peers = recipe, peers
        self.processes: list[subprocess.Popen[str]] = []
        self.params = 0

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="utilisation-")
        path = Path(self.folder.name) / "recipe.json"
        write_json(path, self.recipe)
        for number in range(self.peers):
            process = subprocess.Popen(
                [sys.executable, str(REFERENCE), str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ENVIRONMENT,
                start_new_session=True,  # as peers are: schedulers share cores between sessions
            )
            os.sched_setaffinity(process.pid, {cores()[number % len(cores())]})
            self.processes.append(process)
        ready = [self._heard(process) for process in self.processes]
        self.params = int(ready[0]["params"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.folder.cleanup()

    def train(self, seconds: float) -> list[dict[str, float]]:
        """Have all train for so long, and hear what each did."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
            process.stdin.flush()
        return [self._heard(process) for process in self.processes]

    @staticmethod
    def _heard(process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Unsteady("a process that trains alone ended; what it wrote is above")
        return dict(json.loads(line))


# A run over limited links


class NetworkRun:
    """One run, each peer behind a link of ``mbit`` both ways; the ledger is on a machine of its own, without limit.

    Links are limited from the moment on when all peers take part: corpus and first state pass before that.
    """

    def __init__(self, recipe: Mapping[str, Any], mbit: float, folder: Path) -> None:
        self.recipe, self.mbit, self.folder = recipe, mbit, folder
        self.names = [f"peer-{number}" for number in range(recipe["membership"]["peers"])]
        self.traffic: dict[int, list[Mapping[str, Mapping[str, int]]]] = {}
        """By round: what each peer had passed through its sockets when it applied it."""

    def run(self, limit_s: float) -> list[PeerLog]:
        """Do all rounds; the peers' logs. Raises Unsteady, NoNamespaces."""
        spaces = {LEDGER: Link(None, None)} | dict.fromkeys(self.names, Link(None, None))
        with ExitStack() as stack:
            machines = stack.enter_context(Machines(spaces))
            self._drive(machines, limit_s)
        run = RunFolder(self.folder / "run")
        logs = [read_log(run.peer(number)) for number in range(len(self.names))]
        check_steady(logs, self.recipe["rounds"]["count"])
        return logs

    def _drive(self, machines: Machines, limit_s: float) -> None:
        write_json(self.folder / "job.json", self._job(machines).to_json())
        command = machines.command(LEDGER, sys.executable, str(NETWORK), str(self.folder / "job.json"))
        with (self.folder / "errors.log").open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        timer = Timer(limit_s, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                self._take(json.loads(line), machines)
            if process.wait() != 0:
                why = "was not over in time" if process.returncode < 0 else "ended too early"
                raise Unsteady(f"the run {why}, after round {max(self.traffic, default=0)}: {self._tail()}")
        finally:
            timer.cancel()
            process.kill()
            process.communicate()

    def _job(self, machines: Machines) -> Job:
        places = {
            name: Place(tuple(machines.command(name)), machines.address(name), cores()[number % len(cores())])
            for number, name in enumerate(self.names)
        }
        return Job(self.recipe, str(self.folder / "run"), machines.address(LEDGER), places)

    def _take(self, event: Mapping[str, Any], machines: Machines) -> None:
        match event["event"]:
            case "started":
                for name in self.names:
                    machines.limit(name, Link(self.mbit, self.mbit), BURST_BYTES)
            case "applied":
                self.traffic.setdefault(event["round"], []).append(event["bytes"])
            case "restarting" | "failed":
                raise Unsteady(f"{event.get('from')}: {event.get('why', 'had to be started again')}")

    def _tail(self) -> str:
        paths = [self.folder / "errors.log", *(self.folder / "run").glob("*.log")]
        return "\n".join(path.read_text()[-TAIL:] for path in paths if path.exists())

    def facts(self, window: Window) -> dict[str, Any]:
        """What was sent, by the certified lists and by the sockets. Raises Unsteady if nobody overlapped as asked."""
        lists = Archive(RunFolder(self.folder / "run").archive).lists()
        updates = [update for number, listed in lists if number in window.rounds for update in listed.updates]
        wanted = self.recipe["algorithm"].get("overlap", 0)
        if not updates or {update.tau for update in updates} != {wanted}:
            raise Unsteady(f"not every update of the window has an overlap of {wanted} steps")
        return {
            "payload_bytes": round(sum(update.blob_size for update in updates) / len(updates)),
            "socket_bytes_up": round(self._socket_bytes(window, "up")),
            "socket_bytes_down": round(self._socket_bytes(window, "down")),
        }

    def _socket_bytes(self, window: Window, way: str) -> float:
        """All bytes that a peer passed in a round, on average."""
        first, last = (
            sum(sum(each[way].values()) for each in self.traffic[number])
            for number in (window.after, window.last)
        )
        return (last - first) / len(window.rounds) / len(self.names)


def network_run(
    recipe: Mapping[str, Any], mbit: float, window: Window, limit_s: float
) -> tuple[Sequence[PeerLog], dict[str, Any]]:
    """The logs of a run over limited links, and what it sent. Raises Unsteady, NoNamespaces."""
    with tempfile.TemporaryDirectory(prefix="utilisation-") as folder:
        run, cpu = NetworkRun(recipe, mbit, Path(folder)), Cpu()
        logs = run.run(limit_s)
        return logs, run.facts(window) | {"foreign_cpu_share": round(cpu.foreign_share(), 4)}

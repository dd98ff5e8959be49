"""One attempt of a job: its supervisor started, found again after a crash, and what it wrote when it ended."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distrai.jobs.files import write_json
from distrai.jobs.running.sandbox import Confined
from distrai.jobs.running.store import JobFolder, Limits

SUPERVISOR = "distrai_supervisor.py"
_KILLED = 128


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``reason``: exit, stopped (asked to), timeout, or lost (with what supervised it).

    ``tail``: the last lines that were printed.
    """

    code: int
    reason: str
    seconds: float = 0.0
    tail: list[str] = field(default_factory=list)


@dataclass
class Attempt:
    """An attempt, by its number from 1."""

    job: JobFolder
    number: int
    reaper: threading.Thread | None = None
    """Waits for the supervisor, if it is a child of ours."""

    @property
    def folder(self) -> Path:
        """What is kept of this attempt."""
        return self.job.attempt(self.number)

    def start(self, confined: Confined, environment: Mapping[str, str], limits: Limits, cwd: Path) -> None:
        """Start the supervisor; it holds a lock from here on until it ends, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        plan = {
            "command": confined.command,
            "sandboxed": confined.sandboxed,
            "cwd": str(cwd),
            "log": str(self.job.log),
            "events": str(self.job.raw),
            "stop": str(self.job.stop_file),
            "exit": str(self.folder / "exit.json"),
            "running": str(self.folder / "running.json"),
            **asdict(limits),
        }
        write_json(self.folder / "plan.json", plan)
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # others only look
            with (self.folder / "supervisor.log").open("ab") as errors:
                process = subprocess.Popen(  # noqa: S603  # our own program
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        str(self.job.script / SUPERVISOR),
                        str(self.folder / "plan.json"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=dict(environment),
                    pass_fds=[lock],
                    start_new_session=True,
                )
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(process.pid).encode(), 0)
        finally:
            os.close(lock)
        self.reaper = threading.Thread(target=process.wait, daemon=True)
        self.reaper.start()

    def is_alive(self) -> bool:
        """Whether its supervisor is at work: the kernel drops the lock when it ends."""
        if not self._lock.exists():
            return False
        with self._lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def was_started(self) -> bool:
        """Whether there was such an attempt."""
        return self._lock.exists()

    def ending(self) -> Ending:
        """How it ended, once it is not alive."""
        if self.reaper is not None:
            self.reaper.join()
        clear_left_behind(self.job.out)
        try:
            told: dict[str, Any] = json.loads((self.folder / "exit.json").read_bytes())
            return Ending(int(told["code"]), str(told["reason"]), float(told["seconds"]), list(told["tail"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Ending(-signal.SIGKILL, "lost")

    def end_now(self) -> None:
        """Make it end without saving anything."""
        if self.is_alive():
            with suppress(ValueError, ProcessLookupError, OSError):
                os.kill(int(self._lock.read_text()), signal.SIGTERM)

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Ctrl-C while inside is noted, and interrupts nothing. In a thread it cannot come, and nothing is changed."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def clear_left_behind(out: Path) -> int:
    """End what a script started and left behind, also in sessions of its own; how many processes."""
    import psutil

    ended = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("DISTRAI_OUT") == str(out):
                process.kill()
                ended += 1
    return ended


def why_failed(ending: Ending, limits: Limits) -> str:
    """Why an attempt did not do what it should, in a sentence with what to do."""
    last = next((line.strip() for line in reversed(ending.tail) if line.strip()), "")[:300]
    if ending.reason == "timeout":
        return f"the time limit of {limits.timeout_s:g} s was reached: run it again with a longer --timeout"
    if ending.reason == "lost":
        return "the job was lost with what supervised it (a crash of the machine, or a kill): run it again to go on"
    if ending.code < 0:
        name = signal.Signals(-ending.code).name
        hint = "; the machine may have been short of memory" if -ending.code == signal.SIGKILL else ""
        return f"the script was killed ({name}){hint}: run it again to go on from its last checkpoint"
    return f"the script ended with exit code {ending.code}{': ' if last else ''}{last}{_hint(ending.tail)}"


_HINTS = {
    "ModuleNotFoundError": " (name the package in `dependencies` of the script's header)",
    "No space left on device": " (make room, then run it again)",
    "CUDA out of memory": " (take a smaller batch, a shorter context or 4 bits)",
    "OutOfMemoryError": " (take a smaller batch, a shorter context or 4 bits)",
    "Read-only file system": " (in the sandbox it may only write into $DISTRAI_OUT; --no-sandbox lets it out)",
    "MemoryError": " (give more with --memory, or take a smaller model)",
}


def _hint(tail: list[str]) -> str:
    return next((hint for mark, hint in _HINTS.items() if any(mark in line for line in tail[-3:])), "")

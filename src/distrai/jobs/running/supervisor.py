"""Starts a job's script, watches over it and writes down how it ended: ``python distrai_supervisor.py PLAN.json``.

It is a process of its own, so that training goes on when whoever started it crashes, is closed or loses the connection;
timeout, limits and STOP hold all the same. Nothing but the standard library: it is copied to where the job runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Any

MARK = b"::distrai "
LINE_BYTES_MAX = 64 << 10
LOOK_S = 0.1
KILL_S = 5.0
"""How long a script may take to end after a polite signal."""
DRAIN_S = 1.0
"""How long what it printed is waited for, if a process of its own keeps the pipe open."""
RESERVED_BYTES = 8192
TAIL_LINES = 20
CANNOT_START = 127


class Output:
    """What the script prints: events go to their file, all else to the log, whose size has a bound."""

    def __init__(self, log: Path, events: Path, bytes_max: int) -> None:
        self._log, self._events = log.open("ab", buffering=0), events.open("ab", buffering=0)
        self._left = max(0, bytes_max - log.stat().st_size)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def read(self, pipe: IO[bytes]) -> None:
        """Take lines until nobody writes any more."""
        while line := pipe.readline(LINE_BYTES_MAX):
            if line.startswith(MARK):
                self._write(self._events, line[len(MARK) :].rstrip(b"\r\n") + b"\n")
            else:
                self.keep(line)

    def keep(self, line: bytes) -> None:
        """Write to the log, as long as there is room."""
        if text := line.decode(errors="replace").rstrip().rpartition("\r")[2]:
            self.tail.append(text[:1000])
        if 0 < self._left <= len(line):
            line = b"(the log is full: the rest is left out)\n"
            self._left = len(line)
        if self._left:
            self._left -= len(line)
            self._write(self._log, line)

    @staticmethod
    def _write(file: IO[bytes], data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk: what the script prints is not worth the training
            file.write(data)


class Supervisor:
    """One attempt of a job."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._exit, self._stop = Path(plan["exit"]), Path(plan["stop"])
        self._output = Output(Path(plan["log"]), Path(plan["events"]), plan["log_bytes_max"])
        self._reserve = self._exit.with_name(self._exit.name + ".part")
        self._reserve.write_bytes(
            b" " * RESERVED_BYTES
        )  # so that a full disk cannot keep us from saying how it ended
        self._ended = False
        signal.signal(signal.SIGTERM, self._end_now)

    def run(self) -> int:
        """Start the script and wait for its end; its exit code."""
        began = time.monotonic()
        try:
            child = subprocess.Popen(  # noqa: S603  # to run it is what we are for
                self._plan["command"],
                cwd=self._plan["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._limit,  # no thread is there yet
            )
        except OSError as error:
            self._output.keep(f"cannot start {self._plan['command'][0]}: {error}\n".encode())
            return self._write(CANNOT_START, "exit", began)
        with contextlib.suppress(OSError):
            Path(self._plan["running"]).write_text(json.dumps({"pid": child.pid}))
        assert child.stdout is not None
        reader = threading.Thread(target=self._output.read, args=(child.stdout,), daemon=True)
        reader.start()
        reason = self._wait(child, began)
        _signal_group(child.pid, signal.SIGKILL)  # whatever it left behind
        reader.join(DRAIN_S)
        return self._write(self._code(child.wait()), reason, began)

    def _code(self, code: int) -> int:
        """The script's exit code, or minus the signal that ended it, which a sandbox tells as a shell does."""
        return 128 - code if self._plan["sandboxed"] and 128 < code <= 128 + signal.NSIG else code

    def _wait(self, child: subprocess.Popen[bytes], began: float) -> str:
        """Why it ended: exit, timeout or stopped."""
        timeout, grace = self._plan["timeout_s"], self._plan["grace_s"]
        reason, ends = "exit", began + timeout if timeout else float("inf")
        while child.poll() is None:
            now = time.monotonic()
            if reason == "exit" and (now >= ends or self._stop.exists()):
                reason = "stopped" if self._stop.exists() else "timeout"
                with contextlib.suppress(OSError):  # what the script put there is not followed
                    os.close(
                        os.open(self._stop, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
                    )
                ends = now + grace
            if self._ended or (reason != "exit" and now >= ends):
                _end(child)
                return "stopped" if self._ended else reason
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_S)
        return reason

    def _limit(self) -> None:
        """In the new process: it ends with us, leaves no core files, and takes no more memory than allowed."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG, where there is one
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self._plan["sandboxed"]:  # the sandbox must outlive the polite signal; the script inside hears it
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._plan["memory_bytes"]:
            resource.setrlimit(resource.RLIMIT_AS, (self._plan["memory_bytes"],) * 2)

    def _end_now(self, *_: object) -> None:
        self._ended = True

    def _write(self, code: int, reason: str, began: float) -> int:
        tail, seconds = list(self._output.tail), round(time.monotonic() - began, 3)
        while True:
            told = json.dumps({"code": code, "reason": reason, "seconds": seconds, "tail": tail}).encode()
            if len(told) <= RESERVED_BYTES:
                break
            tail = tail[1:]
        with self._reserve.open("r+b") as file:
            file.write(told)  # blanks follow, which JSON does not mind
            file.flush()
            os.fsync(file.fileno())
        self._reserve.replace(self._exit)
        return code


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the script and its own processes to end, then make them."""
    _signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(KILL_S)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    code = Supervisor(json.loads(Path(sys.argv[1]).read_bytes())).run()
    sys.exit(code if code >= 0 else 128 - code)
